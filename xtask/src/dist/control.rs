//! What dpkg wants to know. dpkg-deb is called directly: cargo-deb takes minutes to build for the one
//! file that is written here.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Writes `DEBIAN` into a stage that is complete otherwise.
pub fn write(stage: &Path, version: &str) -> Result<()> {
    let dir = stage.join("DEBIAN");
    let mut files = Vec::new();
    list(stage, stage, &mut files)?;
    files.sort();
    fs::create_dir_all(&dir)?;
    let mut size = 0_u64;
    for path in &files {
        let length = fs::metadata(stage.join(path))?.len();
        // Debian Policy 5.6.20: each file rounded up to KiB.
        size += length.div_ceil(1024);
    }
    fs::write(dir.join("control"), control(version, size))
        .with_context(|| format!("writing {}", dir.join("control").display()))?;
    Ok(())
}

fn list(base: &Path, dir: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            list(base, &path, files)?;
        } else {
            files.push(path.strip_prefix(base)?.to_owned());
        }
    }
    Ok(())
}

/// No dependencies: the program is static and starts no other one.
fn control(version: &str, kib: u64) -> String {
    format!(
        "Package: sockleak\n\
         Version: {version}\n\
         Architecture: amd64\n\
         Maintainer: The sockleak authors <sockleak@localhost>\n\
         Installed-Size: {kib}\n\
         Section: net\n\
         Priority: optional\n\
         Homepage: {}\n\
         Description: find who leaks TCP sockets or runs out of local ports\n \
         Says which process holds TCP sockets that it will never use again and from\n \
         which code path, who gets EADDRNOTAVAIL or EADDRINUSE and why, and who burns\n \
         CPU time in the search for ports. Reads the kernel by eBPF, with the hooks\n \
         that it offers (5.10 and later), or /proc without; changes nothing.\n",
        env!("CARGO_PKG_REPOSITORY")
    )
}
