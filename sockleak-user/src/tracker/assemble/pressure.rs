//! Early warnings.

use super::calls::CallsInput;
use crate::model::{Op, ProcessInfo};
use crate::report::{Cause, Holder, PressureReport};
use crate::tracker::pressure::{self, Pressures, Warning};
use crate::tracker::remedy::{self, Trouble};

/// Most processes that a warning names.
const NAMED: usize = 5;

/// Destinations towards which ports get scarce, most calls first; those that a process makes
/// which is to be shown.
pub fn pressures(pressures: &Pressures, input: &CallsInput<'_>) -> Vec<PressureReport> {
    let nobody = ProcessInfo::default();
    let warnings = pressures.warnings().iter().filter(|warning| {
        warning
            .traffic
            .who
            .iter()
            .any(|(id, _)| (input.keep)(id, input.infos.get(&id.process).unwrap_or(&nobody)))
    });
    warnings.map(|warning| report(warning, input)).collect()
}

fn report(warning: &Warning, input: &CallsInput<'_>) -> PressureReport {
    let traffic = &warning.traffic;
    let room = warning.look.as_ref().map(|look| &look.room);
    let (first_p50_ns, second_p50_ns) = traffic.medians_ns();
    let trouble = Trouble {
        range: room.map(|room| room.range),
        time_wait: room.map(|room| room.time_wait.saturating_mul(4) >= room.size.max(1)),
        tw_reuse: warning.look.as_ref().and_then(|look| look.tw_reuse),
        timestamps: warning.look.as_ref().and_then(|look| look.timestamps),
        loopback: warning.route.dst.ip().is_loopback(),
        ..Trouble::new(Op::Connect, Cause::Other)
    };
    PressureReport {
        netns: warning.route.netns,
        src: warning
            .look
            .as_ref()
            .and_then(|look| look.src)
            .map(|src| src.to_string()),
        dst: warning.route.dst.to_string(),
        range: room.map(|room| [room.range.0, room.range.1]),
        size: room.map(pressure::size),
        used: room.map(pressure::used),
        time_wait: room.map(|room| {
            let reusable = room.time_wait_reusable.unwrap_or(0);
            room.time_wait.saturating_sub(reusable)
        }),
        free: room.map(|room| pressure::size(room).saturating_sub(pressure::used(room))),
        age_s: warning.age_s,
        rate_per_s: warning.rate_per_s,
        eta_s: warning.eta_s,
        calls: traffic.calls,
        second_parity: traffic.second_parity_share(),
        first_p50_ns,
        second_p50_ns,
        who: pressure::processes(warning)
            .take(NAMED)
            .map(|(process, count)| Holder {
                pid: process.pid,
                comm: input.comm(process),
                count,
            })
            .collect(),
        meaning: meaning(warning),
        remedy: remedy::of_search(&trouble, input.features),
    }
}

fn meaning(warning: &Warning) -> String {
    let share = warning.traffic.second_parity_share() * 100.0;
    if warning.traffic.second_parity > 0 {
        format!(
            "{share:.0} % of {} searches found no port in the first half of the range and went on \
             to the second: the half that connect() tries first is used up towards this \
             destination",
            warning.traffic.calls
        )
    } else {
        "more than half of the range is used towards this destination, and its use grows".to_owned()
    }
}
