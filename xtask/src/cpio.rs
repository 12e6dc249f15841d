//! Writes the "newc" cpio format that the kernel unpacks as its first root file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, bail};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// An archive in the making; paths are absolute, as the guest will see them.
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    present: BTreeSet<String>,
}

impl Archive {
    /// An archive with nothing in it.
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            inode: 0,
            present: BTreeSet::new(),
        }
    }

    /// Adds a directory and its parents.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// Adds a file with these permission bits.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(path, REGULAR | mode & 0o7777, (0, 0), content)
    }

    /// Adds a character device.
    pub fn character_device(
        &mut self,
        path: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> Result<()> {
        self.entry(path, CHARACTER | mode, (major, minor), &[])
    }

    /// Whether something was added under this path.
    pub fn contains(&self, path: &str) -> bool {
        self.present.contains(path.trim_matches('/'))
    }

    /// The finished archive.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.append("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let name = path.trim_matches('/').to_owned();
        if name.is_empty()
            || name
                .split('/')
                .any(|part| part.is_empty() || part == "." || part == "..")
        {
            bail!("`{path}` is not a plain absolute path of the guest");
        }
        if let Some(parent) = Path::new(&name).parent().and_then(Path::to_str)
            && !parent.is_empty()
            && !self.present.contains(parent)
        {
            self.directory(parent)?;
        }
        if !self.present.insert(name.clone()) {
            if mode & DIRECTORY == DIRECTORY {
                return Ok(());
            }
            bail!("/{name} was put into the guest twice");
        }
        self.append(&name, mode, device, content)
    }

    fn append(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len())
            .with_context(|| format!("/{name} is too large for the cpio format"))?;
        let name_size = u32::try_from(name.len() + 1)?;
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bytes: &[u8]) -> Vec<String> {
        let number = |at: usize| {
            usize::from_str_radix(std::str::from_utf8(&bytes[at..at + 8]).unwrap(), 16).unwrap()
        };
        let (mut at, mut names) = (0, Vec::new());
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (size, name_size) = (number(at + 6 + 6 * 8), number(at + 6 + 11 * 8));
            let name = &bytes[at + 110..at + 110 + name_size - 1];
            names.push(String::from_utf8(name.to_vec()).unwrap());
            at = (at + 110 + name_size).next_multiple_of(4);
            at = (at + size).next_multiple_of(4);
        }
        names
    }

    #[test]
    fn parents_come_first_and_once() {
        let mut archive = Archive::new();
        archive.file("/bin/a", 0o755, b"hello").unwrap();
        archive.file("/bin/b", 0o755, b"").unwrap();
        archive.directory("/bin").unwrap();
        archive.file("/usr/bin/c", 0o755, b"1").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(
            names(&bytes),
            [
                "bin",
                "bin/a",
                "bin/b",
                "usr",
                "usr/bin",
                "usr/bin/c",
                "TRAILER!!!"
            ]
        );
    }

    #[test]
    fn the_same_file_twice_or_a_path_that_climbs_is_refused() {
        let mut archive = Archive::new();
        archive.file("/a", 0o644, b"1").unwrap();
        assert!(archive.file("/a", 0o644, b"2").is_err());
        assert!(archive.file("/../a", 0o644, b"").is_err());
    }
}
