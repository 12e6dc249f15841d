//! Thin entry points, one file per attach type.

mod fentry;
mod iter;
mod kprobe;
mod syscalls;
mod tracepoint;
