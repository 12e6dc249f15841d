//! The incidents with their remedies applied: what failed does not fail any more.

use super::actor::{DemoError, Launcher};
use super::{Running, bind_early, orphans, reuse_theft, time_wait};

/// An incident with a remedy applied in its namespace. For tests that a remedy which sockleak
/// prints is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedied {
    /// `time-wait` with net.ipv4.tcp_tw_reuse = 1 from the beginning.
    TimeWaitReuse,
    /// `time-wait` with a wider net.ipv4.ip_local_port_range.
    WiderRange,
    /// `bind-early` with IP_BIND_ADDRESS_NO_PORT.
    BindLate,
    /// `reuse-theft` with an agent whose ports are outside of the range.
    PortsElsewhere,
    /// `orphans` with SO_LINGER {1, 0}.
    OrphansReset,
    /// `orphans` with TCP_USER_TIMEOUT.
    OrphansTimeOut,
}

impl Remedied {
    /// Starts it, as [`super::Scenario::start`].
    ///
    /// # Errors
    /// As there.
    pub fn start(self, launcher: &Launcher) -> Result<Running, DemoError> {
        match self {
            Self::TimeWaitReuse => time_wait::with_reuse(launcher),
            Self::WiderRange => time_wait::with_wider_range(launcher),
            Self::BindLate => bind_early::stage(launcher, true),
            Self::OrphansReset => orphans::with_linger(launcher),
            Self::OrphansTimeOut => orphans::with_user_timeout(launcher),
            Self::PortsElsewhere => reuse_theft::stage(launcher, [42000, 42999]),
        }
    }
}
