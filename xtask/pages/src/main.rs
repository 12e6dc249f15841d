//! `pages DIR`: writes the man pages and shell completions below DIR, where packages have them.

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use sockleak_pages::{COMPLETIONS, command, completion, manual};

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let (Some(dir), date, None) = (arguments.next(), arguments.next(), arguments.next()) else {
        bail!("usage: pages DIR [DATE]");
    };
    let date = date.map_or(String::new(), |date| date.to_string_lossy().into_owned());
    let dir = Path::new(&dir);
    for page in manual(&date)? {
        put(&dir.join("man/man1").join(page.file), &page.text)?;
    }
    for shell in COMPLETIONS {
        put(&dir.join(shell.path), &completion(&mut command(), shell)?)?;
    }
    Ok(())
}

fn put(path: &Path, text: &[u8]) -> Result<()> {
    let parent = path.parent().context("a path with a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
