//! `sockleak diagnose` under conditions that no demo plays: CLOSE_WAIT, and ranges that are too small.
//! Needs root, for network namespaces.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sockleak_tests::schema::validate;

/// A process in a condition, in a namespace of its own. It ends with its standard input.
struct Condition(Child);

impl Condition {
    /// `None`, with a reason on standard error, without root.
    fn start(scenario: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED native_conditions: network namespaces need root");
            return None;
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_holder"))
            .arg(scenario)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the holder starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let condition = Self(child);
        let is_ready = lines.map_while(Result::ok).any(|line| line == "ready");
        assert!(is_ready, "{scenario} failed");
        Some(condition)
    }

    fn diagnosis(&self, more: &[&str]) -> Value {
        let pid = self.0.id().to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"))
            .args(["diagnose", "--json", "-d", "2", "--netns", &pid])
            .args(more)
            .stdin(Stdio::null())
            .output()
            .expect("sockleak can be started");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        validate(text.trim_end()).expect("it is described")
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The findings, of which one is expected.
fn only(diagnosis: &Value) -> &Value {
    let findings = diagnosis["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), 1, "{diagnosis:#}");
    &findings[0]
}

fn text(finding: &Value, field: &str) -> String {
    let lines = finding[field].as_array().expect("a list").iter();
    let lines: Vec<_> = lines.filter_map(Value::as_str).collect();
    lines.join("\n")
}

#[test]
fn connections_whose_peers_have_closed() {
    let Some(server) = Condition::start("half-closed") else {
        return;
    };
    for more in [&[][..], &["--no-bpf"]] {
        let diagnosis = server.diagnosis(more);
        let finding = only(&diagnosis);
        assert_eq!(finding["id"], "close_wait_leak", "{diagnosis:#}");
        assert_eq!(finding["pid"], server.0.id());
        assert_eq!(finding["count"], 200);
        let evidence = text(finding, "evidence");
        for part in [
            "200 sockets in CLOSE_WAIT",
            "accepted on port 8080",
            "33 % of the 600 descriptors",
        ] {
            assert!(evidence.contains(part), "{part}: {evidence}");
        }
        assert!(text(finding, "remedy").contains("read() returns 0"));
    }
}

#[test]
fn ranges_that_are_too_small() {
    for (scenario, why, left) in [
        ("small-range", "it has 200 ports", 200),
        (
            "reserved-range",
            "20,000 of its 28,232 ports are in net.ipv4.ip_local_reserved_ports",
            8_232,
        ),
    ] {
        let Some(inhabitant) = Condition::start(scenario) else {
            return;
        };
        let diagnosis = inhabitant.diagnosis(&["--no-bpf"]);
        let finding = only(&diagnosis);
        assert_eq!(finding["id"], "port_range_misconfigured", "{diagnosis:#}");
        assert_eq!(finding["count"], left);
        // It is not wrong yet: nobody has used them up.
        assert_eq!(finding["severity"], "info");
        let title = finding["title"].as_str().expect("text");
        assert!(title.contains(why), "{title}");
        assert!(text(finding, "remedy").contains("ip_local_port_range"));
    }
}
