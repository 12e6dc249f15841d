//! Brings bytes and facts out of the running system: no accounting, no verdicts.

mod claims;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod inventory;
mod kept;
pub mod kernel_maps;
pub mod limits;
pub mod netns;
pub mod orphans;
pub mod pasts;
pub mod pid_dir;
pub mod recording;
pub mod ring;
pub mod run_maps;
mod slots;
pub mod sock_diag;
pub mod sockstat;
