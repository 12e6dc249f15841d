//! What can be wrong with BTF, or with a question put to it.

use std::path::PathBuf;

/// Why BTF could not be read, or why it has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The kernel was built without BTF.
    #[error(
        "{path} does not exist: this kernel was built without CONFIG_DEBUG_INFO_BTF=y, so the \
         offsets of its structs are unknown"
    )]
    NotBuilt {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("cannot read the kernel's BTF from {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        cause: String,
    },
    /// The bytes end before what they announce.
    #[error("BTF is cut short: {what} at byte {at} does not fit")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Byte offset from the start of the data.
        at: usize,
    },
    /// Not BTF.
    #[error("this is not BTF: it starts with {found:#06x}, not 0xeb9f")]
    BadMagic {
        /// The first two bytes, little-endian.
        found: u16,
    },
    /// BTF of a machine with the other byte order.
    #[error("this BTF is big-endian; sockleak reads the BTF of little-endian kernels only")]
    WrongEndian,
    /// A format version that does not exist yet.
    #[error("BTF version {found} is unknown; this reader knows version 1")]
    BadVersion {
        /// The version in the header.
        found: u8,
    },
    /// A kind whose length is unknown, so that nothing after it can be found.
    #[error(
        "BTF type {id} is of the unknown kind {kind} and the data does not say how long it is; a \
         newer sockleak is needed for this kernel"
    )]
    UnknownKind {
        /// Type id.
        id: u32,
        /// Kind number.
        kind: u8,
    },
    /// A reference to a type that does not exist.
    #[error("BTF is damaged: there is no type {id}")]
    BadType {
        /// Type id.
        id: u32,
    },
    /// A name that lies outside the string section or does not end.
    #[error("BTF is damaged: there is no string at {offset}")]
    BadString {
        /// Offset in the string section.
        offset: u32,
    },
    /// References nest deeper than any compiler writes, or in a circle.
    #[error("BTF is damaged: type {id} refers to itself or nests too deep")]
    TooDeep {
        /// Type id at which the walk gave up.
        id: u32,
    },
    /// An offset or size that does not fit 32 bits or leaves its struct.
    #[error("BTF is damaged: the size or an offset in type {id} is out of range")]
    OutOfRange {
        /// Type id.
        id: u32,
    },
    /// A type whose size is unknown (void, function, forward declaration).
    #[error("BTF type {id} has no size")]
    Unsized {
        /// Type id.
        id: u32,
    },
    /// This kernel has no such struct, union or typedef.
    #[error("this kernel has no struct or union {name}")]
    NoSuchType {
        /// The name asked for.
        name: String,
    },
    /// The struct has no such member on this kernel.
    #[error("{type_name} has no member {element} on this kernel (looking for {type_name}.{path})")]
    NoSuchMember {
        /// Struct or union where the walk began.
        type_name: String,
        /// The whole path.
        path: String,
        /// The element that is missing.
        element: String,
    },
    /// A path that goes on after a pointer or a number.
    #[error("{type_name}.{path}: cannot look for {element} inside a {found}")]
    NotAggregate {
        /// Struct or union where the walk began.
        type_name: String,
        /// The whole path.
        path: String,
        /// The element that was to be looked up.
        element: String,
        /// What is there instead of a struct.
        found: String,
    },
    /// Two different types share the name and would give different answers.
    #[error(
        "{type_name}.{path} is ambiguous: this kernel has several types of that name, which place \
         it differently"
    )]
    Ambiguous {
        /// The name.
        type_name: String,
        /// The whole path.
        path: String,
    },
    /// An empty path or path element.
    #[error("{path:?} is not a member path")]
    BadPath {
        /// What was given.
        path: String,
    },
}
