//! Short connections to one destination: every port of the range is in TIME_WAIT towards it.

use std::net::SocketAddr;
use std::time::Duration;

use super::actor::{DemoError, Launcher};
use super::role::{Arguments, Role};
use super::traffic::{self, Ending};
use super::{ProcessTruth, Running, Scenario};

pub(super) static SCENARIO: Scenario = Scenario {
    name: "time-wait",
    summary: "short connections of four processes leave all ports towards redis in TIME_WAIT",
    story: "\
Four workers make a new connection to one redis for every request and close it
themselves. Each leaves its port in TIME_WAIT for 60 s, so a range of 4,000
ports sustains 66 connections per second and not more. When it is used up,
connect() of whoever comes next fails with EADDRNOTAVAIL: here `cron`, which
has made no connection at all. Another destination is not affected. The report
must name redis, the failing processes, and who left the TIME_WAIT there.",
    start,
    steps: 0,
};

const RANGE: [u16; 2] = [40000, 43999];

/// On loopback, the default of tcp_tw_reuse (2) would give the ports back after a second, and
/// now and then a late reset would end a TIME_WAIT (tcp_timewait_state_process).
const LIKE_A_NETWORK: [(&str, &str); 2] = [("tcp_tw_reuse", "0"), ("tcp_rfc1337", "1")];

const REDIS: &str = "127.0.0.1:6379";

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    stage(launcher, &LIKE_A_NETWORK, RANGE, 10_000)
}

/// Connections may take ports out of TIME_WAIT: after a second, so the workers take their time.
pub(super) fn with_reuse(launcher: &Launcher) -> Result<Running, DemoError> {
    stage(launcher, &[("tcp_tw_reuse", "1")], RANGE, 400)
}

/// There are twice as many ports.
pub(super) fn with_wider_range(launcher: &Launcher) -> Result<Running, DemoError> {
    let [low, _] = RANGE;
    stage(launcher, &LIKE_A_NETWORK, [low, low + 7999], 10_000)
}

fn stage(
    launcher: &Launcher,
    settings: &[(&str, &str)],
    range: [u16; 2],
    per_second: u32,
) -> Result<Running, DemoError> {
    let mut running = Running::stage_with(launcher, SCENARIO.name, range, settings)?;
    let server = [format!("--listen={REDIS}")];
    running.enter_and_wait(launcher, "counter", "redis", &server)?;
    let other = "127.0.0.1:8080";
    let server = [format!("--listen={other}")];
    running.enter_and_wait(launcher, "counter", "web", &server)?;
    // Each makes a quarter of what the range holds, and a few more.
    let [low, high] = RANGE;
    let quarter = u32::from(high - low).div_ceil(4);
    for worker in 1..=4 {
        let arguments = [
            format!("--to={REDIS}"),
            format!("--most={}", quarter + 10),
            format!("--per-second={per_second}"),
            "--reserve=0".to_owned(),
        ];
        let comm = format!("worker-{worker}");
        running.enter(launcher, "short", &comm, &arguments)?;
    }
    running.wait_for_all()?;
    for (comm, to) in [("cron", REDIS), ("health-check", other)] {
        let arguments = [
            format!("--to={to}"),
            "--most=1000".to_owned(),
            "--per-second=20".to_owned(),
            "--reserve=998".to_owned(),
        ];
        running.enter_and_wait(launcher, "short", comm, &arguments)?;
    }
    Ok(running)
}

/// Makes `--most=N` connections to `--to=ADDRESS`, `--per-second=N`, and closes each at once; of
/// these, `--reserve=N` when its part is complete.
pub(super) struct Short {
    account: ProcessTruth,
    server: SocketAddr,
    left: u64,
    reserve: u64,
    per_tick: u64,
    tick: Duration,
}

impl Short {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let per_second: u64 = arguments.number("per-second")?;
        let server = arguments.number("to")?;
        let mut account = arguments.account("makes short connections", false);
        account.dst = Some(server);
        account.cause = Some("ephemeral_exhausted".to_owned());
        Ok(Self {
            account,
            server,
            left: arguments.number("most")?,
            reserve: arguments.number("reserve")?,
            per_tick: per_second.div_ceil(20),
            tick: Duration::from_millis(50),
        })
    }
}

impl Role for Short {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        for _ in 0..self.per_tick.min(self.left) {
            self.left -= 1;
            let socket = traffic::socket()?;
            self.account.created += 1;
            match traffic::connect(&socket, self.server)? {
                Ending::Done => self.account.connects += 1,
                Ending::NoPort => self.account.failed_connects += 1,
            }
        }
        Ok((self.left > 0).then_some(self.tick))
    }

    fn is_ready(&self) -> bool {
        self.left <= self.reserve
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        Ok(vec![self.account.clone()])
    }
}
