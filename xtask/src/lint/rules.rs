//! Invariants of the design that the text of a file can break. Each finding says what the rule is for.

use super::source::{self, Mention};

/// Longest a source file may be; the median should be under 150.
const MAX_LINES: usize = 600;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what the rule is for.
    pub message: String,
}

/// Crates and modules that touch the world: a pure file may name none of them.
const IMPURE: [&str; 19] = [
    "aya",
    "aya_obj",
    "tokio",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "rustix",
    "libc",
    "caps",
    "procfs",
    "netlink_packet_core",
    "netlink_packet_sock_diag",
    "crate::source",
    "crate::cli",
    "crate::probe::loader",
];

/// What a renderer may import besides itself.
const RENDERER_MAY: [&str; 12] = [
    "std",
    "core",
    "self",
    "super",
    "crate::report",
    "crate::sanitize",
    "crate::render",
    "comfy_table",
    "ratatui_core",
    "unicode_width",
    "serde",
    "serde_json",
];

/// Checks one Rust file; `path` is relative to the workspace. A file that only tests compile may name
/// whatever it needs.
pub fn check_rust(path: &str, text: &str, only_for_tests: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(Finding {
            line: MAX_LINES + 1,
            message: format!(
                "{lines} lines; no file has more than {MAX_LINES}, so that each holds one thing a reader can \
                 keep in mind: split it by noun"
            ),
        });
    }
    let code = source::code_only(text);
    ignored_tests(&code, &mut findings);
    if only_for_tests {
        return findings;
    }
    let mentions = source::mentions(&source::without_tests(&code));
    if is_pure(path) {
        purity(&mentions, &mut findings);
    }
    if is_renderer(path) {
        renderer(&mentions, &source::child_modules(&code), &mut findings);
    }
    findings
}

/// Looks for paths of this machine in any text file: `private` are its directories.
pub fn check_machine_paths(text: &str, private: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(path) = private.iter().find(|path| begins_in(line, path)) {
            findings.push(Finding {
                line: number + 1,
                message: format!(
                    "names {path}, a directory of one machine; nobody else has it, so derive it at run time \
                     or write it relative to the workspace"
                ),
            });
        }
    }
    findings
}

/// Whether `line` has `path` where a path begins, not in the middle of a longer one.
fn begins_in(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-/".contains(c))
    })
}

/// The screen of `watch` is one more renderer, but for its edge to the terminal.
fn is_renderer(path: &str) -> bool {
    ["render", "tui/app", "tui/view"]
        .iter()
        .any(|part| path.starts_with(&format!("sockleak-user/src/{part}")))
}

fn is_pure(path: &str) -> bool {
    let Some(inside) = path.strip_prefix("sockleak-user/src/") else {
        return false;
    };
    ["model", "decode", "tracker", "report"]
        .iter()
        .any(|module| inside.starts_with(&format!("{module}/")) || inside == format!("{module}.rs"))
        || inside.starts_with("probe/plan")
}

