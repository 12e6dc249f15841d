//! What the comment before a block says: how it is run, and what of the output is shown.

use super::show::Show;

/// How a block is run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marker {
    /// It is not run, and why not. Commands of sockleak in it are still parsed.
    pub not_run: Option<String>,
    /// The demo that is held meanwhile.
    pub held: Option<String>,
    /// The commands run in the network namespace of that demo, as on the machine of the incident.
    pub inside: bool,
    /// What of the output is shown; all of it without.
    pub show: Option<Show>,
    /// What is printed sometimes, with `{n}` and `{t}` for figures and times; left out of the comparison.
    pub maybe: Vec<String>,
    /// Figures that have to be exactly these.
    pub exact: Vec<String>,
    /// Exit status of the last command.
    pub status: i32,
    /// Where the figures are from, when not from the machine of the tests; such a block is not rewritten.
    pub written: Option<String>,
    /// Programs without which the block cannot be run.
    pub needs: Vec<String>,
}

impl Marker {
    /// Reads the text of a comment: lines of `name: value`.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut marker = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) =
                (line.split_once(':')).ok_or_else(|| format!("{line:?} is not `name: value`"))?;
            let value = value.trim();
            let words = || value.split_whitespace().map(str::to_owned).collect();
            let some = || (!value.is_empty()).then(|| value.to_owned());
            match name.trim() {
                "run" if value == "this" => {}
                "not-run" => marker.not_run = Some(some().ok_or("`not-run` needs a reason")?),
                "while" => marker.held = some(),
                "inside" if value == "yes" => marker.inside = true,
                "show" => marker.show = Some(Show::parse(value)?),
                "maybe" => {
                    marker.maybe = value.split('|').map(|one| one.trim().to_owned()).collect()
                }
                "exact" => marker.exact = words(),
                "status" => {
                    marker.status = value
                        .parse()
                        .map_err(|_| format!("{line:?} is no exit status"))?
                }
                "written" => marker.written = some(),
                "needs" => marker.needs = words(),
                _ => return Err(format!("{line:?} is not known")),
            }
        }
        if marker.inside && marker.held.is_none() {
            return Err("`inside` needs `while`".to_owned());
        }
        Ok(marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read() {
        let marker = Marker::parse(
            "while: bound-leak\ninside: yes\nshow: A .. B\nmaybe: x y | z\nexact: 12,001 4\nstatus: 4\nneeds: jq\nwritten: in a guest\n",
        );
        let marker = marker.expect("understood");
        assert_eq!(
            (marker.held.as_deref(), marker.inside, marker.status),
            (Some("bound-leak"), true, 4)
        );
        assert_eq!(
            (&marker.maybe[..], &marker.exact[..]),
            (
                &["x y".to_owned(), "z".to_owned()][..],
                &["12,001".to_owned(), "4".to_owned()][..]
            )
        );
        assert!(marker.show.is_some() && marker.written.is_some());
        assert_eq!(Marker::parse("run: this"), Ok(Marker::default()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "not-run:",
            "not-run",
            "whle: x",
            "inside: yes",
            "run: that",
            "status: four",
        ] {
            assert!(Marker::parse(text).is_err(), "{text:?}");
        }
    }
}
