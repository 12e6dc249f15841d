//! The completions, asked in the shells that they are for.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap_complete::Shell;
use sockleak_pages::{COMPLETIONS, command, completion};

/// A file with the completion of this shell.
fn script(shell: Shell) -> PathBuf {
    let wanted = COMPLETIONS.into_iter().find(|one| one.shell == shell);
    let text = completion(&mut command(), wanted.expect("it has one")).expect("it is made");
    let dir = std::env::temp_dir().join(format!("sockleak-pages-{shell}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("_sockleak");
    fs::write(&path, text).expect("it is ours");
    path
}

/// What a shell prints for a script on its standard input; `None` where there is no such shell.
fn ask(shell: &str, arguments: &[&str], input: &str) -> Option<String> {
    let child = Command::new(shell)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "xterm")
        .spawn();
    let Ok(mut child) = child else {
        let reason = format!("SKIPPED completions: {shell} is not here (apt install {shell})");
        let _ = writeln!(std::io::stderr(), "{reason}");
        return None;
    };
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is typed, and what has to be offered, and what not.
const TYPED: [(&str, &[&str], &[&str]); 5] = [
    ("sockleak d", &["diagnose", "demo"], &["watch"]),
    ("sockleak watch --ba", &["--backend"], &["--older"]),
    ("sockleak watch --backend k", &["kprobe"], &["fentry"]),
    ("sockleak demo ti", &["time-wait"], &["parity"]),
    ("sockleak report --m", &["--mask"], &["--json"]),
];

fn check(shell: &str, offers: impl Fn(&str) -> Option<Vec<String>>) {
    for (typed, wanted, others) in TYPED {
        let Some(offered) = offers(typed) else { return };
        let has = |word: &&&str| offered.iter().any(|offer| offer == **word);
        let missing: Vec<_> = wanted.iter().filter(|word| !has(word)).collect();
        assert!(missing.is_empty(), "{shell} {typed:?}: {offered:?}");
        let wrong: Vec<_> = others.iter().filter(has).collect();
        assert!(wrong.is_empty(), "{shell} {typed:?}: {offered:?}");
    }
}

#[test]
fn bash_offers_what_can_be_typed() {
    let script = script(Shell::Bash);
    check("bash", |typed| {
        let words: Vec<_> = typed.split(' ').collect();
        let input = format!(
            "source {}\nCOMP_WORDS=({typed}); COMP_CWORD={}\n_sockleak sockleak {} {}\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            script.display(),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let said = ask("bash", &["--norc"], &input)?;
        Some(said.lines().map(str::to_owned).collect())
    });
}

#[test]
fn fish_offers_what_can_be_typed() {
    let script = script(Shell::Fish);
    check("fish", |typed| {
        let input = format!("source {}\ncomplete -C '{typed}'\n", script.display());
        let said = ask("fish", &["--no-config"], &input)?;
        let words = said.lines().filter_map(|line| line.split('\t').next());
        Some(words.map(str::to_owned).collect())
    });
}

/// zsh completes on a terminal only: one of its own, where Tab is pressed.
#[test]
fn zsh_offers_what_can_be_typed() {
    let script = script(Shell::Zsh);
    let dir = script.parent().expect("a directory").display().to_string();
    check("zsh", |typed| {
        // What it waits for is not what it types, which is echoed. The list is complete when the line is
        // drawn again below it.
        let input = format!(
            "zmodload zsh/zpty\n\
             zpty it zsh -f -i\n\
             zpty -w it 'PROMPT_EOL_MARK=; fpath=({dir} $fpath); \
             autoload -Uz compinit; compinit -u -D; LISTMAX=1000; \
             zstyle \":completion:*\" list-grouped false; zstyle \":completion:*\" verbose no; \
             bindkey \"^I\" list-choices; PS1=REA\"\"DY:'\n\
             zpty -r -m it line '*READY:*'\n\
             zpty -w -n it $'{typed}\\t'\n\
             zpty -r -m it line '*{typed}*{typed}*'\n\
             print -r -- \"$line\"\n\
             zpty -d it\n"
        );
        ask("zsh", &["--version"], "")?;
        let said = ask("timeout", &["30", "zsh", "-f"], &input)?;
        let said = without_sequences(&said);
        let words = said.split(|c: char| c.is_whitespace() || c.is_control());
        Some(words.map(str::to_owned).collect())
    });
}

/// Without what moves a cursor or changes a colour (ECMA-48 5.4): `ESC [` up to the first letter.
fn without_sequences(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push('\n');
        plain.push_str(
            part.split_once(char::is_alphabetic)
                .map_or("", |(_, rest)| rest),
        );
    }
    plain
}
