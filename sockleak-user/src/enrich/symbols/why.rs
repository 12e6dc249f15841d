//! Why an address has no name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why frames of a stack have no name: the reason that says most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The process ended before it was looked at.
    Gone,
    /// The rights do not allow to look at the process.
    Denied(String),
    /// The mappings of the process cannot be read.
    Unreadable(String),
    /// A module could not be opened, or is not the file any more that was mapped.
    NoFile {
        /// Which module.
        module: String,
        /// What the system answered, or what is wrong.
        error: String,
    },
    /// A module has no symbol for the address.
    NoSymbols(String),
    /// Code made at run time, which the process does not describe: what is wrong with its map.
    NoPerfMap(String),
    /// An address that is not mapped: usually the code has no frame pointers.
    NotMapped,
    /// Naming it took too long.
    TimedOut,
    /// Naming it ended the helper process: a file was truncated meanwhile, is broken, or needs
    /// too much memory.
    Crashed(String),
    /// The helper process cannot be started, or will not end.
    NoHelper(String),
}

impl Why {
    /// How much it says: of several reasons the one that ranks highest is given.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::NotMapped => 0,
            Self::NoSymbols(_) => 1,
            Self::NoFile { .. } => 2,
            Self::NoPerfMap(_) => 3,
            Self::Unreadable(_) => 4,
            Self::Denied(_) => 5,
            Self::Gone => 6,
            Self::TimedOut => 7,
            Self::Crashed(_) => 8,
            Self::NoHelper(_) => 9,
        }
    }

    /// Keeps the reason that says more; of equal ones the first, which belongs to the frame
    /// closer to the top.
    pub(super) fn add(known: &mut Option<Self>, why: Self) {
        if known.as_ref().is_none_or(|known| known.rank() < why.rank()) {
            *known = Some(why);
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the process ended before its code could be looked at"),
            Self::Denied(error) => write!(f, "no right to look at the process: {error}"),
            Self::Unreadable(error) => write!(f, "its mappings cannot be read: {error}"),
            Self::NoFile { module, error } => write!(f, "{module} cannot be read: {error}"),
            Self::NoSymbols(module) => write!(f, "no symbols in {module}"),
            Self::NoPerfMap(error) => write!(f, "code made at run time without names: {error}"),
            Self::NotMapped => {
                f.write_str("an address that is not mapped (code without frame pointers?)")
            }
            Self::TimedOut => f.write_str("timed out"),
            Self::Crashed(how) => write!(f, "its files end whoever reads them: {how}"),
            Self::NoHelper(error) => write!(f, "no helper process: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_that_says_most_is_kept() {
        let mut why = None;
        Why::add(&mut why, Why::NotMapped);
        Why::add(&mut why, Why::NoSymbols("a".to_owned()));
        Why::add(&mut why, Why::NoSymbols("b".to_owned()));
        Why::add(&mut why, Why::NotMapped);
        assert_eq!(why, Some(Why::NoSymbols("a".to_owned())));
        assert_eq!(why.unwrap().to_string(), "no symbols in a");
    }
}
