//! Callers that the walk along frame pointers has left out.
//!
//! What was built without frame pointers is not in a stack that was walked along them. Its return
//! addresses are on the stack all the same, among whatever else lies there. A word is taken for one
//! if it points behind a call instruction of the program. That may be left from a call that is
//! long over, so such frames are shown as guesses.

use std::os::unix::fs::FileExt as _;

use super::Files;
use crate::model::{Code, CodeFrame};

/// Guesses in one stack; what lies deeper is the business of whoever runs main().
const MOST: usize = 24;

/// A frame, and whether it is a guess.
pub type Guess = (CodeFrame, bool);

/// The frames of a stack with guesses between them, innermost first.
pub fn with_guesses(code: &Code, files: &Files) -> Vec<Guess> {
    let known = |frame: &CodeFrame| (*frame, false);
    let Some((program, begin)) = files.find(CodeFrame::Program(0), code.executable) else {
        return code.frames.iter().map(known).collect();
    };
    let places: Vec<_> = (code.frames.iter())
        .map(|frame| files.find(*frame, code.executable))
        .collect();
    // Where the innermost function stands is in no word.
    let mut next = code.frames.len().min(1);
    let mut all: Vec<Guess> = code.frames.iter().take(next).map(known).collect();
    let (first, last) = code.program;
    let mut guesses = 0;
    for word in &code.stack {
        if !(first..last).contains(word) {
            continue;
        }
        let behind = word - first;
        let place = Some((program, begin.saturating_add(behind)));
        let rest = places.get(next..).unwrap_or_default();
        if let Some(at) = rest.iter().position(|known| *known == place) {
            let walked = code.frames.get(next..=next + at).unwrap_or_default();
            all.extend(walked.iter().map(known));
            next += at + 1;
        } else if guesses < MOST && is_behind_call(files, program, begin.saturating_add(behind)) {
            guesses += 1;
            all.push((CodeFrame::Program(behind), true));
        }
    }
    all.extend(code.frames.iter().skip(next).map(known));
    all
}

/// Longest call instruction that is recognised.
const CALL: usize = 7;

fn is_behind_call(files: &Files, program: usize, offset: u64) -> bool {
    let mut before = [0; CALL];
    let Some(at) = offset.checked_sub(CALL as u64) else {
        return false;
    };
    let read = files
        .get(program)
        .map(|known| known.file.read_exact_at(&mut before, at));
    cfg!(target_arch = "x86_64") && matches!(read, Some(Ok(()))) && ends_with_call(&before)
}

/// Whether x86-64 code ends with a call: E8 and a distance, or FF /2 and an operand.
fn ends_with_call(code: &[u8; CALL]) -> bool {
    if code[CALL - 5] == 0xe8 {
        return true;
    }
    (2..=CALL).any(|len| {
        let (Some([0xff, operand]), Some(sib)) = (
            code.get(CALL - len..CALL - len + 2),
            Some(code.get(CALL - len + 2).copied().unwrap_or(0)),
        ) else {
            return false;
        };
        let (mode, register, base) = (operand >> 6, operand >> 3 & 7, operand & 7);
        let with_sib = usize::from(mode != 3 && base == 4);
        let distance = match mode {
            0 if base == 5 || base == 4 && sib & 7 == 5 => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        register == 2 && len == 2 + with_sib + distance
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::enrich::process::identify;

    #[test]
    fn calls_are_told_from_other_code() {
        for call in [
            &[0x90, 0x90, 0xe8, 1, 2, 3, 4][..],
            &[0x90, 0xff, 0x15, 1, 2, 3, 4],
            &[0, 0, 0, 0, 0, 0xff, 0xd0],
            &[0, 0, 0, 0, 0x41, 0xff, 0xd3],
            &[0, 0, 0, 0, 0xff, 0x50, 0x18],
            &[0, 0, 0, 0xff, 0x54, 0x24, 8],
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],
        ] {
            assert!(ends_with_call(call.try_into().unwrap()), "{call:x?}");
        }
        for other in [
            &[0x90; 7][..],
            &[0, 0, 0, 0, 0, 0xff, 0xe0],
            &[0, 0, 0, 0, 0, 0, 0xc3],
            &[0, 0, 0, 0xff, 0x50, 1, 2],
        ] {
            assert!(!ends_with_call(other.try_into().unwrap()), "{other:x?}");
        }
    }

    #[test]
    fn words_of_the_program_behind_calls_are_guesses_in_their_place() {
        let me = identify(std::process::id()).unwrap();
        let executable = std::fs::metadata("/proc/self/exe").unwrap().ino();
        let mut files = Files::new();
        files.learn_executable(me, executable, b"no-such-path");
        let (program, begin) = files.find(CodeFrame::Program(0), executable).unwrap();
        // The first few places of our own code that are behind a call, and one that is not.
        let behind_call = |at: &u64| is_behind_call(&files, program, begin + at);
        let calls: Vec<u64> = (0x1000..0x40_000).filter(behind_call).take(4).collect();
        let [outer, middle, inner, other] = calls[..] else {
            panic!("no calls in {calls:?}");
        };
        let no_call = (0x1000..0x40_000).find(|at| !behind_call(at)).unwrap();
        let base = 0x5555_0000_0000;
        let code = Code {
            process: me,
            executable,
            frames: vec![CodeFrame::Address(7), CodeFrame::Program(middle)],
            cut: false,
            thread: String::new(),
            program: (base, base + 0x100_0000),
            stack: [inner, no_call, middle, 3, outer, other]
                .map(|at| if at == 3 { 3 } else { base + at })
                .into(),
        };
        let expected = [
            (CodeFrame::Address(7), false),
            (CodeFrame::Program(inner), true),
            (CodeFrame::Program(middle), false),
            (CodeFrame::Program(outer), true),
            (CodeFrame::Program(other), true),
        ];
        assert_eq!(with_guesses(&code, &files), expected);
        let unknown = Code {
            executable: executable + 1,
            ..code
        };
        assert_eq!(with_guesses(&unknown, &files).len(), 2);
    }
}
