//! Every demo, held one after the other, and what `diagnose` says of it.
//!
//! Only when asked for: where the processor is emulated an incident of 40,000 sockets takes minutes to come about.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::agent;
use super::diagnose::Held;
use super::setting::Setting;
use super::suite::{Outcome, Suite};

/// A demo and what it has to be called.
struct Demo {
    name: &'static str,
    /// Id of the findings that blame; none for a healthy one.
    id: Option<&'static str>,
    /// Who is blamed.
    culprits: &'static [&'static str],
    /// Who has the same before Linux 6.8, where IP_LOCAL_PORT_RANGE leaves the search its two parities.
    before_6_8: &'static [&'static str],
    /// Blaming nobody is right, too: what is there may be older than the diagnosis, or of many.
    anonymous: bool,
}

const DEMOS: [Demo; 9] = [
    known(
        "closed-leak",
        "closed_leak",
        &["log-collector", "monitor-agent", "cron-helper"],
    ),
    known("bound-leak", "bound_leak", &["app"]),
    known("refused-leak", "refused_leak", &["channel-manager"]),
    Demo {
        anonymous: true,
        ..known("orphans", "orphan_pressure", &["httpdns"])
    },
    Demo {
        anonymous: true,
        ..known("time-wait", "time_wait_pressure", &[])
    },
    Demo {
        before_6_8: &["gateway-ranged"],
        ..known("parity", "parity_search", &["gateway"])
    },
    known("bind-early", "bind_before_connect", &["proxy"]),
    known("reuse-theft", "reuse_bound_ports", &["agent"]),
    Demo {
        name: "healthy",
        id: None,
        culprits: &[],
        before_6_8: &[],
        anonymous: false,
    },
];

const fn known(name: &'static str, id: &'static str, culprits: &'static [&'static str]) -> Demo {
    Demo {
        name,
        id: Some(id),
        culprits,
        before_6_8: &[],
        anonymous: false,
    }
}

pub(super) fn run(setting: &Setting, suite: &mut Suite) {
    for demo in &DEMOS {
        suite.test(&format!("demos/{}", demo.name), || diagnosed(setting, demo));
    }
}

fn diagnosed(setting: &Setting, demo: &Demo) -> anyhow::Result<Outcome> {
    let held = Held::wait(Held::start(setting, demo.name)?)?;
    // Elsewhere others may have incidents of their own.
    let inhabitant = held.anybody()?.to_string();
    let mut arguments = vec!["diagnose", "--json", "-d", "3"];
    if !setting.guest {
        arguments.extend(["--netns", &inhabitant]);
    }
    let diagnosis = agent::object(setting, &arguments)?;
    judged(setting, &diagnosis, demo, &held).with_context(|| diagnosis["findings"].to_string())?;
    Ok(Outcome::Pass)
}

/// The first finding is the right one, and everything else blames the same or follows from it.
fn judged(setting: &Setting, diagnosis: &Value, demo: &Demo, held: &Held) -> anyhow::Result<()> {
    let findings = diagnosis["findings"].as_array().context("no findings")?;
    let Some(id) = demo.id else {
        ensure!(findings.is_empty(), "the healthy are accused");
        ensure!(diagnosis["healthy"] == true, "the healthy are not healthy");
        return Ok(());
    };
    let culprits = (demo.culprits.iter().map(|comm| held.pid(comm)))
        .collect::<anyhow::Result<Vec<&Value>>>()?;
    let too = match setting.kernel < (6, 8) {
        true => demo.before_6_8,
        false => &[],
    };
    let too = (too.iter().map(|comm| held.pid(comm))).collect::<anyhow::Result<Vec<&Value>>>()?;
    let (roots, others): (Vec<&Value>, Vec<&Value>) =
        findings.iter().partition(|one| one["caused_by"].is_null());
    let first = findings.first().context("nothing was found")?;
    ensure!(first["id"] == *id, "{} comes first", first["id"]);
    for root in &roots {
        let pid = &root["pid"];
        let blamed =
            culprits.contains(&pid) || too.contains(&pid) || demo.anonymous && pid.is_null();
        ensure!(root["id"] == *id && blamed, "nobody has this: {root}");
    }
    for other in others {
        let pid = &other["pid"];
        ensure!(
            other["caused_by"]["id"] == *id && (pid.is_null() || held.has(pid)),
            "nobody has this: {other}"
        );
    }
    for culprit in culprits {
        let named = roots.iter().any(|root| root["pid"] == *culprit);
        ensure!(named || demo.anonymous, "{culprit} is not blamed");
    }
    Ok(())
}
