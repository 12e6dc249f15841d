//! What `sockleak demo` says around the report.

use super::check::Check;
use super::{GroundTruth, Held, Scenario};

/// What is going to happen.
pub fn introduction(scenario: &Scenario) -> Vec<String> {
    let mut lines = vec![format!("demo {}: {}", scenario.name, scenario.summary)];
    lines.push(String::new());
    lines.extend(scenario.story.lines().map(str::to_owned));
    lines.push(String::new());
    lines
}

/// What runs, and what to do about it in a second terminal. `stage` is a process that lives in
/// the namespace as long as the incident.
pub fn held(scenario: &Scenario, truth: &GroundTruth, stage: u32) -> Vec<String> {
    let mut lines = introduction(scenario);
    lines.push(format!(
        "It runs, in network namespace {}, with these processes:",
        truth.netns
    ));
    for own in &truth.processes {
        let (pid, held) = (own.pid, list(&own.held));
        lines.push(format!("{pid:>8} {:15} {}: {held}", own.comm, own.does));
    }
    lines.extend(notes(truth));
    lines.push(String::new());
    lines.push("In a second terminal, for example:".to_owned());
    for command in [
        "sudo sockleak watch --older 2s".to_owned(),
        format!("sudo sockleak snapshot --netns {stage}"),
        format!("sudo nsenter -t {stage} -n ss -s"),
        format!("sudo nsenter -t {stage} -n ss -tan"),
        "cat /proc/net/sockstat".to_owned(),
    ] {
        lines.push(format!("    {command}"));
    }
    lines.push(String::new());
    lines.push("Ctrl-C ends it and leaves nothing behind.".to_owned());
    lines
}

/// Whether the report is right, process by process.
pub fn verdict(truth: &GroundTruth, check: &Check) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(notes(truth));
    lines.push("The demo's own count against sockleak's:".to_owned());
    for row in &check.processes {
        let report = row.report.unwrap_or_default();
        let (own, report, accused) = (list(&row.own), list(&report), row.accused_of);
        let accusation = match accused {
            0 => "not accused".to_owned(),
            accused => format!("accused of {accused}"),
        };
        let relation = if own == report { "equal" } else { "DIFFERENT" };
        lines.push(format!("{:>8} {:15} {own}", row.pid, row.comm));
        lines.push(format!(
            "{:>8} {:15} {report}, {accusation}: {relation}",
            "", "sockleak says"
        ));
    }
    lines.extend(check.wrong.iter().map(|wrong| format!("WRONG: {wrong}")));
    let leaked = |held: &Held| held.unbound + held.bound;
    let guilty = truth.processes.iter().filter(|own| own.guilty);
    let own: u64 = guilty.map(|own| leaked(&own.held)).sum();
    let accused: u64 = check.processes.iter().map(|row| row.accused_of).sum();
    let verdict = if check.agrees() { "equal" } else { "NOT equal" };
    lines.push(format!(
        "the demo's own count: {own} leaked sockets; sockleak: {accused}: {verdict}"
    ));
    lines
}

fn notes(truth: &GroundTruth) -> impl Iterator<Item = String> {
    truth.notes.iter().map(|note| format!("note: {note}"))
}

fn list(held: &Held) -> String {
    let counts = [
        ("unbound", held.unbound),
        ("bound", held.bound),
        ("listening", held.listen),
        ("established", held.established),
        ("of them shared", held.shared),
    ];
    let parts: Vec<String> = (counts.iter())
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| format!("{count} {class}"))
        .collect();
    match parts.is_empty() {
        true => "no sockets".to_owned(),
        false => parts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::ProcessCheck;
    use super::*;

    fn check(own: Held, report: Held, wrong: &[&str]) -> Check {
        Check {
            processes: vec![ProcessCheck {
                pid: 7,
                comm: "app".to_owned(),
                own,
                report: Some(report),
                accused_of: report.unbound + report.bound,
            }],
            wrong: wrong.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn agreement_and_disagreement_are_told_apart() {
        let held = Held {
            unbound: 3,
            bound: 2,
            ..Held::default()
        };
        let truth = GroundTruth {
            notes: vec!["scaled".to_owned()],
            ..GroundTruth::default()
        };
        let text = verdict(&truth, &check(held, held, &[])).join("\n");
        assert!(text.contains("note: scaled"), "{text}");
        assert!(
            text.contains("app             3 unbound, 2 bound"),
            "{text}"
        );
        assert!(
            text.contains("3 unbound, 2 bound, accused of 5: equal"),
            "{text}"
        );
        assert!(text.ends_with(": equal"), "{text}");

        let other = Held { bound: 1, ..held };
        let text = verdict(&truth, &check(held, other, &["bound differs"])).join("\n");
        assert!(text.contains("DIFFERENT") && text.contains("WRONG: bound differs"));
        assert!(text.ends_with("NOT equal"), "{text}");
    }
}
