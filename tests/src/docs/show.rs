//! Which lines of an output a block shows.
//!
//! `A .. B | C | D ..`: from the line that starts with A to the one that starts with B, then the one that starts
//! with C, then from D to the next empty line; `*` is anything. A line has with it what continues it. Where lines are left out
//! the block says [`CUT`].

use super::normal::{Paragraph, paragraphs};

/// Stands where lines are left out.
pub const CUT: &str = "[...]";

/// Parts of an output, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Show(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    from: String,
    to: To,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum To {
    /// This line only.
    Itself,
    /// All lines to the next empty one.
    Gap,
    /// All lines to the one that starts so, and that.
    Line(String),
}

impl Show {
    /// Reads `A .. B | C`.
    ///
    /// # Errors
    /// An empty part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split('|').map(|part| {
            let (from, to) = match part.split_once("..") {
                None => (part, To::Itself),
                Some((from, to)) if to.trim().is_empty() => (from, To::Gap),
                Some((from, to)) => (from, To::Line(words(to))),
            };
            match words(from) {
                from if from.is_empty() => Err(format!("{text:?} has an empty part")),
                from => Ok(Part { from, to }),
            }
        });
        parts.collect::<Result<_, _>>().map(Self)
    }

    /// The lines of `output` to show.
    ///
    /// # Errors
    /// A part that is not in the output.
    pub fn cut(&self, output: &str) -> Result<Vec<String>, String> {
        let all = paragraphs(output.lines());
        let mut shown = Vec::new();
        let mut next = 0;
        for part in &self.0 {
            let from = find(&all, next, &part.from)?;
            let end = match &part.to {
                To::Itself => from + 1,
                To::Line(to) => find(&all, from, to)? + 1,
                To::Gap => (all.iter().enumerate().skip(from + 1))
                    .find(|(_, paragraph)| paragraph.after_gap)
                    .map_or(all.len(), |(at, _)| at),
            };
            let skipped = all.get(next..from).unwrap_or_default();
            if !skipped.is_empty() {
                shown.push(CUT.to_owned());
            }
            let mut gap = skipped.iter().skip(1).any(|paragraph| paragraph.after_gap);
            for paragraph in all.get(from..end).unwrap_or_default() {
                if (gap || paragraph.after_gap) && !shown.is_empty() {
                    shown.push(String::new());
                }
                gap = false;
                shown.extend(paragraph.lines.iter().cloned());
            }
            next = end;
        }
        if next < all.len() {
            shown.push(CUT.to_owned());
        }
        Ok(shown)
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text starts so; `*` is anything.
fn begins(text: &str, start: &str) -> bool {
    let mut parts = start.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    parts.all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

fn find(all: &[Paragraph], after: usize, start: &str) -> Result<usize, String> {
    (all.iter().enumerate().skip(after))
        .find(|(_, paragraph)| begins(&paragraph.text(), start))
        .map(|(at, _)| at)
        .ok_or_else(|| {
            let before = after.checked_sub(1).and_then(|at| all.get(at));
            let place = before.map_or_else(String::new, |one| format!(" behind {:?}", one.text()));
            format!("no line of the output starts with {start:?}{place}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "intro\n\nLEAK a\n      pace 1\n      why  x\n              y\n      fix  z\n\nPID  COMM\n  1  a\n\ntotal 5\n";

    fn cut(show: &str) -> Result<Vec<String>, String> {
        Show::parse(show)?.cut(OUTPUT)
    }

    #[test]
    fn parts_are_taken_in_order_and_what_is_left_out_is_marked() {
        assert_eq!(
            cut("LEAK .. pace | fix").expect("there"),
            [
                "[...]",
                "",
                "LEAK a",
                "      pace 1",
                "[...]",
                "      fix  z",
                "[...]"
            ]
        );
        assert_eq!(
            cut("LEAK | why").expect("there"),
            [
                "[...]",
                "",
                "LEAK a",
                "[...]",
                "      why  x",
                "              y",
                "[...]"
            ]
        );
        assert_eq!(
            cut("PID COMM ..").expect("there"),
            ["[...]", "", "PID  COMM", "  1  a", "[...]"]
        );
        assert_eq!(
            cut("intro .. total").expect("there"),
            OUTPUT.lines().collect::<Vec<_>>()
        );
        assert_eq!(
            cut("fix | total").expect("there"),
            ["[...]", "", "      fix  z", "[...]", "", "total 5"]
        );
    }

    #[test]
    fn a_star_is_anything() {
        for (start, is_so) in [
            ("LEAK", true),
            ("LEAK*x", true),
            ("LEAK*y*x", false),
            ("*b", true),
            ("K", false),
        ] {
            assert_eq!(begins("LEAK app b x y", start), is_so, "{start}");
        }
    }

    #[test]
    fn a_part_that_is_not_there_is_an_error() {
        for show in ["LEAC", "fix | LEAK", "LEAK .. intro", "PID .. nothing"] {
            assert!(cut(show).is_err(), "{show}");
        }
        assert!(Show::parse("a | | b").is_err() && Show::parse(".. b").is_err());
    }
}
