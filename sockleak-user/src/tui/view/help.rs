//! The keys.

use super::super::app::{App, keys};
use crate::render::page::{Line, Style};

/// Column at which the explanations begin.
const COLUMN: usize = 20;

/// One line for each group of keys, and what the marks mean.
pub fn lines(_app: &App) -> Vec<Line> {
    let mut lines = vec![vec![(Style::Strong, "Keys".to_owned())]];
    let bindings = keys::BINDINGS.iter();
    for binding in bindings.filter(|binding| !binding.label.is_empty()) {
        let label = format!("  {:COLUMN$}", binding.label);
        lines.push(vec![
            (Style::Strong, label),
            (Style::Normal, binding.help.to_owned()),
        ]);
    }
    lines.push(Line::new());
    lines.push(vec![(Style::Strong, "Marks".to_owned())]);
    for (mark, meaning) in [
        ("<1.2ms", "an upper bound"),
        (">3m", "a lower bound"),
        ("-", "not known, or does not apply"),
        (
            "1ST 2ND",
            "the halves of the range: connect() tries even distances from",
        ),
        ("", "its first port before odd ones"),
        ("NOW", "in the last interval; TOTAL is since the start"),
    ] {
        lines.push(vec![
            (Style::Strong, format!("  {mark:COLUMN$}")),
            (Style::Normal, meaning.to_owned()),
        ]);
    }
    lines
}
