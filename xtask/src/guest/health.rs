//! Did the guest's kernel complain?

/// Lines of context that belong to one complaint.
const CONTEXT: usize = 40;

/// Complaints in the kernel's log (`priority,text` lines) and on its console, each with the lines after
/// it. The console repeats some of what the log has; it is read only if the log has nothing.
pub fn problems(kernel_log: &str, console: &str) -> Vec<String> {
    let log: Vec<&str> = kernel_log
        .lines()
        .map(|line| line.split_once(',').map_or(line, |(_, text)| text))
        .collect();
    let found = find(&log);
    if found.is_empty() {
        // The log's ring may have wrapped, and a panic never reaches it.
        return find(&console.lines().collect::<Vec<_>>());
    }
    found
}

/// The last lines of a text under a heading; empty if there is none.
pub fn tail(heading: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    let last = lines
        .get(lines.len().saturating_sub(2 * CONTEXT)..)
        .unwrap_or_default();
    format!("--- {heading} ---\n{}\n", last.join("\n"))
}

fn find(lines: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = 0;
    for (at, line) in lines.iter().enumerate() {
        if at >= next && is_complaint(line) {
            next = (at + CONTEXT).min(lines.len());
            found.push(lines.get(at..next).unwrap_or_default().join("\n"));
        }
    }
    found
}

/// Whether a log line (with or without a `[   12.345678] ` stamp) begins a report of a kernel fault.
fn is_complaint(line: &str) -> bool {
    let text = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .map_or(line, |(_, text)| text);
    // "WARNING: CPU: 0 PID: 1 at file:line function" until 6.18, then
    // "WARNING: file:line at function, CPU#0: comm/pid" (lib/bug.c, kernel/panic.c).
    text.starts_with("WARNING: CPU")
        || text.starts_with("WARNING: ") && text.contains(" at ") && text.contains("CPU#")
        || text.starts_with("BUG: ")
        || text.starts_with("kernel BUG at ")
        || text.contains("Oops: ")
        || text.starts_with("Kernel panic")
        || text.starts_with("general protection fault")
        || text.starts_with("refcount_t: ")
        || text.contains("possible circular locking")
        || text.starts_with("INFO: task ") && text.contains(" blocked for more than ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_once_with_their_context() {
        let log = "6,net: quiet\n4,------------[ cut here ]------------\n4,WARNING: CPU: 1 PID: 7 at net/ipv4/tcp.c:1 f+0x1\n\
                   4,Modules linked in:\n4,BUG: part of the same report\n";
        let found = problems(log, "");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("WARNING: CPU: 1") && found[0].contains("Modules linked in"),
            "{found:?}"
        );
    }

    #[test]
    fn each_kind_of_fault_counts_stamped_or_not() {
        for line in [
            "[    1.234567] BUG: kernel NULL pointer dereference, address: 0",
            "WARNING: net/ipv4/tcp.c:12 at tcp_close+0x1/0x2, CPU#1: vmtest/77",
            "[    2.000001] Kernel panic - not syncing: Attempted to kill init!",
            "Oops: 0000 [#1] SMP NOPTI",
            "Oops: Oops: 0000 [#1] SMP NOPTI",
            "INFO: task x:1 blocked for more than 120 seconds.",
        ] {
            assert!(is_complaint(line), "{line}");
        }
    }

    #[test]
    fn ordinary_lines_do_not_count() {
        for line in [
            "[    0.000000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
            "Command line: panic=-1 oops=panic",
        ] {
            assert!(!is_complaint(line), "{line}");
        }
        assert!(problems("6,fine\n", "fine\n").is_empty());
    }

    #[test]
    fn a_panic_on_the_console_alone_is_seen() {
        assert_eq!(problems("", "[ 1.0] Kernel panic - not syncing\n").len(), 1);
    }
}
