//! The few bpf(2) calls with which the kernel is asked what it accepts.
//!
//! aya's own probes do not cover this: its program probe reports a refused fentry as an error and
//! its helper probe does not do tracing programs.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// `BPF_MAP_CREATE`, `BPF_PROG_LOAD` and `BPF_RAW_TRACEPOINT_OPEN` of `enum bpf_cmd`.
const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;

/// `BPF_MAP_TYPE_RINGBUF`.
const MAP_TYPE_RINGBUF: u32 = 27;

/// `r0 = 0` and `exit`.
const RETURN_0: [u64; 2] = [0xb7, 0x95];
/// `r0 = 1` and `exit`; cgroup programs that return 0 deny.
const RETURN_1: [u64; 2] = [0x1_0000_00b7, 0x95];

/// A kind of program that the kernel may accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// kprobe and kretprobe.
    Kprobe,
    /// Attached to the entry of the function with this BTF id.
    Fentry(u32),
    /// Attached to the tracepoint whose typedef has this BTF id.
    TpBtf(u32),
    /// The iterator whose `bpf_iter_NAME` function has this BTF id.
    Iter(u32),
    /// cgroup/sock_create.
    CgroupSockCreate,
    /// cgroup/sock_release.
    CgroupSockRelease,
}

impl Kind {
    /// `enum bpf_prog_type`, `enum bpf_attach_type` and the BTF id.
    fn numbers(self) -> (u32, u32, u32) {
        const KPROBE: u32 = 2;
        const CGROUP_SOCK: u32 = 9;
        const TRACING: u32 = 26;
        match self {
            Self::Kprobe => (KPROBE, 0, 0),
            Self::CgroupSockCreate => (CGROUP_SOCK, 2, 0),
            Self::CgroupSockRelease => (CGROUP_SOCK, 34, 0),
            Self::TpBtf(id) => (TRACING, 23, id),
            Self::Fentry(id) => (TRACING, 24, id),
            Self::Iter(id) => (TRACING, 28, id),
        }
    }
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads here; the kernel takes what is missing
/// at the end as zero.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    core_relo_cnt: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    pad: u32,
}

/// Loads a program of this kind that does nothing. It is gone when the descriptor is dropped.
pub(super) fn load(kind: Kind) -> Result<OwnedFd, Errno> {
    let insns = match kind {
        Kind::CgroupSockCreate | Kind::CgroupSockRelease => RETURN_1,
        _ => RETURN_0,
    };
    let (prog_type, expected_attach_type, attach_btf_id) = kind.numbers();
    load_program(
        &insns,
        ProgLoad {
            prog_type,
            expected_attach_type,
            attach_btf_id,
            ..ProgLoad::default()
        },
    )
}

/// Loads a program that calls the kernel function `bpf_rdonly_cast`, which has the first BTF id, for a structure
/// with the second one.
pub(super) fn load_cast(function: u32, structure: u32) -> Result<OwnedFd, Errno> {
    const SOCKET_FILTER: u32 = 1;
    let imm = |id: u32| u64::from(id) << 32;
    // `r1 = 0`, `r2 = structure`, the call (its source register says what kind), `r0 = 0`, `exit`.
    let insns = [
        0x1b7,
        imm(structure) | 0x2b7,
        imm(function) | 0x2085,
        0xb7,
        0x95,
    ];
    load_program(
        &insns,
        ProgLoad {
            prog_type: SOCKET_FILTER,
            ..ProgLoad::default()
        },
    )
}

fn load_program(insns: &[u64], kind: ProgLoad) -> Result<OwnedFd, Errno> {
    let mut attr = ProgLoad {
        insn_cnt: u32::try_from(insns.len()).unwrap_or(0),
        insns: insns.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        prog_name: *b"sockleak_probe\0\0",
        ..kind
    };
    // The verifier gives up with EAGAIN when a signal is pending.
    for _ in 0..4 {
        // SAFETY: `ProgLoad` is the `BPF_PROG_LOAD` part of `union bpf_attr`; `insns` and the
        // licence outlive the call and the kernel only reads them.
        match unsafe { bpf(PROG_LOAD, &mut attr) } {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Attaches an fentry or tp_btf program where its BTF id says, until the descriptor is dropped.
pub(super) fn attach_tracing(program: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut attr = RawTracepointOpen {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        ..RawTracepointOpen::default()
    };
    // SAFETY: `RawTracepointOpen` is the `BPF_RAW_TRACEPOINT_OPEN` part of `union bpf_attr`; a
    // null name stands for the program's own attach point.
    unsafe { bpf(RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// Creates a ring buffer of one page.
pub(super) fn create_ringbuf() -> Result<OwnedFd, Errno> {
    let mut attr = MapCreate {
        map_type: MAP_TYPE_RINGBUF,
        max_entries: u32::try_from(rustix::param::page_size()).unwrap_or(4096),
        ..MapCreate::default()
    };
    // SAFETY: `MapCreate` is the `BPF_MAP_CREATE` part of `union bpf_attr` and holds no pointer.
    unsafe { bpf(MAP_CREATE, &mut attr) }
}

/// # Safety
/// `attr` must be what `command` reads, every pointer in it valid for the call, and the command
/// one that returns a new descriptor.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<OwnedFd, Errno> {
    // SAFETY: passed on to the caller.
    match unsafe { bpf_once(command, attr) } {
        // Before 5.11, RLIMIT_MEMLOCK counts BPF memory of the whole user, also what earlier
        // processes have left to be freed.
        // SAFETY: as above.
        Err(Errno::PERM) if lift_memlock() => unsafe { bpf_once(command, attr) },
        done => done,
    }
}

/// Whether RLIMIT_MEMLOCK stood in the way and no longer does.
fn lift_memlock() -> bool {
    let lifted = Rlimit {
        current: None,
        maximum: None,
    };
    getrlimit(Resource::Memlock).current.is_some() && setrlimit(Resource::Memlock, lifted).is_ok()
}

/// # Safety
/// As [`bpf`].
unsafe fn bpf_once<T>(command: libc::c_long, attr: &mut T) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller vouches for `attr`; its size is passed along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    match i32::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this process may ask at all; says so when not.
    fn may_ask(test: &str) -> bool {
        let may = super::super::Privileges::gather().may_trace();
        if !may {
            crate::kernel::skip_aloud(test, "needs CAP_BPF and CAP_PERFMON");
        }
        may
    }

    #[test]
    fn a_function_that_does_not_exist_is_refused() {
        if !may_ask("a_function_that_does_not_exist_is_refused") {
            return;
        }
        assert!(load(Kind::Fentry(0x0fff_ffff)).is_err());
        assert!(load(Kind::TpBtf(0)).is_err());
    }

    #[test]
    fn a_tracepoint_program_loads_attaches_and_leaves() {
        let test = "a_tracepoint_program_loads_attaches_and_leaves";
        if !may_ask(test) {
            return;
        }
        let Ok(btf) = super::super::Btf::load(super::super::btf::VMLINUX) else {
            return crate::kernel::skip_aloud(test, "this kernel has no BTF");
        };
        let Some(point) = btf.tracepoint("tcp_destroy_sock") else {
            return crate::kernel::skip_aloud(test, "this kernel has no tcp_destroy_sock");
        };
        let program = load(Kind::TpBtf(point.id)).unwrap();
        let link = attach_tracing(&program).unwrap();
        drop(link);
        attach_tracing(&program).unwrap();
    }

    #[test]
    fn ring_buffers_exist_on_every_supported_kernel() {
        if may_ask("ring_buffers_exist_on_every_supported_kernel") {
            create_ringbuf().unwrap();
        }
    }
}
