//! What the kernel side knows of a command's processes.

use sockleak_ebpf::{
    CodeFrame as AbiFrame, CodeStack, Executable, FRAME_ADDRESS, FRAME_EMPTY, FRAME_FILE,
    LEFT_SEEN, LEFT_TRIED, LeftKey, LeftStats, ProcessKey, RUN_EXECUTABLE, RUN_STACK,
    RunEvent as AbiEvent, RunTotals as AbiTotals, STACK_FAILED,
};

use super::{DecodeError, bytes16, exactly, family};
use crate::{
    model::{Code, CodeFrame, Left, ProcessId, RunEvent, RunTotals, SocketClass, Stack, TcpState},
    sanitize::printable_c,
};

fn process(key: ProcessKey) -> ProcessId {
    ProcessId::from_kernel(key.tgid, key.start_boottime_ns)
}

/// Decodes an element of the map of what was left.
///
/// # Errors
/// When the sizes are not the agreed ones, or there is no such family or state.
pub fn left(key: &[u8], stats: &[u8]) -> Result<Left, DecodeError> {
    let key: LeftKey = exactly("key of what was left", key)?;
    let stats: LeftStats = exactly("value of what was left", stats)?;
    let state = TcpState::try_from(key.state).map_err(|raw| DecodeError::State(u16::from(raw)))?;
    Ok(Left {
        process: process(key.process),
        comm: printable_c(&bytes16(stats.comm)),
        stack: match key.stack {
            0 => Stack::None,
            STACK_FAILED => Stack::Failed,
            id => Stack::Id(id),
        },
        ending: key.ending,
        class: SocketClass::of(state, u16::from(key.bound != 0)),
        family: family(key.family)?,
        tried: key.flags & LEFT_TRIED != 0,
        seen: key.flags & LEFT_SEEN != 0,
        count: stats.count,
        age_ns: (stats.birth_ns != 0).then(|| stats.end_ns.saturating_sub(stats.birth_ns)),
        creator: (stats.creator_tgid != 0).then_some(stats.creator_tgid),
    })
}

/// Decodes a value of the map of stacks.
///
/// # Errors
/// When it does not have the agreed size.
pub fn code(value: &[u8]) -> Result<Code, DecodeError> {
    let value: CodeStack = exactly("stack", value)?;
    let used = usize::try_from(value.frames).unwrap_or(usize::MAX);
    let frames: Vec<CodeFrame> = value
        .code
        .iter()
        .take(used)
        .filter_map(|frame| code_frame(frame, value.start_code..value.end_code))
        .collect();
    Ok(Code {
        process: process(value.process),
        executable: value.exe_inode,
        cut: frames.len() >= value.code.len(),
        frames,
        thread: printable_c(&bytes16(value.thread)),
        program: (value.start_code, value.end_code),
        stack: value
            .stack
            .iter()
            .copied()
            .take(usize::try_from(value.words).unwrap_or(0))
            .collect(),
    })
}

fn code_frame(frame: &AbiFrame, program: std::ops::Range<u64>) -> Option<CodeFrame> {
    match frame.status {
        FRAME_FILE => {
            let mut build_id = [0; 20];
            for (to, word) in build_id.chunks_exact_mut(4).zip(frame.build_id) {
                to.copy_from_slice(&word.to_ne_bytes());
            }
            Some(CodeFrame::File {
                build_id,
                offset: frame.offset,
            })
        }
        FRAME_ADDRESS if program.contains(&frame.offset) => {
            Some(CodeFrame::Program(frame.offset - program.start))
        }
        FRAME_ADDRESS => Some(CodeFrame::Address(frame.offset)),
        FRAME_EMPTY => None,
        _ => None,
    }
}

/// Decodes a value of the map of executables: who ran it first, and its path as given to
/// execve().
///
/// # Errors
/// When it does not have the agreed size.
pub fn executable(value: &[u8]) -> Result<(ProcessId, Vec<u8>), DecodeError> {
    let value: Executable = exactly("executable", value)?;
    let path = value.path.split(|byte| *byte == 0).next();
    Ok((process(value.process), path.unwrap_or_default().to_vec()))
}

