//! Log statements of the kernel side, through aya-log.
//!
//! Without the cargo feature `log`, and so in the committed object, they compile to nothing. With
//! it each one adds hundreds of instructions to every program it is inlined into, even at a level
//! that is switched off: they belong where a hook rarely comes (first sight of a process, a map
//! that refuses an entry), never on the path of every socket.

/// Logs at debug level: a format string and integers, evaluated without side effects.
///
/// No address of a kernel object, not even as `u64`: aya-log copies its arguments byte by byte,
/// and the verifier lets no program take apart what it knows to be a pointer.
#[cfg(feature = "log")]
macro_rules! bpf_debug {
    ($format:literal $(, $argument:expr)* $(,)?) => {
        // aya-log asks for a context and does not use it.
        ::aya_log_ebpf::debug!((), $format $(, $argument)*)
    };
}

#[cfg(not(feature = "log"))]
macro_rules! bpf_debug {
    ($format:literal $(, $argument:expr)* $(,)?) => {
        { $(let _ = &$argument;)* }
    };
}

pub(crate) use bpf_debug;
