//! The table and the text around it.

use std::fmt::Write as _;

use super::{
    figures::{KINDS, Run},
    overhead::{BACKENDS, OfKernel},
    peers,
};

/// docs/overhead.md.
pub fn document(kernels: &[OfKernel], command: &str) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "# What watching costs the watched\n\n\
         Made by `{command}`.\n\n\
         Instructions per round on loopback, counted by QEMU (`-icount`): they do not depend on the \
         machine or its load, and are blind to caches. First what a round takes with nothing attached, then \
         what is added to it: *empty* by the same hooks with programs that only return, *watch* by `sockleak \
         watch`, *stacks* by `sockleak watch --stacks always`, which is what a suspect pays, *events* by `sockleak watch --events`: in the kernel + in the agent, which reads and prints \
         every event. Where bpftrace and tools of libbpf-tools follow, they are Debian's, in the same guest, with the \
         same two parts; the scripts, `xtask/src/bench/peers/*.bt`, count creations, accepts and destructions, and \
         time ages, bind() and connect(). Each figure is the median of 1,001 rounds after 1,000 that do not count (with *events* \
         the mean, since not every round meets the agent).\n\n\
         The agent shares the guest's one processor. It runs with `-i 60`, so that no report falls into \
         the rounds; its own work is read from /proc/PID/task/*/schedstat and told apart, and *report* is \
         what one report takes it while nothing goes on. With the default interval of 5 s and R rounds per \
         second, a round's share of that is report / (5 R).\n\n"
    );
    out += "| kernel | attached |";
    for (_, title) in KINDS {
        let _ = write!(out, " {title} |");
    }
    out += " report |\n|---|---|";
    out += &"---:|".repeat(KINDS.len() + 1);
    out += "\n";
    for kernel in kernels {
        rows(&mut out, kernel);
    }
    out += "\n";
    notes(&mut out, kernels);
    out
}

fn rows(out: &mut String, kernel: &OfKernel) {
    let Some(base) = kernel.runs.get("base") else {
        return;
    };
    let _ = write!(out, "| {} | nothing |", kernel.release);
    for (kind, _) in KINDS {
        let _ = write!(out, " {} |", number(base.rounds[kind].alone()));
    }
    out.push_str(" |\n");
    for backend in BACKENDS {
        let runs = [
            ("floor-", "empty"),
            ("", "watch"),
            ("stacks-", "stacks"),
            ("events-", "events"),
        ];
        for (prefix, label) in runs {
            let Some(run) = kernel.runs.get(&format!("{prefix}{backend}")) else {
                continue;
            };
            let report = match &run.agent {
                Some(agent) if prefix.is_empty() => number(agent.report),
                _ => String::new(),
            };
            row(out, &format!("{backend}, {label}"), run, base, &report);
        }
    }
    for name in peers::names() {
        if let Some(run) = kernel.runs.get(&peers::run_name(name)) {
            row(out, name, run, base, "");
        }
    }
}

fn row(out: &mut String, label: &str, run: &Run, base: &Run, report: &str) {
    let _ = write!(out, "| | {label} |");
    for (kind, _) in KINDS {
        let _ = write!(out, " {} |", cell(run, base, kind));
    }
    let _ = writeln!(out, " {report} |");
}

fn cell(run: &Run, base: &Run, kind: &str) -> String {
    let Some(round) = run.rounds.get(kind) else {
        return "no".to_owned();
    };
    let added = signed(round.added_to(&base.rounds[kind]));
    match round.agent() {
        agent if agent >= 0.5 => format!("{added} {}", signed(agent)),
        _ => added,
    }
}

/// With its sign. Where a tool works during rounds, its own time is taken off a mean over all rounds: less than
/// nothing can be left.
fn signed(value: f64) -> String {
    let plus = if value.round() < 0.0 { "" } else { "+" };
    format!("{plus}{}", number(value))
}

fn notes(out: &mut String, kernels: &[OfKernel]) {
    for kernel in kernels {
        let release = &kernel.release;
        for (name, run) in &kernel.runs {
            if let Some(error) = &run.error {
                let _ = writeln!(out, "- {release}, {name}: not measured: {error}");
            }
            if let Some(agent) = &run.agent
                && let Some(what) = &agent.inexact
                && !name.starts_with("floor-")
            {
                let _ = writeln!(
                    out,
                    "- {release}, {name}: not exact or not complete: {what}"
                );
            }
        }
        if let (Some(base), Some(again)) = (kernel.runs.get("base"), kernel.runs.get("again")) {
            let drift = KINDS
                .map(|(kind, _)| again.rounds[kind].added_to(&base.rounds[kind]))
                .into_iter()
                .fold(0.0, |most: f64, drift| most.max(drift.abs()));
            let _ = writeln!(
                out,
                "- {release}: with nothing attached once more at the end, at most {} instructions off.",
                number(drift)
            );
        }
        if let Some((distance, place)) = &kernel.distance {
            let _ = writeln!(
                out,
                "- {release}: on a second run, added instructions differed by at most {:.2} % ({place}).",
                distance * 100.0
            );
        }
    }
}

/// With a comma between thousands.
fn number(value: f64) -> String {
    let rounded = value.round();
    let digits = format!("{:.0}", rounded.abs());
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if rounded < 0.0 {
        out.insert(0, '-');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (value, text) in [
            (0.4, "0"),
            (999.6, "1,000"),
            (68_412.0, "68,412"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
