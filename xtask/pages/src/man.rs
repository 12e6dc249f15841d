//! Man pages: options and commands as clap knows them, examples and exit status as `--help` has
//! them, and prose from `man/`.

use anyhow::{Context as _, Result};
use clap::Command;
use clap_mangen::Man;

use clap::CommandFactory as _;
use sockleak::cli::args::Cli;

/// A page of section 1.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its file.
    pub file: String,
    /// It, for man(7).
    pub text: Vec<u8>,
}

/// Pages by name, with what is said besides the options.
macro_rules! prose {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../man/", $name, ".man")))),*]
    };
}

const PROSE: [(&str, &str); 9] = prose!(
    "sockleak",
    "sockleak-watch",
    "sockleak-diagnose",
    "sockleak-snapshot",
    "sockleak-ports",
    "sockleak-report",
    "sockleak-run",
    "sockleak-probes",
    "sockleak-demo"
);

/// The line of the prose where options come, if not at its end.
const OPTIONS: &str = ".\\\" After the options.\n";

/// Sections that `--help` prints behind the options, and where else they may come from.
const EXAMPLES: &str = "Examples:";
const STATUS: &str = "Exit status:";

/// All pages. `date` is that of their last change, as `2026-11-21`.
///
/// # Errors
/// When a command has no prose, or prose has no command.
pub fn manual(date: &str) -> Result<Vec<Page>> {
    let mut cli = Cli::command();
    cli.build();
    let mut pages = vec![page(&cli, cli.get_name(), &cli, date)?];
    for sub in commands(&cli) {
        pages.push(page(sub, &page_name(sub, &cli), &cli, date)?);
    }
    anyhow::ensure!(pages.len() == PROSE.len(), "prose without a command");
    Ok(pages)
}

fn commands(cli: &Command) -> impl Iterator<Item = &Command> {
    cli.get_subcommands().filter(|sub| sub.get_name() != "help")
}

fn page_name(sub: &Command, cli: &Command) -> String {
    format!("{}-{}", cli.get_name(), sub.get_name())
}

fn page(command: &Command, name: &str, cli: &Command, date: &str) -> Result<Page> {
    let prose = PROSE.iter().find(|(page, _)| *page == name);
    let (_, prose) = prose.with_context(|| format!("man/{name}.man is missing"))?;
    let (before, after) = prose.split_once(OPTIONS).unwrap_or((prose, ""));
    let version = format!("sockleak {}", cli.get_version().unwrap_or_default());
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    let about = about.trim_end_matches('.');
    let mut text = format!(
        ".TH {} 1 \"{}\" \"{}\" \"User Commands\"\n.nh\n.ad l\n.SH NAME\n{} \\- {}\n",
        escaped(&name.to_uppercase()),
        date,
        escaped(&version),
        escaped(name),
        escaped(&lower_first(about)),
    );
    text.push_str(&synopsis(command, cli));
    text.push_str(before);
    let is_main = name == cli.get_name();
    if is_main {
        text.push_str(".SH COMMANDS\n");
        for sub in commands(cli) {
            let about = sub.get_about().map(ToString::to_string);
            text.push_str(&format!(
                ".TP\n.BR {} (1)\n{}.\n",
                escaped(&page_name(sub, cli)),
                escaped(&about.unwrap_or_default())
            ));
        }
    }
    let mut options = Vec::new();
    Man::new(command.clone()).render_options_section(&mut options)?;
    text.push_str(&one_section(&String::from_utf8(options)?));
    text.push_str(after);
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    if let Some(status) = section(&help, STATUS) {
        text.push_str(&verbatim("EXIT STATUS", status));
    } else if !text.contains(".SH EXIT STATUS") {
        text.push_str(".SH EXIT STATUS\nAs of\n.BR sockleak (1).\n");
    }
    let examples = section(&help, EXAMPLES).with_context(|| format!("{name} has no examples"))?;
    text.push_str(&verbatim("EXAMPLES", examples));
    text.push_str(&see_also(name, cli));
    Ok(Page {
        file: format!("{name}.1"),
        text: text.into_bytes(),
    })
}

fn synopsis(command: &Command, cli: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let name = match command.get_name() == cli.get_name() {
        true => cli.get_name().to_owned(),
        false => format!("{} {}", cli.get_name(), command.get_name()),
    };
    let rest = usage.strip_prefix(&name).unwrap_or(usage);
    format!(
        ".SH SYNOPSIS\n.B {}\n{}\n",
        escaped(&name),
        escaped(rest.trim())
    )
}

/// The lines of a section of `--help`, up to the next empty line that another title follows.
fn section<'a>(help: &'a str, title: &str) -> Option<&'a str> {
    let (_, rest) = help.split_once(title)?;
    let end = rest.match_indices("\n\n").find(|(at, _)| {
        rest.get(at + 2..)
            .and_then(|next| next.chars().next())
            .is_some_and(|first| !first.is_whitespace())
    });
    let text = end.map_or(rest, |(at, _)| rest.get(..at).unwrap_or(rest));
    Some(text.trim_matches('\n'))
}

/// As it stands, in columns, and as far to the left as in `--help`: the lines are made for 80 columns.
fn verbatim(title: &str, text: &str) -> String {
    let indent = text
        .lines()
        .map(|line| line.len() - line.trim_start().len());
    let indent = indent.min().unwrap_or(0);
    let lines: Vec<_> = text
        .lines()
        .map(|line| escaped(line.get(indent..).unwrap_or_default()))
        .collect();
    format!(".SH {title}\n.nf\n.in 2n\n{}\n.in\n.fi\n", lines.join("\n"))
}

fn see_also(name: &str, cli: &Command) -> String {
    let mut pages = vec!["sockleak".to_owned()];
    pages.extend(commands(cli).map(|sub| page_name(sub, cli)));
    pages.retain(|page| page != name);
    let mut entries: Vec<_> = (pages.iter())
        .map(|page| format!(".BR {} (1)", escaped(page)))
        .collect();
    entries.extend([".BR ss (8)".to_owned(), ".BR tcp (7)".to_owned()]);
    format!(".SH SEE ALSO\n{}\n", entries.join(" ,\n"))
}

/// clap_mangen begins a section as if it were a page, and makes one of every heading below it.
fn one_section(options: &str) -> String {
    let from = options.find(".SH").unwrap_or(0);
    let (first, rest) = options.split_at(from + ".SH".len().min(options.len()));
    let first = first.get(from..).unwrap_or_default();
    format!("{first}{}", rest.replace("\n.SH ", "\n.SS "))
}

/// Text that roff prints as it is.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.chars().next() {
        Some('.' | '\'') => format!("\\&{text}"),
        _ => text,
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| {
        first.to_lowercase().chain(chars).collect()
    })
}
