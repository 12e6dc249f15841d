//! Brings bytes and facts out of the running system: no accounting, no verdicts.

pub mod inventory;
pub mod kernel_maps;
pub mod ring;
