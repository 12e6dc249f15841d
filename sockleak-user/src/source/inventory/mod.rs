//! Finds the TCP sockets that processes hold right now, whoever made them and whenever.

pub mod bpf;
pub mod procfs;
