//! Stacks of leaked sockets, one line each, as flame graph tools read them:
//! `comm;outermost;...;innermost count`. The last space splits the count, semicolons the frames.

use std::io::{self, Write};

use crate::report::{Leak, history::History};
use crate::sanitize::defused;

/// The frame of sockets without a stack.
pub const NO_STACK: &str = "[no stack]";

/// Writes the leaks of the last report, or as far as is known.
///
/// # Errors
/// Those of `out`.
pub fn write(history: &History, out: &mut dyn Write) -> io::Result<()> {
    for (frames, count) in folded(history.leaks()) {
        writeln!(out, "{} {count}", frames.join(";"))?;
    }
    out.flush()
}

/// Frames from the process to the innermost, and how many sockets. Sockets without a stack, and
/// those of a group that its stack does not stand for, have one frame that says so.
pub fn folded(leaks: &[Leak]) -> Vec<(Vec<String>, u64)> {
    let mut all: Vec<(Vec<String>, u64)> = Vec::new();
    let mut add = |frames: Vec<String>, count: u64| {
        if count == 0 {
            return;
        }
        match all.iter_mut().find(|(known, _)| *known == frames) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => all.push((frames, count)),
        }
    };
    for leak in leaks {
        let comm = frame(if leak.comm.is_empty() {
            "?"
        } else {
            &leak.comm
        });
        let mut rest = leak.count;
        for origin in &leak.origins {
            let Some(stack) = &origin.stack else { continue };
            let count = origin.count.min(rest);
            let mut frames = vec![comm.clone()];
            frames.extend(stack.iter().rev().map(|name| frame(name)));
            add(frames, count);
            rest -= count;
        }
        add(vec![comm, NO_STACK.to_owned()], rest);
    }
    all
}

/// A name that splits nothing: Java has semicolons in its names.
fn frame(name: &str) -> String {
    let text = defused(name).replace([';', '\n', '\r'], ":");
    if text.is_empty() {
        "?".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::fixtures;
    use crate::report::{Body, LeakOrigin};

    fn leak(name: &str) -> Leak {
        let (_, report) = fixtures::all()
            .into_iter()
            .find(|(known, _)| *known == name)
            .expect("a fixture");
        match report.body {
            Body::Leak(leak) => leak,
            other => panic!("{other:?}"),
        }
    }

    fn origin(stack: &[&str], count: u64) -> LeakOrigin {
        let stack = stack.iter().map(|name| (*name).to_owned()).collect();
        LeakOrigin {
            stack: Some(stack),
            count,
            ..leak("leak_stack").origins.swap_remove(0)
        }
    }

    #[test]
    fn outermost_first_and_what_has_no_stack_says_so() {
        let stacked = Leak {
            origins: vec![
                origin(&["inner", "Lcom/acme/Foo;::leak x"], 4),
                origin(&["other"], 2),
                origin(&["inner", "Lcom/acme/Foo;::leak x"], 1),
            ],
            count: 10,
            ..leak("leak_stack")
        };
        let bare = Leak {
            comm: "a b".to_owned(),
            ..leak("leak_bound")
        };
        let lines: Vec<_> = folded(&[stacked, bare])
            .into_iter()
            .map(|(frames, count)| format!("{} {count}", frames.join(";")))
            .collect();
        assert_eq!(
            lines,
            [
                "java;Lcom/acme/Foo:::leak x;inner 5",
                "java;other 2",
                "java;[no stack] 3",
                "a b;[no stack] 12001",
            ]
        );
    }

    proptest! {
        #[test]
        fn every_line_has_its_frames_and_its_count(
            comm: String,
            stack in proptest::collection::vec(any::<String>(), 1..5),
            count in 1..1_000_u64,
            stacked in 0..2_000_u64,
        ) {
            let frames = stack.len();
            let origins = vec![LeakOrigin { stack: Some(stack), count: stacked, ..origin(&[], 0) }];
            let leak = Leak { comm, origins, count, ..leak("leak_stack") };
            let all = folded(&[leak]);
            prop_assert_eq!(all.iter().map(|(_, n)| n).sum::<u64>(), count);
            for (line, _) in all {
                prop_assert!(line.len() == frames + 1 || line.len() == 2);
                for frame in line {
                    prop_assert!(!frame.is_empty());
                    prop_assert!(!frame.contains([';', '\n', '\r', '\x1b']));
                }
            }
        }
    }
}
