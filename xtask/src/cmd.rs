//! Running other programs, with what was run in every message.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// Prints one line about what xtask is doing, on standard error.
pub fn note(message: impl AsRef<str>) {
    eprintln!("xtask: {}", message.as_ref());
}

/// The command as a person would type it (without its environment).
pub fn show(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        if arg.contains(|c: char| c.is_whitespace() || c == '\u{1f}') {
            let _ = write!(line, " '{arg}'");
        } else {
            let _ = write!(line, " {arg}");
        }
    }
    line
}

/// Runs a command with our own standard streams; fails unless it exits with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not start `{}`", show(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", show(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed; fails, with its standard error, unless it exits with 0.
pub fn output(command: &mut Command) -> Result<String> {
    let output = raw_output(command)?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}):\n{}",
            show(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", show(command)))
}

/// Runs a command with no standard input and collects both streams, whatever its exit status.
pub fn raw_output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start `{}`", show(command)))
}

/// Tries something that depends on the network up to three times, waiting in between.
pub fn retry<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut wait = Duration::from_secs(3);
    for left in [2, 1] {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => {
                note(format!(
                    "{what} failed, {left} attempt(s) left, next in {wait:?}: {error:#}"
                ));
                std::thread::sleep(wait);
                wait *= 3;
            }
        }
    }
    attempt().with_context(|| format!("{what} failed three times"))
}

/// The first directory of `$PATH` that holds an executable of this name.
pub fn which(name: impl AsRef<OsStr>) -> Option<std::path::PathBuf> {
    let name = Path::new(name.as_ref());
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_an_error_that_names_it_and_its_stderr() {
        let error = output(Command::new("sh").args(["-c", "echo lost >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("sh -c"), "{text}");
        assert!(text.contains("lost"), "{text}");
    }

    #[test]
    fn retry_stops_at_the_first_success() {
        let mut calls = 0;
        let value = retry("a test", || {
            calls += 1;
            Ok(calls)
        });
        assert_eq!(value.unwrap(), 1);
    }
}
