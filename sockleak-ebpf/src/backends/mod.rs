//! Thin entry points, one file per attach type.

mod fentry;
mod follow;
mod iter;
mod kprobe;
mod syscalls;
mod tracepoint;
