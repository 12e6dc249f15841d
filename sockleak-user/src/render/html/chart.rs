//! Lines over time, drawn so that they fit any width: the curves stretch, the labels do not.

use super::super::units::count;
use super::Html;

/// Width and height of the drawing area in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;
/// Rows of the table of figures.
const ROWS: usize = 13;

/// A curve.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    /// What it is.
    pub name: String,
    /// A value at each point in time; `None` where it is not known.
    pub values: Vec<Option<u64>>,
}

/// A chart: curves over the same points in time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart<'a> {
    /// Identifies it in the page.
    pub id: &'a str,
    /// What it shows.
    pub title: &'a str,
    /// How to read it.
    pub note: &'a str,
    /// Time of each point, seconds.
    pub at_s: &'a [f64],
    /// Its label.
    pub labels: &'a [&'a str],
    /// The curves.
    pub series: Vec<Series>,
    /// Colour of the first curve; the first of all is for what belongs to no process.
    pub color: usize,
    /// Draw columns, not lines: for what happened between two points.
    pub columns: bool,
}

impl Chart<'_> {
    pub(super) fn put(&self, page: &mut Html) {
        let highest = self.series.iter().flat_map(|one| &one.values).flatten();
        let top = ceiling(highest.copied().max().unwrap_or(0));
        page.raw("<figure>\n<figcaption>");
        page.element("h3", self.title);
        page.element("p class=\"faint\"", self.note);
        page.raw("</figcaption>\n");
        self.put_legend(page);
        page.raw("<div class=\"plot\"><div class=\"y\" aria-hidden=\"true\">");
        for part in [4, 3, 2, 1, 0] {
            page.element("span", &count(top / 4 * part));
        }
        page.raw("</div>\n");
        self.put_drawing(page, top);
        page.raw("<div class=\"x\" aria-hidden=\"true\">");
        for at in self.ticks() {
            page.element("span", self.labels.get(at).copied().unwrap_or_default());
        }
        page.raw("</div></div>\n");
        self.put_table(page);
        page.raw("</figure>\n");
    }

    /// Names with the last value of each: what a reader looks for first.
    fn put_legend(&self, page: &mut Html) {
        page.raw("<ul class=\"legend\">");
        for (n, one) in (self.color..).zip(&self.series) {
            page.raw(&format!(
                "<li><svg class=\"key s{n}\" width=\"26\" height=\"10\" aria-hidden=\"true\">\
                 <line x1=\"0\" y1=\"5\" x2=\"26\" y2=\"5\"/></svg>"
            ));
            page.text(&one.name);
            let last = one.values.iter().rev().flatten().next();
            if let Some(last) = last.filter(|_| !self.columns) {
                page.raw(" ");
                page.element("b", &count(*last));
            }
            page.raw("</li>");
        }
        page.raw("</ul>\n");
    }

    fn put_drawing(&self, page: &mut Html, top: u64) {
        page.raw("<svg role=\"img\" aria-label=\"");
        page.text(&self.in_words());
        page.raw(&format!(
            "\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\">"
        ));
        for part in 0..=4 {
            let y = HEIGHT / 4.0 * f64::from(part);
            page.raw(&format!(
                "<line class=\"grid\" x1=\"0\" y1=\"{y}\" x2=\"{WIDTH}\" y2=\"{y}\"/>"
            ));
        }
        for (n, one) in (self.color..).zip(&self.series) {
            page.raw(&if self.columns {
                self.column_path(n, one, top)
            } else {
                self.line_path(n, one, top)
            });
        }
        page.raw("</svg>\n");
    }

    fn line_path(&self, n: usize, one: &Series, top: u64) -> String {
        let mut path = String::new();
        let mut pen_is_down = false;
        for (at, value) in one.values.iter().enumerate() {
            let Some(value) = value else {
                pen_is_down = false;
                continue;
            };
            let (x, y) = (self.x(at), y(*value, top));
            let command = if pen_is_down { 'L' } else { 'M' };
            path.push_str(&format!("{command}{x:.1} {y:.1}"));
            if !pen_is_down {
                // A point alone is visible, too.
                path.push_str("h0.1");
            }
            pen_is_down = true;
        }
        format!("<path class=\"line s{n}\" d=\"{path}\"/>")
    }

    fn column_path(&self, n: usize, one: &Series, top: u64) -> String {
        let mut path = String::new();
        let width = (WIDTH / one.values.len().max(1) as f64).max(1.5) * 0.8;
        for (at, value) in one.values.iter().enumerate() {
            let Some(value) = value.filter(|value| *value > 0) else {
                continue;
            };
            let y = y(value, top);
            // The column of the last point must not stand out of the drawing.
            let x = self.x(at) / WIDTH * (WIDTH - width);
            path.push_str(&format!("M{x:.1} {HEIGHT}V{y:.1}h{width:.1}V{HEIGHT}z"));
        }
        format!("<path class=\"column s{n}\" d=\"{path}\"/>")
    }

    fn x(&self, at: usize) -> f64 {
        let first = self.at_s.first().copied().unwrap_or(0.0);
        let last = self.at_s.last().copied().unwrap_or(0.0);
        let now = self.at_s.get(at).copied().unwrap_or(last);
        if last > first {
            (now - first) / (last - first) * WIDTH
        } else {
            WIDTH / 2.0
        }
    }

    /// Beginning, middle and end.
    fn ticks(&self) -> Vec<usize> {
        let last = self.labels.len().saturating_sub(1);
        let mut ticks = vec![0, last / 2, last];
        ticks.dedup();
        ticks
    }

    fn in_words(&self) -> String {
        let each: Vec<_> = self
            .series
            .iter()
            .filter_map(|one| {
                let mut known = one.values.iter().flatten().copied();
                let first = known.next()?;
                let last = known.next_back().unwrap_or(first);
                let most = one.values.iter().flatten().copied().max()?;
                Some(format!(
                    "{} from {} to {}, at most {}",
                    one.name,
                    count(first),
                    count(last),
                    count(most)
                ))
            })
            .collect();
        format!("{}: {}", self.title, each.join("; "))
    }

    /// The same as text, for those who cannot see it or want the figures.
    fn put_table(&self, page: &mut Html) {
        page.raw("<details><summary>Figures</summary><div class=\"scroll\"><table class=\"n\"><thead><tr><th scope=\"col\">time (UTC)</th>");
        for one in &self.series {
            page.element("th scope=\"col\"", &one.name);
        }
        page.raw("</tr></thead><tbody>\n");
        let points = self.labels.len();
        let rows = points.min(ROWS);
        for row in 0..rows {
            let at = match rows {
                0 | 1 => 0,
                _ => row * (points - 1) / (rows - 1),
            };
            page.raw("<tr>");
            let label = self.labels.get(at).copied().unwrap_or_default();
            page.element("th scope=\"row\"", label);
            for one in &self.series {
                let value = one.values.get(at).copied().flatten();
                page.element("td", &value.map_or("?".to_owned(), count));
            }
            page.raw("</tr>\n");
        }
        page.raw("</tbody></table></div></details>\n");
    }
}

