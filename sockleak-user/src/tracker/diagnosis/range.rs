//! Ranges that are too small, whoever uses them.

use super::{About, DiagnosisFacts};
use crate::report::words::count;
use crate::report::{FindingId, FindingReport, Severity};
use crate::tracker::remedy;

pub(super) fn find(facts: &DiagnosisFacts<'_>, _: &[FindingReport]) -> Vec<FindingReport> {
    let rules = facts.rules;
    let mut findings = Vec::new();
    for space in facts.spaces {
        let size = space.size.max(1) as f64;
        let usable = space.usable();
        let why = if space.reserved as f64 >= rules.unusable_share * size {
            format!(
                "{} of its {} ports are in net.ipv4.ip_local_reserved_ports",
                count(space.reserved),
                count(space.size)
            )
        } else if space.bound_listening as f64 >= rules.unusable_share * size {
            format!(
                "listeners have {} of its {} ports",
                count(space.bound_listening),
                count(space.size)
            )
        } else if usable < rules.small_range {
            format!("it has {} ports", count(usable))
        } else {
            continue;
        };
        let (low, high) = space.range;
        let left = usable.saturating_sub(space.bound_listening);
        let is_used = space
            .routes
            .iter()
            .any(|route| route.share() >= rules.unusable_share);
        let mut finding = About {
            id: FindingId::PortRangeMisconfigured,
            severity: if is_used || left == 0 {
                Severity::Warning
            } else {
                Severity::Info
            },
            confidence: 0.9,
            count: left,
            title: format!("the range {low}-{high} of local ports is small: {why}"),
        }
        .finding();
        finding.netns = Some(space.netns);
        finding.evidence.push(format!(
            "that leaves {} connections at a time to one destination, or {:.1} new ones per second \
             while this side closes first (network namespace {})",
            count(left),
            left as f64 / super::capacity::TIME_WAIT_S,
            space.netns
        ));
        finding.remedy.extend(remedy::wider(Some(space.range)));
        if space.bound_listening > 0 {
            finding.remedy.push(
                "let servers listen outside of the range, or reserve their ports \
                 (net.ipv4.ip_local_reserved_ports)"
                    .to_owned(),
            );
        }
        findings.push(finding);
    }
    findings
}
