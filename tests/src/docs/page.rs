//! One page: what its blocks ask for, whether they say what came out, and the page as it should be.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::block::{self, Block};
use super::marker::Marker;
use super::normal::{normal, paragraphs};

/// A page with its blocks.
#[derive(Debug)]
pub struct Page {
    /// Relative to the repository.
    pub path: PathBuf,
    text: String,
    /// Bound blocks.
    pub bound: Vec<Bound>,
}

/// A block and how it is run.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Page and line, for messages.
    pub name: String,
    /// How it is run.
    pub marker: Marker,
    /// Commands, each with the lines that it shows (none for blocks of commands only).
    pub commands: Vec<Command>,
    /// Whether output is compared.
    pub shows: bool,
    at: Range<usize>,
}

/// A command in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Without the prompt.
    pub text: String,
    /// What the block says it prints.
    pub lines: Vec<String>,
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// A block without a comment, or with one that is not understood; with page and line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let name = |line: usize| format!("{}:{line}", path.display());
        let blocks = block::blocks(text).map_err(|error| format!("{}: {error}", path.display()))?;
        let bound = blocks.into_iter().map(|block| {
            let name = name(block.at.start);
            bind(&block, name.clone()).map_err(|error| format!("{name}: {error}"))
        });
        Ok(Self {
            path: path.to_path_buf(),
            text: text.to_owned(),
            bound: bound.collect::<Result<_, _>>()?,
        })
    }

    /// The page with other lines in some of its blocks, given by their places in [`Self::bound`].
    pub fn with(&self, changed: &[(usize, Vec<String>)]) -> String {
        let mut lines: Vec<&str> = self.text.lines().collect();
        let mut changed: Vec<_> = changed.iter().collect();
        changed.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, new) in changed {
            if let Some(bound) = self.bound.get(*index) {
                lines.splice(bound.at.clone(), new.iter().map(String::as_str));
            }
        }
        lines.join("\n") + "\n"
    }
}

fn bind(block: &Block, name: String) -> Result<Bound, String> {
    let text = block.marker.as_deref().ok_or(
        "no comment `<!-- docs ... -->` says how this block is run (see CONTRIBUTING, \"Documentation\")",
    )?;
    let marker = Marker::parse(text)?;
    let shows = block.language == "console";
    let commands = match (block.language.as_str(), &marker.not_run) {
        ("console", _) => console(&block.lines)?,
        ("sh", _) => script(&block.lines),
        (_, Some(_)) => Vec::new(),
        (other, None) => {
            return Err(format!(
                "a block of {other:?} cannot be run: `not-run` needs to say why"
            ));
        }
    };
    Ok(Bound {
        name,
        marker,
        commands,
        shows,
        at: block.at.clone(),
    })
}

/// `$ command`, what it prints, and so on.
fn console(lines: &[String]) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(text), _) => commands.push(Command {
                text: text.to_owned(),
                lines: Vec::new(),
            }),
            (None, Some(last)) if last.text.ends_with('\\') && last.lines.is_empty() => {
                last.text = format!("{}\n{line}", last.text);
            }
            (None, Some(last)) => last.lines.push(line.clone()),
            (None, None) => return Err("it does not start with `$ command`".to_owned()),
        }
    }
    match commands.is_empty() {
        true => Err("there is no command in it".to_owned()),
        false => Ok(commands),
    }
}

/// Commands only; what continues a line stays with it.
fn script(lines: &[String]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for line in lines
        .iter()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
    {
        match commands.last_mut() {
            Some(last) if last.text.ends_with('\\') => last.text = format!("{}\n{line}", last.text),
            _ => commands.push(Command {
                text: line.clone(),
                lines: Vec::new(),
            }),
        }
    }
    commands
}

impl Bound {
    /// What the block would show of this output of one of its commands.
    ///
    /// # Errors
    /// A part to show that is not in the output.
    pub fn shown(&self, output: &str) -> Result<Vec<String>, String> {
        match &self.marker.show {
            Some(show) => show.cut(output),
            None => Ok(output
                .trim_end()
                .lines()
                .map(|line| line.trim_end().to_owned())
                .collect()),
        }
    }

