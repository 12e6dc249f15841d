//! Commands of sockleak in blocks that are not run: at least they have to be accepted.

use clap::Parser as _;
use sockleak::cli::args::Cli;

/// Parses every command of sockleak in a line of shell.
///
/// # Errors
/// What sockleak says of the first one that it does not accept.
pub fn check(line: &str) -> Result<(), String> {
    let line = line.split(" #").next().unwrap_or(line).replace("\\\n", " ");
    for command in line.split(['|', ';', '&', '(', ')', '`']) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let begins = words
            .iter()
            .position(|word| *word == "sockleak" || word.ends_with("/sockleak"));
        let Some(begin) = begins else { continue };
        // Only where it is the command: behind sudo and what belongs to it.
        let before = words.get(..begin).unwrap_or_default();
        let is_command = before
            .iter()
            .all(|word| matches!(*word, "sudo" | "-E" | "exec" | "if" | "!" | "ssh" | "host"));
        if !is_command {
            continue;
        }
        let arguments = words
            .iter()
            .skip(begin)
            .take_while(|word| !word.starts_with(['>', '<']));
        let arguments = arguments.map(|word| word.trim_matches(['\'', '"']).to_owned());
        let typed: Vec<String> = arguments.filter(|word| !word.starts_with("2>")).collect();
        if let Err(error) = Cli::try_parse_from(&typed)
            && error.use_stderr()
        {
            return Err(format!("`{}`: {error}", typed.join(" ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn commands_are_parsed_wherever_they_are() {
        for line in [
            "sudo sockleak watch -d 10s --json > x.jsonl   # ten seconds",
            "sudo sockleak snapshot --json | jq .",
            "target/release/sockleak --version",
            "sudo install sockleak /usr/local/bin",
            "echo sockleak wach",
        ] {
            assert_eq!(check(line), Ok(()), "{line}");
        }
        for line in [
            "sudo sockleak wach",
            "sockleak watch --jsn",
            "ls | sockleak report",
            "true; sudo sockleak diagnose --exit-cod",
        ] {
            assert!(check(line).is_err(), "{line}");
        }
    }
}
