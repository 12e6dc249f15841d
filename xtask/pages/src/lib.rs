//! Man pages and shell completions, from the definitions of the command line. They are made when a
//! package is made, so that the program itself does not have to carry what makes them.

mod man;

use anyhow::{Context as _, Result};
use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory as _, ValueHint};
use clap_complete::Shell;
use sockleak::cli::args::Cli;
use sockleak::demo;

pub use man::{Page, manual};

/// A shell, and where packages have its completions, below /usr/share.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// The shell.
    pub shell: Shell,
    /// Where its completion belongs.
    pub path: &'static str,
}

/// The shells that have one.
pub const COMPLETIONS: [Completion; 3] = [
    Completion {
        shell: Shell::Bash,
        path: "bash-completion/completions/sockleak",
    },
    Completion {
        shell: Shell::Zsh,
        path: "zsh/vendor-completions/_sockleak",
    },
    Completion {
        shell: Shell::Fish,
        path: "fish/vendor_completions.d/sockleak.fish",
    },
];

/// The command line, with what only shells need to know of it.
pub fn command() -> Command {
    let incidents = demo::SCENARIOS.iter().map(|scenario| scenario.name);
    let incidents = PossibleValuesParser::new(incidents);
    Cli::command()
        .mut_subcommand("demo", |demo| {
            demo.mut_arg("name", |name| name.value_parser(incidents))
        })
        .mut_subcommand("run", |run| {
            run.mut_arg("command", |command| {
                command.value_hint(ValueHint::CommandWithArguments)
            })
        })
}

/// The script for a shell.
///
/// # Errors
/// When it is not UTF-8.
pub fn completion(command: &mut Command, completion: Completion) -> Result<Vec<u8>> {
    let mut script = Vec::new();
    clap_complete::generate(completion.shell, command, "sockleak", &mut script);
    let mut script = String::from_utf8(script)
        .with_context(|| format!("the completion for {}", completion.shell))?;
    if completion.shell == Shell::Fish {
        // Its generator leaves out the values of arguments without a name.
        let incidents: Vec<_> = demo::SCENARIOS.iter().map(|one| one.name).collect();
        script.push_str(&format!(
            "complete -c sockleak -n \"__fish_sockleak_using_subcommand demo\" -f -a \"{}\"\n",
            incidents.join(" ")
        ));
    }
    Ok(script.into_bytes())
}