    /// Whether the block says of a command what it prints.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, command: &Command, output: &str) -> Result<(), String> {
        let shown = self.shown(output)?;
        let documented = self.compared(&command.lines);
        let printed = self.compared(&shown);
        let longest = documented.len().max(printed.len());
        for at in 0..longest {
            let (one, other) = (documented.get(at), printed.get(at));
            if one.map(|pair| &pair.1) != other.map(|pair| &pair.1) {
                let text = |pair: Option<&(String, String)>| {
                    pair.map_or_else(|| "(nothing more)".to_owned(), |(raw, _)| raw.clone())
                };
                return Err(format!(
                    "documented: {}\n  printed:    {}",
                    text(one),
                    text(other)
                ));
            }
        }
        Ok(())
    }

    /// Paragraphs as printed and as compared.
    fn compared(&self, lines: &[String]) -> Vec<(String, String)> {
        let all = paragraphs(lines.iter().map(String::as_str));
        let pairs = all.iter().map(|one| {
            let mut text = normal(one, &self.marker.exact);
            for maybe in &self.marker.maybe {
                text = text.replace(maybe, " ");
            }
            let words: Vec<&str> = text.split_whitespace().collect();
            (one.text(), words.join(" "))
        });
        pairs.filter(|(_, text)| !text.is_empty()).collect()
    }

    /// The lines of the block with these outputs of its commands.
    ///
    /// # Errors
    /// As [`Self::shown`].
    pub fn rewritten(&self, outputs: &[String]) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        for (command, output) in self.commands.iter().zip(outputs) {
            lines.extend(format!("$ {}", command.text).lines().map(str::to_owned));
            lines.extend(self.shown(output)?);
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Result<Page, String> {
        Page::parse(Path::new("x.md"), text)
    }

    const PAGE: &str = "# X\n\n<!-- docs\nshow: LEAK .. fix | total\nmaybe: note of today | , at {t} to the end\nexact: 12,001\n-->\n```console\n$ sockleak demo x\nLEAK  app[1]  12,001 sockets CLOSED, never closed\n      pace    +1/min, oldest 1 s\n      after   connect() was refused (ECONNREFUSED), to 127.0.0.1:2280\n      fix     close() the socket on every path\n[...]\ntotal     in 1 m 2 s: created 5\n```\nafter\n";

    const PRINTED: &str = "LEAK  app[22]  12,001 sockets CLOSED, never closed\n      pace    +1,999/min, oldest 1.5 h\n      after   connect() was refused (ECONNREFUSED), to\n              127.0.0.1:2280\n      note    of today\n      fix     close() the socket on every path\n\nPID\n 1\n\ntotal     in 9 s: created 1,234\n";

    fn compare(printed: &str) -> Result<(), String> {
        let page = page(PAGE).expect("a page");
        page.bound[0].compare(&page.bound[0].commands[0], printed)
    }

    #[test]
    fn the_same_output_of_another_run_passes() {
        assert_eq!(compare(PRINTED), Ok(()));
    }

    #[test]
    fn what_is_there_sometimes_may_be_missing() {
        assert_eq!(
            compare(&PRINTED.replace("      note    of today\n", "")),
            Ok(())
        );
        assert_eq!(
            compare(&PRINTED.replace("every path", "every path, at 5 s to the end")),
            Ok(())
        );
        assert!(compare(&PRINTED.replace("of today", "of yesterday")).is_err());
    }

    #[test]
    fn every_change_that_matters_fails() {
        let mutations = [
            ("pace ", "speed"),
            ("after ", "later "),
            ("ECONNREFUSED", "ETIMEDOUT"),
            ("2280", "2281"),
            ("12,001", "12,002"),
            ("CLOSED", "OPEN"),
            ("created", "made"),
            ("never closed", "closed"),
            ("      pace    +1,999/min, oldest 1.5 h\n", ""),
            ("      fix ", "      new     here\n      fix "),
            ("fix     close()", "fix     shutdown()"),
            ("total", "sum"),
            ("LEAK", "FAIL"),
            ("+1,999/min", "unknown"),
            ("oldest 1.5 h", "oldest 1.5 KiB"),
        ];
        for (from, to) in mutations {
            let changed = PRINTED.replacen(from, to, 1);
            assert_ne!(changed, PRINTED);
            assert!(
                compare(&changed).is_err(),
                "{from:?} became {to:?} unnoticed"
            );
        }
    }

    #[test]
    fn every_changed_line_of_the_page_fails_as_well() {
        let page = page(PAGE).expect("a page");
        let command = &page.bound[0].commands[0];
        for at in 0..command.lines.len() {
            let mut without = command.clone();
            without.lines.remove(at);
            assert!(
                page.bound[0].compare(&without, PRINTED).is_err(),
                "line {at} was left out"
            );
            let mut renamed = command.clone();
            renamed.lines[at].push_str(" x");
            assert!(
                page.bound[0].compare(&renamed, PRINTED).is_err(),
                "line {at} has one word more"
            );
        }
    }

    #[test]
    fn what_is_rewritten_passes_and_leaves_the_rest_alone() {
        let before = page(PAGE).expect("a page");
        let lines = before.bound[0]
            .rewritten(&[PRINTED.to_owned()])
            .expect("lines");
        let text = before.with(&[(0, lines)]);
        assert!(
            text.starts_with("# X\n\n<!-- docs\n") && text.ends_with("```\nafter\n"),
            "{text}"
        );
        assert!(
            text.contains("oldest 1.5 h") && !text.contains("oldest 1 s"),
            "{text}"
        );
        let after = page(&text).expect("a page");
        assert_eq!(
            after.bound[0].compare(&after.bound[0].commands[0], PRINTED),
            Ok(())
        );
    }

    #[test]
    fn a_block_that_nothing_binds_is_refused() {
        for text in [
            "```sh\nls\n```\n",
            "```text\nx\n```\n",
            "<!-- docs run: this -->\n```text\nx\n```\n",
            "<!-- docs run: this -->\n```console\nx\n```\n",
            "<!-- docs rum: this -->\n```sh\nx\n```\n",
        ] {
            assert!(page(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn commands_keep_what_continues_them() {
        let text = "<!-- docs run: this -->\n```console\n$ a \\\n    b\nc\n$ d\n```\n<!-- docs run: this -->\n```sh\n# comment\na \\\n  b\nc   # d\n```\n";
        let page = page(text).expect("a page");
        let texts: Vec<Vec<&str>> = (page.bound.iter())
            .map(|bound| bound.commands.iter().map(|one| one.text.as_str()).collect())
            .collect();
        assert_eq!(
            texts,
            [vec!["a \\\n    b", "d"], vec!["a \\\n  b", "c   # d"]]
        );
    }
}
