//! The answers as a page.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result};

use super::{Answers, BACKENDS, Backend, Hook};

const HEAD: &str = "\
# Compatibility

What the kernels of the test matrix offer, as `sockleak probes --backend NAME` says in a guest of each, as root. This page is
made by `cargo xtask compat --write`; do not edit it. That the counts are exact there, is tested by
`cargo xtask test` (ARCHITECTURE, invariants); *difference* is what a `watch` of one second held against the kernel's
own count at its end.

Distributions change kernels: on a machine, ask `sockleak probes`.
";

const PRIVILEGES: &str = "
## Privileges

Root, or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_PTRACE; CAP_SYS_ADMIN for other network namespaces. Before 5.11
also CAP_SYS_RESOURCE (locked memory) and CAP_SYSLOG (addresses of symbols). [SECURITY](../SECURITY.md) has what each is
for and what is missing without it. `snapshot --no-bpf` needs none of them for the processes of the user.
";

pub fn page(all: &[Answers]) -> Result<String> {
    let mut text = HEAD.to_owned();
    text.push_str("\n## Kernels and backends\n\n| kernel | release |");
    for backend in BACKENDS {
        let _ = write!(text, " {backend} |");
    }
    let _ = write!(text, "\n|---|---|{}\n", "---|".repeat(BACKENDS.len()));
    for answers in all {
        let release = &probes(answers, "auto")?.kernel;
        let _ = write!(text, "| {} | {release} |", answers.series);
        for backend in BACKENDS {
            let _ = write!(text, " {} |", summary(answers, backend)?);
        }
        text.push('\n');
    }
    text.push_str(
        "\nHooks served of all there are. `auto` takes the best for each hook; with the others, what they cannot serve is left \
         out, but for the look at all descriptors (iterator).\n",
    );
    let mut notes = Notes::default();
    for backend in BACKENDS {
        hooks(&mut text, all, backend, &mut notes)?;
    }
    text.push_str("\n## What is not seen\n\n");
    for (note, number) in notes.in_order() {
        let _ = writeln!(text, "{number}. {note}");
    }
    text.push_str(PRIVILEGES);
    Ok(text)
}

fn backend<'a>(answers: &'a Answers, name: &str) -> Result<&'a Backend> {
    (answers.backends.get(name)).with_context(|| format!("{} has no {name}", answers.series))
}

fn probes<'a>(answers: &'a Answers, name: &str) -> Result<&'a super::Probes> {
    (backend(answers, name)?.probes.as_ref()).context("probes said nothing")
}

/// `9 of 9, difference 0`
fn summary(answers: &Answers, name: &str) -> Result<String> {
    let hooks = &probes(answers, name)?.hooks;
    let served = hooks.iter().filter(|hook| hook.backend.is_some()).count();
    let ran = match backend(answers, name)?.difference {
        Some(difference) => format!("difference {difference}"),
        None => "no watch".to_owned(),
    };
    Ok(format!("{served} of {}, {ran}", hooks.len()))
}

/// A table of hooks by kernel.
fn hooks(text: &mut String, all: &[Answers], name: &str, notes: &mut Notes) -> Result<()> {
    let _ = write!(text, "\n## --backend {name}\n\n| hook | gives |");
    for answers in all {
        let _ = write!(text, " {} |", answers.series);
    }
    let _ = write!(text, "\n|---|---|{}\n", "---|".repeat(all.len()));
    let first = all.first().context("no kernel was asked")?;
    for (at, hook) in probes(first, name)?.hooks.iter().enumerate() {
        let _ = write!(text, "| {} | {} |", hook.hook, cell(&hook.gives));
        for answers in all {
            let same = probes(answers, name)?.hooks.get(at);
            let same = same.filter(|other| other.hook == hook.hook);
            let same = same.with_context(|| format!("{} has other hooks", answers.series))?;
            let _ = write!(text, " {} |", served(same, notes));
        }
        text.push('\n');
    }
    Ok(())
}

/// `kprobe [2]`: who, and the number of what is said about it.
fn served(hook: &Hook, notes: &mut Notes) -> String {
    let (who, note) = match &hook.backend {
        Some(backend) => (backend.as_str(), hook.limits.as_ref()),
        None => ("-", hook.reason.as_ref()),
    };
    match note {
        Some(note) => format!(
            "{who} [{}]",
            notes.number(&format!("{}: {note}", hook.hook))
        ),
        None => who.to_owned(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Each once, by the order in which they are met.
#[derive(Default)]
struct Notes(BTreeMap<String, usize>);

impl Notes {
    fn number(&mut self, note: &str) -> usize {
        let next = self.0.len() + 1;
        *self.0.entry(note.to_owned()).or_insert(next)
    }

    fn in_order(&self) -> Vec<(&str, usize)> {
        let mut all: Vec<_> = (self.0.iter())
            .map(|(note, number)| (note.as_str(), *number))
            .collect();
        all.sort_by_key(|(_, number)| *number);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::{answers, tests::said};

    #[test]
    fn a_cell_says_who_serves_a_hook_and_what_that_leaves_open() {
        let all = [answers("9.9", &said()).unwrap()];
        let page = super::page(&all).unwrap();
        for line in [
            "| 9.9 | 9.9-test | 2 of 2, difference 0 | 0 of 2, no watch | 2 of 2, difference 2 | 2 of 2, no watch |",
            "| bind | what bind gives | kprobe [1] |",
            "| alloc | what alloc gives | - [2] |",
            "| alloc | what alloc gives | tracepoint |",
            "1. bind: how long it takes",
            "2. alloc: fentry: refused",
        ] {
            assert!(page.lines().any(|one| one == line), "{line}:\n{page}");
        }
    }
}
