//! Whether a CLOSED socket holds a port: pure decisions.

use crate::model::SocketClass;
use crate::report::words::counted;

/// What a CLOSED socket that names a port turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Unbound or bound.
    pub class: SocketClass,
    /// It is known, not guessed.
    pub certain: bool,
}

/// Decides about a CLOSED socket whose getsockname() gives a port.
///
/// getsockname() reads `inet_sport`, which keeps its value when the port is given back
/// (`__inet_put_port` clears only `inet_num`): after ECONNREFUSED, a RST or a whole connection
/// the socket still names a port that it no longer holds. `listed` is whether sock_diag lists it
/// among the CLOSED sockets that own a bind bucket; `None` where that cannot be asked (kernels
/// before 6.8, or no way into its network namespace).
///
/// Unlisted, a socket that never connected has its port from bind() and holds it. One that did
/// connect has given it back unless it was bound to an explicit port (SOCK_BINDPORT_LOCK), which
/// clients rarely do.
pub(super) fn closed_with_port(listed: Option<bool>, was_connected: bool) -> Verdict {
    let (is_bound, certain) = match (listed, was_connected) {
        (Some(listed), _) => (listed, true),
        (None, false) => (true, true),
        (None, true) => (false, false),
    };
    let class = if is_bound {
        SocketClass::Bound
    } else {
        SocketClass::Unbound
    };
    Verdict { class, certain }
}

/// The sentences of [`super::Outcome::incomplete`].
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Processes that may not be looked at: pid and printable name.
    pub denied: Vec<(u32, String)>,
    /// Processes that failed otherwise: pid, name, error.
    pub failed: Vec<(u32, String, String)>,
    /// Other users' processes are not even listed.
    pub hidden: bool,
    /// Processes with threads that could not be compared, and why.
    pub uncompared: Option<(u64, String)>,
    /// CLOSED sockets that could not be asked for their port, in how many processes, and why.
    pub unasked: Option<(u64, u64, String)>,
    /// Sockets whose port is guessed to be given back.
    pub guessed: u64,
    /// Network namespaces of such sockets that could not be dumped: inode and why.
    pub undumped: Vec<(u32, String)>,
    /// sock_diag messages that were not understood.
    pub malformed: u64,
}

impl Gaps {
    pub fn sentences(&self) -> Vec<String> {
        let mut all = Vec::new();
        if !self.denied.is_empty() {
            all.push(format!(
                "{} may not be read: {}; that takes CAP_SYS_PTRACE in their user namespace (root on \
                 the host)",
                counted(self.denied.len() as u64, "process"),
                some(
                    self.denied
                        .iter()
                        .map(|(pid, name)| format!("{name} ({pid})"))
                ),
            ));
        }
        if self.hidden {
            all.push("/proc hides the processes of other users (hidepid); run as root".to_owned());
        }
        if !self.failed.is_empty() {
            let failed = self.failed.iter();
            all.push(format!(
                "{} could not be read: {}",
                counted(self.failed.len() as u64, "process"),
                some(failed.map(|(pid, name, error)| format!("{name} ({pid}): {error}"))),
            ));
        }
        if let Some((processes, error)) = &self.uncompared {
            all.push(format!(
                "threads of {} were not checked for descriptor tables of their own: kcmp(): \
                 {error}",
                counted(*processes, "process"),
            ));
        }
        if let Some((sockets, processes, error)) = &self.unasked {
            all.push(format!(
                "{} of {} could not be asked for a port and count as unbound: pidfd_getfd(): \
                 {error}; run as root (CAP_SYS_PTRACE)",
                counted(*sockets, "CLOSED socket"),
                counted(*processes, "process"),
            ));
        }
        if self.guessed > 0 {
            let why = match self.undumped.first() {
                Some((inode, error)) => format!("network namespace {inode}: {error}"),
                None => "sock_diag lists such sockets from Linux 6.8 on".to_owned(),
            };
            all.push(format!(
                "{} that had been connected may still hold a port and count as unbound: {why}",
                counted(self.guessed, "CLOSED socket"),
            ));
        }
        if self.malformed > 0 {
            all.push(format!(
                "{} of sock_diag were not understood",
                counted(self.malformed, "message"),
            ));
        }
        all
    }
}

/// The first few and how many more there are.
fn some(items: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let more = items.len().saturating_sub(SHOWN);
    let mut list = items.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_decides() {
        for was_connected in [false, true] {
            let listed = closed_with_port(Some(true), was_connected);
            assert_eq!((listed.class, listed.certain), (SocketClass::Bound, true));
            let unlisted = closed_with_port(Some(false), was_connected);
            assert_eq!(
                (unlisted.class, unlisted.certain),
                (SocketClass::Unbound, true)
            );
        }
    }

    #[test]
    fn without_a_list_history_decides() {
        let fresh = closed_with_port(None, false);
        assert_eq!((fresh.class, fresh.certain), (SocketClass::Bound, true));
        let spent = closed_with_port(None, true);
        assert_eq!((spent.class, spent.certain), (SocketClass::Unbound, false));
    }

    #[test]
    fn nothing_missing_nothing_said() {
        assert_eq!(Gaps::default().sentences(), Vec::<String>::new());
    }

    #[test]
    fn every_gap_is_said() {
        let gaps = Gaps {
            denied: (1..=7).map(|pid| (pid, format!("p{pid}"))).collect(),
            failed: vec![(9, "odd".to_owned(), "I/O error".to_owned())],
            hidden: true,
            uncompared: Some((2, "ENOSYS".to_owned())),
            unasked: Some((10, 1, "EPERM".to_owned())),
            guessed: 3,
            undumped: vec![],
            malformed: 1,
        };
        assert_eq!(
            gaps.sentences(),
            [
                "7 processes may not be read: p1 (1), p2 (2), p3 (3), p4 (4), p5 (5) and 2 more; \
                 that takes CAP_SYS_PTRACE in their user namespace (root on the host)",
                "/proc hides the processes of other users (hidepid); run as root",
                "1 process could not be read: odd (9): I/O error",
                "threads of 2 processes were not checked for descriptor tables of their own: \
                 kcmp(): ENOSYS",
                "10 CLOSED sockets of 1 process could not be asked for a port and count as \
                 unbound: pidfd_getfd(): EPERM; run as root (CAP_SYS_PTRACE)",
                "3 CLOSED sockets that had been connected may still hold a port and count as \
                 unbound: sock_diag lists such sockets from Linux 6.8 on",
                "1 message of sock_diag were not understood",
            ]
        );
    }
}
