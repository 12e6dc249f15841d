//! The guest's root file system: init, the command, the files it needs.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cmd::{self, note},
    cpio::Archive,
    kernel::{self, Kernel},
};

/// Modules every guest loads if its kernel has them as modules: what a request for socket diagnosis or a
/// network namespace would load on a real system.
const MODULES: [&str; 6] = [
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "mptcp_diag",
    "veth",
];

/// Everything that goes into the guest.
#[derive(Debug, Clone)]
pub struct Content {
    /// Static init.
    pub init: PathBuf,
    /// Program and arguments, as the guest sees them.
    pub command: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Host path and guest path.
    pub files: Vec<(PathBuf, String)>,
    /// The same for programs that bring their loader and libraries: nothing is added for them.
    pub complete: Vec<(PathBuf, String)>,
    /// More modules; one that is missing is an error.
    pub modules: Vec<String>,
}

impl Content {
    /// The uncompressed archive for this kernel.
    pub fn archive(&self, kernel: &Kernel) -> Result<Vec<u8>> {
        let mut archive = Archive::new();
        for dir in [
            "/dev", "/proc", "/sys", "/tmp", "/run", "/root", "/etc", "/var", "/mnt",
        ] {
            archive.directory(dir)?;
        }
        // The kernel opens /dev/console for init before init can mount anything.
        archive.character_device("/dev/console", 0o600, 5, 1)?;
        archive.file(
            "/etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        )?;
        archive.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
        archive.file(
            "/etc/hosts",
            0o644,
            b"127.0.0.1 localhost guest\n::1 localhost\n",
        )?;
        archive.file("/cmd", 0o644, &nul_separated(&self.command)?)?;
        archive.file("/env", 0o644, &nul_separated(&self.env)?)?;
        add_file(&mut archive, &self.init, "/init")?;
        self.add_modules(&mut archive, kernel)?;
        for (host, guest) in &self.files {
            add_tree(&mut archive, host, guest)?;
        }
        for (host, guest) in &self.complete {
            add_plain_file(&mut archive, host, guest)?;
        }
        archive.finish()
    }

    fn add_modules(&self, archive: &mut Archive, kernel: &Kernel) -> Result<()> {
        let wanted: Vec<&str> = MODULES
            .into_iter()
            .chain(self.modules.iter().map(String::as_str))
            .collect();
        let (modules, missing) = kernel::load_order(&kernel.modules, &wanted)?;
        let builtin =
            fs::read_to_string(kernel.modules.join("modules.builtin")).unwrap_or_default();
        for name in missing {
            let is_builtin = builtin.lines().any(|line| {
                line.rsplit('/')
                    .next()
                    .is_some_and(|file| file.replace('-', "_") == format!("{name}.ko"))
            });
            if !is_builtin
                && self
                    .modules
                    .iter()
                    .any(|asked| asked.replace('-', "_") == name)
            {
                bail!("kernel {} has no module {name}", kernel.release);
            }
        }
        let mut list = String::new();
        for module in modules {
            let path = format!("/lib/modules/{}.ko", module.name);
            archive.file(&path, 0o644, &module.content)?;
            list.push_str(&path);
            list.push('\n');
        }
        archive.file("/modules", 0o644, list.as_bytes())
    }
}

fn nul_separated(words: &[String]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in words {
        if word.contains('\0') {
            bail!("an argument of a guest cannot hold a NUL byte");
        }
        bytes.extend_from_slice(word.as_bytes());
        bytes.push(0);
    }
    Ok(bytes)
}

fn add_tree(archive: &mut Archive, host: &Path, guest: &str) -> Result<()> {
    if !host.is_dir() {
        return add_file(archive, host, guest);
    }
    archive.directory(guest)?;
    let mut entries: Vec<_> = fs::read_dir(host)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name
            .to_str()
            .with_context(|| format!("a file name in {} is not UTF-8", host.display()))?;
        add_tree(archive, &entry.path(), &format!("{guest}/{name}"))?;
    }
    Ok(())
}

/// Adds a file and, if it is a dynamic program, the libraries the host would load for it.
fn add_file(archive: &mut Archive, host: &Path, guest: &str) -> Result<()> {
    let content = add_plain_file(archive, host, guest)?;
    if has_interpreter(&content) {
        for library in libraries(host)? {
            if !archive.contains(&library) {
                let content =
                    fs::read(&library).with_context(|| format!("could not read {library}"))?;
                archive.file(&library, 0o755, &content)?;
            }
        }
    }
    Ok(())
}

/// Adds a file as it is; its content.
fn add_plain_file(archive: &mut Archive, host: &Path, guest: &str) -> Result<Vec<u8>> {
    let content = fs::read(host)
        .with_context(|| format!("could not read {} for the guest", host.display()))?;
    let mode = fs::metadata(host)?.permissions().mode();
    archive.file(guest, mode, &content)?;
    Ok(content)
}

fn has_interpreter(content: &[u8]) -> bool {
    use object::read::elf::{ElfFile64, ProgramHeader as _};
    let Ok(file) = ElfFile64::<object::Endianness>::parse(content) else {
        return false;
    };
    let endian = file.endian();
    file.elf_program_headers()
        .iter()
        .any(|header| header.p_type(endian) == object::elf::PT_INTERP)
}

fn libraries(program: &Path) -> Result<Vec<String>> {
    let text = cmd::output(Command::new("ldd").arg(program)).with_context(|| {
        format!(
            "could not list the libraries of {}; link it statically",
            program.display()
        )
    })?;
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        note(format!("{}: {}", program.display(), line.trim()));
    }
    Ok(parse_ldd(&text))
}

/// Absolute paths in what `ldd` prints: `name => /path (address)` or `/path (address)`.
pub fn parse_ldd(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let place = line.split_once("=>").map_or(line, |(_, place)| place);
            let path = place.split_whitespace().next()?;
            path.starts_with('/').then(|| path.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibgone.so => not found\n";
        assert_eq!(
            parse_ldd(text),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }

    #[test]
    fn this_very_test_is_a_dynamic_program() {
        let content = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(has_interpreter(&content));
        assert!(!has_interpreter(b"#!/bin/sh\n"));
    }
}
