//! A report's processes against a workload's.

use anyhow::{bail, ensure};
use serde_json::Value;
use sockleak::sanitize::printable;

use crate::workload::{Phase, Truth};

/// The row of a process; `None` when the report does not have it.
pub(super) fn row(report: &Value, pid: u32) -> Option<&Value> {
    let rows = report["processes"].as_array()?;
    rows.iter().find(|row| row["pid"] == pid)
}

/// The report says of every process of the workload what the workload says.
pub(super) fn holdings(report: &Value, phase: &Phase) -> anyhow::Result<()> {
    for truth in &phase.processes {
        process(report, truth, phase.netns)?;
    }
    Ok(())
}

fn process(report: &Value, truth: &Truth, netns: u32) -> anyhow::Result<()> {
    let pid = truth.pid;
    let Some(row) = row(report, pid) else {
        ensure!(truth.total() == 0, "pid {pid} is not reported: {truth:?}");
        return Ok(());
    };
    let expected = [
        ("total", truth.total()),
        ("unbound", truth.unbound),
        ("bound", truth.bound),
        ("listen", truth.listen),
        ("connecting", 0),
        ("established", truth.established),
        ("close_wait", truth.close_wait),
        ("closing", truth.closing),
        ("shared", truth.shared),
    ];
    for (class, count) in expected {
        if row[class] != count {
            bail!(
                "pid {pid} has {count} {class}, reported {}: {truth:?}",
                row[class]
            );
        }
    }
    if truth.total() > 0 {
        let comm = printable(&truth.comm);
        ensure!(
            row["comm"] == comm,
            "pid {pid} is {comm}, reported {}",
            row["comm"]
        );
        ensure!(
            row["netns"] == netns,
            "pid {pid} is in {netns}, reported {}",
            row["netns"]
        );
    }
    Ok(())
}
