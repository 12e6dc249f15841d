//! The hook of `sockleak run`: the same tracepoints whatever backend serves the others.

use sockleak_ebpf::names::programs;

use super::parts::{PROCESS, on};
use super::{Backend, Hook, Target, Variant};

const FORK: &[&str] = &["struct task_struct *", "struct task_struct *"];
const EXEC: &[&str] = &["struct task_struct *", "pid_t", "struct linux_binprm *"];
const FREE: &[&str] = &["struct task_struct *"];
/// A process, what it runs, and whether it exits.
const PROGRAM: &[&str] = &[
    "TASK_PID",
    "TASK_FLAGS",
    "TASK_MM",
    "MM_START_CODE",
    "MM_END_CODE",
    "MM_EXE_FILE",
    "FILE_INODE",
    "INODE_INO",
    "BINPRM_INTERP",
];

pub(super) const VARIANTS: &[Variant] = &[Variant {
    hook: Hook::Follow,
    backend: Backend::Tracepoint,
    attachments: &[
        on(programs::TP_FREE, Target::TpBtf("sched_process_free", FREE)),
        on(programs::TP_FORK, Target::TpBtf("sched_process_fork", FORK)),
        on(programs::TP_EXEC, Target::TpBtf("sched_process_exec", EXEC)),
    ],
    fields: &[PROCESS, PROGRAM],
    limits: None,
}];
