//! Brings bytes and facts out of the running system: no accounting, no verdicts.

pub mod inventory;
<<<<<<< HEAD
pub mod kernel_maps;
pub mod ring;
=======
pub mod limits;
pub mod netns;
pub mod pid_dir;
pub mod sock_diag;
pub mod sockstat;
>>>>>>> db23231 (Read sockstat, limits, sock_diag, network namespaces and processes)
