//! What `sockleak demo` says around the report.

use super::calls::Curve;
use super::check::{Check, ProcessCheck};
use super::{GroundTruth, Held, Scenario};
use crate::render::units;

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
        lines.extend(failed(row));
    }
    lines.extend(check.wrong.iter().map(|wrong| format!("WRONG: {wrong}")));
    let leaked = |held: &Held| held.unbound + held.bound;
    let guilty = truth.processes.iter().filter(|own| own.guilty);
    let own: u64 = guilty.map(|own| leaked(&own.held)).sum();
    let accused: u64 = check.processes.iter().map(|row| row.accused_of).sum();
    let verdict = if check.agrees() { "equal" } else { "NOT equal" };
    let failed: u64 = check.processes.iter().map(|row| row.failed).sum();
    let told: u64 = (check.processes.iter())
        .filter_map(|row| row.reported_failed)
        .sum();
    lines.push(format!(
        "the demo's own count: {own} leaked sockets, {failed} failed calls; sockleak: {accused}, \
         {told}: {verdict}"
    ));
    lines
}

/// How many of a process's calls failed, both ways; nothing when none did.
fn failed(row: &ProcessCheck) -> Option<String> {
    let told = row.reported_failed?;
    if row.failed == 0 && told == 0 {
        return None;
    }
    let relation = if row.failed == told {
        "equal"
    } else {
        "DIFFERENT"
    };
    let own = row.failed;
    Some(format!(
        "{:>8} {:15} {own} calls failed, sockleak says {told}: {relation}",
        "", ""
    ))
}

/// What connect() cost as connections grew in number, and what that shows. All curves have one
/// scale.
pub fn curves(truth: &GroundTruth, curves: &[Curve]) -> Vec<String> {
    let longest = super::curve::longest_ns(curves.iter().flat_map(|curve| &curve.points));
    let each = curves.iter().map(|one| curve(truth, one, longest));
    each.flatten().collect()
}

fn curve(truth: &GroundTruth, curve: &Curve, longest: u64) -> Vec<String> {
    let [low, high] = truth.range;
    let size = u64::from(high.saturating_sub(low) + 1);
    let mut lines = vec![
        String::new(),
        format!("{} (pid {}) to {}:", curve.comm, curve.pid, curve.dst),
    ];
    lines.extend(super::curve::draw(&curve.points, longest));
    if curve.upper_bound {
        lines.push(
            "(the backend sees upper bounds of the times: the handshake is in them)".to_owned(),
        );
    }
    let knee = super::curve::knee(&curve.points);
    match knee {
        Some(knee) => {
            lines.push(format!(
                "the step: {} connections are half of the {} ports of the range. From",
                units::count(knee),
                units::count(size)
            ));
            let times = super::curve::step(&curve.points)
                .map_or_else(String::new, |times| format!(", {times:.0} times as long"));
            lines.push(format!(
                "there on every search walks all of that half in vain first{times}."
            ));
        }
        None if curve.own_range => {
            lines.push(
                "no step: within IP_LOCAL_PORT_RANGE this kernel goes port by port,".to_owned(),
            );
            lines.push("in one pass, without parities (Linux 6.8 and later).".to_owned());
        }
        None => lines.push("no step: half of the range was never taken.".to_owned()),
    }
    if curve.own_range && knee.is_some() {
        lines.push(
            "This kernel has IP_LOCAL_PORT_RANGE, but walks by parities within it,".to_owned(),
        );
        lines.push("too: that ends with Linux 6.8.".to_owned());
    }
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
    use super::*;

    fn check(own: Held, report: Held, wrong: &[&str]) -> Check {
        Check {
            processes: vec![ProcessCheck {
                pid: 7,
                comm: "app".to_owned(),
                own,
                report: Some(report),
                accused_of: report.unbound + report.bound,
                failed: 3,
                reported_failed: Some(4),
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
            text.contains("3 calls failed, sockleak says 4: DIFFERENT"),
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
