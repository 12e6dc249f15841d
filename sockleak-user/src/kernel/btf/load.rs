//! The one place where BTF is read from a file.

use std::io::ErrorKind;
use std::path::Path;

use super::{Btf, BtfError};

/// Where the running kernel shows its own BTF (CONFIG_DEBUG_INFO_BTF).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Distribution kernels have 5 to 7 MB.
const MAX_BYTES: u64 = 256 << 20;

impl Btf<'static> {
    /// Reads BTF from a file, normally [`VMLINUX`].
    ///
    /// # Errors
    /// [`BtfError::NotBuilt`] when the file does not exist, [`BtfError::Read`] when it cannot be
    /// read, else as [`Btf::parse`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, BtfError> {
        let path = path.as_ref();
        let read = |cause: String| BtfError::Read {
            path: path.to_owned(),
            cause,
        };
        let bytes = std::fs::metadata(path)
            .and_then(|meta| match meta.len() {
                0..=MAX_BYTES => std::fs::read(path),
                _ => Err(ErrorKind::FileTooLarge.into()),
            })
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => BtfError::NotBuilt {
                    path: path.to_owned(),
                },
                _ => read(error.to_string()),
            })?;
        Self::from_vec(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_names_the_kernel_option() {
        let error = Btf::load("/nonexistent/vmlinux").unwrap_err();
        assert!(matches!(error, BtfError::NotBuilt { .. }), "{error:?}");
        assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"));
    }

    #[test]
    fn an_unreadable_file_names_itself() {
        let error = Btf::load("/proc").unwrap_err();
        assert!(error.to_string().contains("/proc"), "{error}");
    }
}
