//! Fenced blocks of a page, with the comment that binds them.

use std::ops::Range;

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Language after the fence: `console`, `sh`, `text`, ...
    pub language: String,
    /// Text of the comment `<!-- docs ... -->` before it; `None` without one.
    pub marker: Option<String>,
    /// Its lines.
    pub lines: Vec<String>,
    /// Where these lines are in the page, as indices of lines.
    pub at: Range<usize>,
}

const OPEN: &str = "<!-- docs";
const CLOSE: &str = "-->";

/// All fenced blocks of a page. Indented ones, too: the indentation is taken off.
///
/// # Errors
/// A fence or a comment that is not closed, or a comment that no block follows, with its line.
pub fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let lines: Vec<&str> = page.lines().collect();
    let mut found = Vec::new();
    let mut marker: Option<(usize, String)> = None;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let trimmed = line.trim_start();
        if trimmed.starts_with(OPEN) {
            let (text, end) = comment(&lines, at)?;
            if let Some((before, _)) = marker.replace((at, text)) {
                return Err(format!(
                    "line {}: no block follows this comment",
                    before + 1
                ));
            }
            at = end;
        } else if let Some(language) = trimmed.strip_prefix("```") {
            let indentation = line.len() - trimmed.len();
            let fence: String = trimmed.chars().take_while(|c| *c == '`').collect();
            let begin = at + 1;
            let length = (lines.get(begin..).unwrap_or_default().iter())
                .position(|line| line.trim() == fence)
                .ok_or_else(|| format!("line {}: this fence is not closed", at + 1))?;
            let body = lines.get(begin..begin + length).unwrap_or_default();
            found.push(Block {
                language: language.trim_matches('`').trim().to_owned(),
                marker: marker.take().map(|(_, text)| text),
                lines: (body.iter())
                    .map(|line| line.get(indentation..).unwrap_or_default().to_owned())
                    .collect(),
                at: begin..begin + length,
            });
            at = begin + length;
        } else if let Some((before, _)) = &marker
            && !trimmed.is_empty()
        {
            return Err(format!(
                "line {}: no block follows this comment",
                before + 1
            ));
        }
        at += 1;
    }
    match marker {
        Some((before, _)) => Err(format!(
            "line {}: no block follows this comment",
            before + 1
        )),
        None => Ok(found),
    }
}

/// The text of a comment and its last line.
fn comment(lines: &[&str], begin: usize) -> Result<(String, usize), String> {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate().skip(begin) {
        let line = match at == begin {
            true => line.trim_start().strip_prefix(OPEN).unwrap_or(line),
            false => line,
        };
        if let Some((last, _)) = line.split_once(CLOSE) {
            text.push_str(last);
            return Ok((text, at));
        }
        text.push_str(line);
        text.push('\n');
    }
    Err(format!("line {}: this comment is not closed", begin + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_language_its_comment_and_its_place() {
        let page = "# A\n\n<!-- docs\nwhile: x\n-->\n\n```console\n$ a\nb\n```\n\n- in a list:\n  ```sh\n  c\n    d\n  ```\n";
        let found = blocks(page).expect("blocks");
        let [first, second] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(first.language, "console");
        assert_eq!(first.marker.as_deref().map(str::trim), Some("while: x"));
        assert_eq!(
            (&first.lines[..], first.at.clone()),
            (&["$ a".to_owned(), "b".to_owned()][..], 7..9)
        );
        assert_eq!(
            (second.marker.as_deref(), &second.lines[..]),
            (None, &["c".to_owned(), "  d".to_owned()][..])
        );
    }

    #[test]
    fn what_binds_nothing_or_does_not_end_is_refused() {
        for page in [
            "<!-- docs not-run: x -->\nprose\n```\n```\n",
            "<!-- docs not-run: x -->\n",
            "<!-- docs not-run: x",
            "```sh\na\n",
            "<!-- docs a: b -->\n<!-- docs a: b -->\n```\n```\n",
        ] {
            assert!(blocks(page).is_err(), "{page:?}");
        }
        assert_eq!(blocks("<!-- any other comment -->\nprose"), Ok(Vec::new()));
    }
}
