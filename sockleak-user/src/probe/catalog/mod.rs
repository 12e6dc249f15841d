//! The logical hooks, and for each the ways to serve it, best first.
//!
//! To add a hook: a function in `sockleak-ebpf/src/hooks`, an entry point per backend, its
//! program names, and its variants here (CONTRIBUTING has the steps).

mod follow;
mod life;
mod parts;
mod ports;

use std::fmt;

/// A logical hook: something worth knowing, whoever tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// A TCP socket ceases to exist.
    Destroy,
    /// A TCP socket is created.
    Alloc,
    /// A connection is born from a listener.
    Accept,
    /// A born connection is handed to a process.
    AcceptOwner,
    /// The last descriptor of a socket is closed.
    Release,
    /// A connection, or an attempt at one, dies of an error.
    Ending,
    /// connect() looks for a local port, or finds none.
    Connect,
    /// bind() or listen() asks for a port.
    Bind,
    /// Every TCP socket that any descriptor refers to.
    Inventory,
    /// Connections that live on after they were closed.
    Orphans,
    /// The processes of one command; only for `run`.
    Follow,
}

impl Hook {
    /// All hooks that are attached whatever the subcommand, in the order in which they are attached: a creation recorded before its
    /// destruction can be seen would leave a stale record.
    pub const ALL: [Self; 10] = [
        Self::Destroy,
        Self::Alloc,
        Self::Accept,
        Self::AcceptOwner,
        Self::Release,
        Self::Ending,
        Self::Connect,
        Self::Bind,
        Self::Inventory,
        Self::Orphans,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Alloc => "alloc",
            Self::Accept => "accept",
            Self::AcceptOwner => "accept_owner",
            Self::Release => "release",
            Self::Ending => "ending",
            Self::Connect => "connect",
            Self::Bind => "bind",
            Self::Inventory => "inventory",
            Self::Orphans => "orphans",
            Self::Follow => "follow",
        }
    }

    /// What it gives.
    pub fn gives(self) -> &'static str {
        match self {
            Self::Destroy => "every TCP socket that ceases to exist",
            Self::Alloc => "every TCP socket created, with its process",
            Self::Accept => "every connection born from a listener",
            Self::AcceptOwner => "which process accepts a connection",
            Self::Release => "when the last descriptor of a socket is closed (--events, run)",
            Self::Orphans => "whose connections live on after they were closed",
            Self::Ending => "what had happened to a socket before it was forgotten",
            Self::Connect => "every port search of connect() and why it failed",
            Self::Bind => "every port that bind() or listen() asks for, and why not",
            Self::Inventory => "every TCP socket behind a descriptor, also older ones",
            Self::Follow => "the processes that a command starts",
        }
    }
}

/// A way to be called by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// BPF trampolines (fentry, fexit).
    Fentry,
    /// kprobes and kretprobes.
    Kprobe,
    /// Typed raw tracepoints and cgroup socket hooks.
    Tracepoint,
    /// A BPF iterator; belongs to every backend.
    Iterator,
}

impl Backend {
    /// Name in flags and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
            Self::Iterator => "iterator",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A parameter type that may be anything: the program does not use it, or reads it by helper.
pub const ANY: &str = "_";

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// fentry on a kernel function with these parameter types.
    Fentry(&'static str, &'static [&'static str]),
    /// fexit on a kernel function with these parameter types.
    Fexit(&'static str, &'static [&'static str]),
    /// kprobe on a kernel function.
    Kprobe(&'static str),
    /// kretprobe on a kernel function.
    Kretprobe(&'static str),
    /// Typed raw tracepoint with these parameter types.
    TpBtf(&'static str, &'static [&'static str]),
    /// Tracepoint event, by category and name; needs tracefs.
    Event(&'static str, &'static str),
    /// cgroup/sock_create at the root of the cgroup2 hierarchy.
    CgroupCreate,
    /// cgroup/sock_release at the root of the cgroup2 hierarchy.
    CgroupRelease,
    /// iter/task_file through `bpf_sock_from_file`.
    IterFiles,
    /// iter/task_file through the address of `socket_file_ops`.
    IterFilesByOperations,
    /// iter/tcp
    IterTcp,
}

/// One program of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Program name in the object.
    pub program: &'static str,
    /// What it is attached to.
    pub target: Target,
    /// The function may be missing because its protocol is not built in.
    pub optional: bool,
}

/// One way to serve a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The hook it serves.
    pub hook: Hook,
    /// Through what.
    pub backend: Backend,
    /// All of these must be attached.
    pub attachments: &'static [Attachment],
    /// Offsets it cannot do without.
    pub fields: &'static [&'static [&'static str]],
    /// What it cannot see.
    pub limits: Option<&'static str>,
}

/// Why a hook that has no variant for a backend has none.
pub fn absence(hook: Hook, backend: Backend) -> Option<&'static str> {
    match (hook, backend) {
        (Hook::AcceptOwner, Backend::Tracepoint) => Some(
            "no tracepoint or cgroup hook sees accept() with its socket; the inventory shows who \
             holds accepted connections",
        ),
        _ => None,
    }
}

/// Every variant of every hook.
pub fn all() -> impl Iterator<Item = &'static Variant> {
    life::VARIANTS
        .iter()
        .chain(ports::VARIANTS)
        .chain(follow::VARIANTS)
}

/// The variants of a hook, best first.
pub fn variants(hook: Hook) -> impl Iterator<Item = &'static Variant> {
    all().filter(move |variant| variant.hook == hook)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_a_variant_and_every_field_is_in_the_table() {
        for hook in Hook::ALL.into_iter().chain([Hook::Follow]) {
            assert!(variants(hook).next().is_some(), "{hook:?} has no variant");
        }
        for variant in all() {
            for field in variant.fields.iter().copied().flatten() {
                assert!(
                    sockleak_ebpf::FIELDS
                        .iter()
                        .any(|spec| spec.global == *field),
                    "{field} is not in the field table"
                );
            }
        }
    }
}
