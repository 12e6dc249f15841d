//! Whom and what to look at.

use super::Family;

/// Which processes and sockets are of interest. An empty filter lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these pids; empty means all.
    pub pids: Vec<u32>,
    /// This command name exactly, printable, as the kernel keeps it (15 bytes).
    pub comm: Option<String>,
    /// This cgroup or one below it, printable, from the root of its hierarchy, without a slash
    /// at the end; empty means the root and so every cgroup.
    pub cgroup: Option<String>,
    /// Inode number of this network namespace.
    pub netns: Option<u32>,
    /// This address family.
    pub family: Option<Family>,
}

/// What is known about something that may pass. What is not known cannot pass a filter that
/// asks for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The process.
    pub pid: u32,
    /// Its name, printable.
    pub comm: &'a str,
    /// Its cgroup, printable, from the root of its hierarchy.
    pub cgroup: Option<&'a str>,
    /// Network namespace of the socket, or of the process where the question is about it.
    pub netns: Option<u32>,
    /// Family of the socket; `None` when the question is about a process.
    pub family: Option<Family>,
}

impl Filter {
    /// Does it pass?
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let pid = self.pids.is_empty() || self.pids.contains(&subject.pid);
        let comm = self.comm.as_deref().is_none_or(|comm| comm == subject.comm);
        let cgroup = self
            .cgroup
            .as_deref()
            .is_none_or(|above| subject.cgroup.is_some_and(|path| is_within(path, above)));
        let netns = self.netns.is_none_or(|netns| subject.netns == Some(netns));
        let family = match (self.family, subject.family) {
            (Some(wanted), Some(family)) => wanted == family,
            _ => true,
        };
        pid && comm && cgroup && netns && family
    }

    /// Everything passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `/a/b` is within `/a` and `/a/b`, but not within `/a/bc` or `/`'s siblings.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn java() -> Subject<'static> {
        Subject {
            pid: 4684,
            comm: "java",
            cgroup: Some("/system.slice/app.service"),
            netns: Some(4_026_531_840),
            family: Some(Family::V4),
        }
    }

    #[test]
    fn nothing_asked_everything_passes() {
        assert!(Filter::default().matches(&java()));
        assert!(Filter::default().matches(&Subject::default()));
        assert!(Filter::default().is_empty());
    }

    #[test]
    fn each_part_decides_alone() {
        let wanted = Filter {
            pids: vec![1, 4684],
            comm: Some("java".to_owned()),
            cgroup: Some("/system.slice".to_owned()),
            netns: Some(4_026_531_840),
            family: Some(Family::V4),
        };
        assert!(wanted.matches(&java()));
        for other in [
            Subject { pid: 2, ..java() },
            Subject {
                comm: "javac",
                ..java()
            },
            Subject {
                cgroup: Some("/system.slicer/x"),
                ..java()
            },
            Subject {
                netns: Some(1),
                ..java()
            },
            Subject {
                family: Some(Family::V6),
                ..java()
            },
        ] {
            assert!(!wanted.matches(&other), "{other:?}");
        }
    }

    #[test]
    fn the_unknown_does_not_pass_but_a_process_has_no_family() {
        let wanted = Filter {
            cgroup: Some("/a".to_owned()),
            ..Filter::default()
        };
        assert!(!wanted.matches(&Subject {
            cgroup: None,
            ..java()
        }));
        let wanted = Filter {
            netns: Some(1),
            ..Filter::default()
        };
        assert!(!wanted.matches(&Subject {
            netns: None,
            ..java()
        }));
        let wanted = Filter {
            family: Some(Family::V6),
            ..Filter::default()
        };
        assert!(wanted.matches(&Subject {
            family: None,
            ..java()
        }));
    }

    #[test]
    fn the_root_cgroup_holds_all() {
        assert!(is_within("/", ""));
        assert!(is_within("/a", ""));
        assert!(is_within("/a", "/a"));
        assert!(!is_within("/ab", "/a"));
    }
}
