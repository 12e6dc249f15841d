//! The documentation against the program: every fenced block of README and `docs/` is run and compared,
//! or says why it cannot be.
//!
//! A block is bound to the way it is run by a comment before it that readers of the page do not see:
//!
//! ````text
//! <!-- docs
//! while: refused-leak
//! show: CRITICAL refused_leak .. what | fix
//! -->
//! ```console
//! $ sudo sockleak diagnose
//! ...
//! ```
//! ````
//!
//! [`block`] finds them, [`marker`] reads the comment, [`stage`] runs the commands, [`show`] cuts the output as
//! the comment says, and [`normal`] compares what is left: figures become placeholders, words do not.

pub mod block;
pub mod fields;
pub mod links;
pub mod marker;
pub mod normal;
pub mod page;
pub mod picture;
pub mod show;
pub mod stage;
pub mod typed;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The repository.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Pages whose blocks are bound: README and everything below `docs/`, sorted, relative to [`root`].
///
/// # Errors
/// When a directory cannot be read.
pub fn pages() -> Result<Vec<PathBuf>> {
    let root = root();
    let mut found = vec![PathBuf::from("README.md")];
    let mut left = vec![root.join("docs")];
    while let Some(dir) = left.pop() {
        let entries =
            std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|ext| ext == "md") {
                found.push(path.strip_prefix(&root)?.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}
