//! Names for stacks whose process is gone: frames are build ids and offsets in files
//! ([`crate::model::CodeFrame`]), and the files are known because somebody ran them.
//!
//! [`files`] keeps every executable and library open that a command's processes were seen with,
//! so that also one that is removed in between can be read. [`names`] maps them here and has
//! [`super::symbols`] name the addresses, as if this were the process. [`guess`] puts in the callers
//! that have no frame pointer.

mod elf;
mod files;
mod guess;
mod names;

pub use files::Files;
pub use names::Names;
