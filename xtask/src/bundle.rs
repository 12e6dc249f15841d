//! Programs from Debian packages that run from the cache with their own libraries, whatever this machine
//! has installed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{apt::Suites, cache, cmd, initramfs::parse_ldd};

/// An unpacked package with everything it depends on.
#[derive(Debug, Clone)]
pub struct Bundle {
    root: PathBuf,
}

impl Bundle {
    /// `package` from the cache, or from the first of `sources` that has it. A source is the suite to take
    /// it from, followed by the suites its dependencies may come from.
    pub fn provide(package: &str, sources: &[&[&str]]) -> Result<Self> {
        let root = cache::provide(package, |into| {
            let mut problems = Vec::new();
            for suites in sources {
                let Some(preferred) = suites.first() else {
                    continue;
                };
                let fetched = Suites::open(suites)
                    .and_then(|view| view.unpack_with_dependencies(package, preferred, into));
                match fetched {
                    Ok(()) => return Ok(()),
                    Err(error) => problems.push(format!("{preferred}: {error:#}")),
                }
            }
            bail!("could not fetch {package}: {}", problems.join("; "))
        })?;
        Ok(Self { root })
    }

    /// Where it was unpacked.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A program of the bundle under the bundle's own dynamic loader.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.loader()?;
        command.arg(self.root.join(program));
        Ok(command)
    }

    /// The dynamic loader with the bundle's libraries; the program and its arguments are to be added.
    fn loader(&self) -> Result<Command> {
        // Packages before and after the merge of /lib into /usr/lib.
        let loader = [
            "lib64",
            "usr/lib64",
            "lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu",
        ]
        .iter()
        .map(|dir| self.root.join(dir).join("ld-linux-x86-64.so.2"))
        .find(|path| path.exists())
        .with_context(|| format!("{} holds no dynamic loader", self.root.display()))?;
        let libraries =
            ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|dir| self.root.join(dir));
        let mut command = Command::new(loader);
        command
            .arg("--library-path")
            .arg(std::env::join_paths(libraries)?)
            .env_remove("LD_LIBRARY_PATH");
        Ok(command)
    }

    /// Where `name` is installed.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        ["usr/sbin", "usr/bin", "sbin", "bin"]
            .iter()
            .map(|dir| self.root.join(dir).join(name))
            .find(|path| path.exists())
            .with_context(|| format!("{} holds no program {name}", self.root.display()))
    }

    /// The dynamic loader of the bundle and the libraries that it would load for `program`.
    pub fn libraries(&self, program: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
        let mut command = self.loader()?;
        let loader = PathBuf::from(command.get_program());
        let text = cmd::output(command.arg("--list").arg(program))?;
        let libraries = parse_ldd(&text)
            .into_iter()
            .map(PathBuf::from)
            .filter(|path| *path != loader)
            .collect();
        Ok((loader, libraries))
    }

    /// A directory for `$PATH` in which `program` can be called by its plain name.
    pub fn path_entry(&self, program: &str) -> Result<PathBuf> {
        let command = self.command(program)?;
        let name = Path::new(program)
            .file_name()
            .context("a program has a name")?;
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let dir = self.root.join("wrapped");
        fs::create_dir_all(&dir)?;
        let wrapper = dir.join(name);
        fs::write(
            &wrapper,
            format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")),
        )?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        Ok(dir)
    }
}