fn y(value: u64, top: u64) -> f64 {
    HEIGHT - value as f64 / top.max(1) as f64 * HEIGHT
}

/// The next 1, 2, 4 or 8 times a power of ten, which has four whole quarters.
fn ceiling(value: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [4, 8, 12, 20] {
            let top = power.saturating_mul(step);
            if top >= value {
                return top;
            }
        }
        match power.checked_mul(10) {
            Some(next) => power = next,
            None => return u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_has_round_quarters_and_room_for_every_value() {
        for (value, top) in [
            (0, 4),
            (4, 4),
            (5, 8),
            (9, 12),
            (13, 20),
            (21, 40),
            (18_891, 20_000),
            (41_019, 80_000),
        ] {
            assert_eq!(ceiling(value), top, "{value}");
            assert_eq!(top % 4, 0);
        }
        assert_eq!(ceiling(u64::MAX), u64::MAX);
    }

    #[test]
    fn unknown_values_interrupt_a_line() {
        let chart = Chart {
            id: "x",
            title: "X",
            note: "",
            at_s: &[0.0, 1.0, 2.0, 4.0],
            labels: &["a", "b", "c", "d"],
            series: vec![],
            color: 0,
            columns: false,
        };
        let one = Series {
            name: "n".to_owned(),
            values: vec![Some(0), Some(4), None, Some(2)],
        };
        assert_eq!(
            chart.line_path(3, &one, 4),
            "<path class=\"line s3\" d=\"M0.0 240.0h0.1L250.0 0.0M1000.0 120.0h0.1\"/>"
        );
    }
}