/// Decodes an event of a run.
///
/// # Errors
/// When it does not have the agreed size, or is of no known kind.
pub fn run_event(record: &[u8]) -> Result<RunEvent, DecodeError> {
    let record: AbiEvent = exactly("event of a run", record)?;
    let process = process(record.process);
    match record.kind {
        RUN_EXECUTABLE => Ok(RunEvent::Executable(process, record.inode)),
        RUN_STACK => Ok(RunEvent::Stack(process, record.id)),
        other => Err(DecodeError::Kind(other)),
    }
}

/// Decodes the totals of a run.
///
/// # Errors
/// When they do not have the agreed size.
pub fn run_totals(value: &[u8]) -> Result<RunTotals, DecodeError> {
    let value: AbiTotals = exactly("totals of a run", value)?;
    Ok(RunTotals {
        forked: value.forked,
        created: value.created,
        closed: value.closed,
        left: value.left,
        elsewhere: value.elsewhere,
        followed_full: value.followed_full,
        left_full: value.left_full,
        stacks_full: value.stacks_full,
        stacks_collided: value.stacks_collided,
        stacks_failed: value.stacks_failed,
        executables_full: value.executables_full,
        events_dropped: value.events_dropped,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn left_bytes(state: u8) -> (Vec<u8>, Vec<u8>) {
        let mut key = words(&[7_000_000_000, 4684]);
        key.extend(8u32.to_ne_bytes());
        key.extend(99u32.to_ne_bytes());
        key.extend(2u16.to_ne_bytes());
        key.extend([state, LEFT_SEEN]);
        key.extend(1u32.to_ne_bytes());
        let mut value = words(&[3, 1_000, 5_000, 4684]);
        value.extend(b"leaky\0\0\0\0\0\0\0\0\0\0\0");
        (key, value)
    }

    #[test]
    fn what_was_left_is_read() {
        let (key, value) = left_bytes(7);
        let found = left(&key, &value).unwrap();
        assert_eq!(found.process, ProcessId::from_kernel(4684, 7_000_000_000));
        assert_eq!((found.class, found.count), (SocketClass::Bound, 3));
        assert_eq!((found.stack, found.ending), (Stack::Id(8), 99));
        assert_eq!((found.age_ns, found.creator), (Some(4_000), Some(4684)));
        assert!(found.seen && !found.tried);
        assert_eq!(found.comm, "leaky");
        let (key, value) = left_bytes(77);
        assert_eq!(left(&key, &value), Err(DecodeError::State(77)));
    }

    #[test]
    fn frames_of_a_stack_are_read_in_three_ways() {
        let mut bytes = words(&[1, 7_000_000_000, 4684, 0x1000, 0x2000, 55]);
        bytes.extend(b"tests::it_leaks\0");
        bytes.extend(words(&[3 | 2 << 32]));
        let frame = |status: u32, offset: u64| {
            let mut bytes = status.to_ne_bytes().to_vec();
            bytes.extend([9; 20]);
            bytes.extend(offset.to_ne_bytes());
            bytes
        };
        bytes.extend(frame(FRAME_FILE, 0x10));
        bytes.extend(frame(FRAME_ADDRESS, 0x1800));
        bytes.extend(frame(FRAME_ADDRESS, 0x7f00));
        bytes.resize(72 + 32 * sockleak_ebpf::CODE_FRAMES, 0);
        bytes.extend(words(&[0x1234, 0x5678, 0x9abc]));
        bytes.resize(size_of::<CodeStack>(), 0);
        let found = code(&bytes).unwrap();
        assert_eq!((found.executable, found.cut), (55, false));
        assert_eq!(found.thread, "tests::it_leaks");
        assert_eq!(
            (found.program, found.stack),
            ((0x1000, 0x2000), vec![0x1234, 0x5678])
        );
        assert_eq!(
            found.frames,
            [
                CodeFrame::File {
                    build_id: [9; 20],
                    offset: 0x10
                },
                CodeFrame::Program(0x800),
                CodeFrame::Address(0x7f00),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = left(&bytes, &bytes);
            let _ = executable(&bytes);
            let _ = run_event(&bytes);
            let _ = run_totals(&bytes);
        }

        #[test]
        fn any_stack_is_decoded(bytes in proptest::collection::vec(any::<u8>(), size_of::<CodeStack>())) {
            let found = code(&bytes).unwrap();
            prop_assert!(found.frames.len() <= sockleak_ebpf::CODE_FRAMES);
        }
    }
}
