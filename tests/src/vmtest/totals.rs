//! The `end` line against what the workloads have done.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use serde_json::Value;

use super::compare;
use super::setting::Setting;
use crate::workload::{Phase, Truth};

/// What all workloads of one watch have done together.
#[derive(Debug, Default)]
pub(super) struct Totals {
    allocated: u64,
    children: u64,
    processes: BTreeMap<u32, Truth>,
}

impl Totals {
    /// Adds the last phase of a workload, which has then ended.
    pub(super) fn add(&mut self, last: &Phase) {
        self.allocated += last.allocated.unwrap_or(0);
        self.children += last.children.unwrap_or(0);
        for truth in &last.processes {
            self.processes.insert(truth.pid, truth.clone());
        }
    }

    /// This pid is one of the workloads' processes.
    pub(super) fn has(&self, pid: &Value) -> bool {
        self.processes.keys().any(|own| *pid == *own)
    }

    /// Holds the `end` line against it; all workloads have ended and closed everything.
    pub(super) fn check(&self, setting: &Setting, end: &Value) -> anyhow::Result<()> {
        balanced(setting, end)?;
        if setting.guest {
            // Nobody else makes sockets.
            let destroyed = self.allocated + self.children;
            let expected = [
                ("allocated", self.allocated),
                ("children", self.children),
                ("destroyed", destroyed),
            ];
            for (name, count) in expected {
                ensure!(end[name] == count, "{count} {name}, reported {}", end[name]);
            }
            if !end["accepted"].is_null() {
                let accepted: u64 = self.processes.values().map(|one| one.accepted).sum();
                ensure!(
                    end["accepted"] == accepted,
                    "{accepted} accepted, reported {}",
                    end["accepted"]
                );
            }
        }
        let accepts = !end["accepted"].is_null();
        for truth in self.processes.values() {
            process(end, truth, accepts)?;
        }
        Ok(())
    }
}

/// Births, deaths and the kernel's own count agree.
pub(super) fn balanced(setting: &Setting, end: &Value) -> anyhow::Result<()> {
    let number = |name: &str| end[name].as_i64().unwrap_or(i64::MAX);
    let difference = number("difference");
    let tolerated = if setting.guest {
        0
    } else {
        // Others' sockets come and go while the two counts are read.
        end["difference_uncertainty"].as_i64().unwrap_or(0)
    };
    if difference.abs() > tolerated {
        let difference = end["difference"].to_string();
        bail!(
            "difference {difference} (+-{tolerated}): baseline {}, allocated {}, children {}, \
             destroyed {}, sockstat {}, loss {}",
            end["baseline"],
            end["allocated"],
            end["children"],
            end["destroyed"],
            end["sockstat_alloc"],
            end["loss"]
        );
    }
    Ok(())
}

fn process(end: &Value, truth: &Truth, accepts: bool) -> anyhow::Result<()> {
    let nothing = Value::from(0);
    let row = compare::row(end, truth.pid);
    let reported = |name: &str| row.map_or(&nothing, |row| &row[name]);
    let (pid, comm) = (truth.pid, String::from_utf8_lossy(&truth.comm));
    ensure!(
        *reported("allocated") == truth.allocated,
        "pid {pid} ({comm:?}) created {}, reported {}",
        truth.allocated,
        reported("allocated")
    );
    ensure!(
        !accepts || *reported("accepted") == truth.accepted,
        "pid {pid} ({comm:?}) accepted {}, reported {}",
        truth.accepted,
        reported("accepted")
    );
    Ok(())
}