fn names(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn purity(mentions: &[Mention], findings: &mut Vec<Finding>) {
    for mention in mentions {
        let imported_clock = ["Instant::now", "SystemTime::now"].contains(&mention.path.as_str());
        if imported_clock || IMPURE.iter().any(|impure| names(&mention.path, impure)) {
            findings.push(Finding {
                line: mention.line,
                message: format!(
                    "names `{}`, but this file is part of the pure core (model, decode, tracker, report, attach \
                     plan), which is tested without a kernel: take what it needs, time included, as a parameter",
                    mention.path
                ),
            });
        }
    }
}

fn renderer(mentions: &[Mention], children: &[&str], findings: &mut Vec<Finding>) {
    for mention in mentions {
        let path = mention.path.as_str();
        if children.iter().any(|child| names(path, child)) {
            continue;
        }
        let foreign = (mention.import || path.starts_with("crate::"))
            && !RENDERER_MAY.iter().any(|may| names(path, may));
        if foreign || IMPURE.iter().any(|impure| names(path, impure)) {
            findings.push(Finding {
                line: mention.line,
                message: format!(
                    "names `{path}`, but a renderer sees only `&Report`: every output then says the same, and \
                     a figure that is not in the report cannot be shown. Put it into crate::report"
                ),
            });
        }
    }
}

fn ignored_tests(code: &str, findings: &mut Vec<Finding>) {
    for (number, line) in code.lines().enumerate() {
        let squeezed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        if squeezed.contains("#[ignore]") {
            findings.push(Finding {
                line: number + 1,
                message: "an ignored test proves nothing: say why it is ignored and who runs it, \
                          as in `#[ignore = \"needs root; cargo xtask test runs it\"]`"
                    .to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check_rust(path, text, false)
            .iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn the_pure_core_may_not_touch_the_world() {
        let dirty = "//! std::fs in a comment is fine\nuse aya::maps::HashMap;\nuse std::{collections::BTreeMap, fs};\n\
                     fn f() { let _ = std::time::Instant::now(); rustix::process::getpid(); libc::getpid(); }\n";
        for path in [
            "sockleak-user/src/model/socket.rs",
            "sockleak-user/src/decode.rs",
            "sockleak-user/src/tracker/mod.rs",
            "sockleak-user/src/report/leak.rs",
            "sockleak-user/src/probe/plan.rs",
            "sockleak-user/src/probe/plan/choose.rs",
        ] {
            assert_eq!(lines(path, dirty), [2, 3, 4, 4, 4], "{path}");
        }
        for path in [
            "sockleak-user/src/probe/loader.rs",
            "sockleak-user/src/kernel/btf.rs",
            "xtask/src/x.rs",
        ] {
            assert!(lines(path, dirty).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_clock_under_its_short_name_is_still_a_clock() {
        let text = "use std::time::{Duration, SystemTime};\nfn f() { SystemTime::now(); }\n";
        assert_eq!(lines("sockleak-user/src/tracker/age.rs", text), [1, 2]);
        let fine = "use std::time::Duration;\nfn f(now: Duration) {}\n";
        assert!(lines("sockleak-user/src/tracker/age.rs", fine).is_empty());
    }

    #[test]
    fn tests_of_pure_code_may_read_files() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert!(lines("sockleak-user/src/decode/event.rs", text).is_empty());
        let path = "sockleak-user/src/decode/tests.rs";
        assert!(check_rust(path, "use std::fs;\n", true).is_empty());
        assert_eq!(check_rust(path, "use std::fs;\n", false).len(), 1);
    }

    #[test]
    fn a_renderer_sees_the_report_and_nothing_else() {
        let text = "mod json; pub use json::Json; use std::fmt;\nuse crate::{report::Report, tracker::Tracker};\nuse super::table;\nuse aya::Ebpf;\n\
                    fn f() { crate::kernel::facts(); }\nuse comfy_table::Table;\n";
        for path in ["render/plain.rs", "tui/app/mod.rs", "tui/view/table.rs"] {
            let path = format!("sockleak-user/src/{path}");
            assert_eq!(lines(&path, text), [2, 4, 5], "{path}");
        }
        assert!(lines("sockleak-user/src/tui/screen.rs", text).is_empty());
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        assert_eq!(lines("xtask/src/x.rs", &"\n".repeat(601)), [601]);
        assert!(lines("xtask/src/x.rs", &"\n".repeat(600)).is_empty());
    }

    #[test]
    fn an_ignored_test_needs_a_reason() {
        assert_eq!(
            lines("tests/tests/a.rs", "#[test]\n#[ignore]\nfn f() {}\n"),
            [2]
        );
        assert!(
            lines(
                "tests/tests/a.rs",
                "#[ignore = \"needs root\"]\nfn f() {} // #[ignore]\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn paths_of_this_machine_are_found() {
        let private = ["/some/where/".to_owned()];
        assert_eq!(
            check_machine_paths("a\nb /some/where/x\n", &private).len(),
            1
        );
        assert!(check_machine_paths("/proc/net/tcp a/some/where/x\n", &private).is_empty());
    }
}
