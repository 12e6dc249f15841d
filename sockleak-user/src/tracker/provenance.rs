//! Where the sockets of a leak come from, in the words of reports.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::groups::Group;
use super::origins::{Far, Origin};
use crate::model::Arrange as _;
use crate::model::{Ending, ProcessId, Stack, TcpState};
use crate::report::{After, LeakClass, LeakOrigin, errno_name};

/// Origins that a report lists for one leak.
const LISTED: usize = 5;

const ECONNREFUSED: u16 = 111;
const ECONNRESET: u16 = 104;
const EPIPE: u16 = 32;
const ETIMEDOUT: u16 = 110;

/// A stack with names, or why it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedStack {
    /// Frames as they are shown, innermost first.
    pub frames: Vec<String>,
    /// Why names are missing.
    pub unnamed: Option<String>,
}

/// Stacks that have been looked up, by process and key in the kernel's map.
pub type NamedStacks = HashMap<(ProcessId, u32), NamedStack>;

/// What there is to say about [`Origin`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pasts<'a> {
    /// How connections have ended, by the hash that sockets refer to; `None` when no hook sees it.
    pub endings: Option<&'a HashMap<u32, Ending>>,
    /// Whether port searches of connect() are seen.
    pub connects: bool,
    /// Stacks.
    pub stacks: Option<&'a NamedStacks>,
}

/// What had happened to sockets of this class and origin, its errno and the peer.
pub(super) fn after(
    class: LeakClass,
    origin: Origin,
    pasts: Pasts<'_>,
) -> (After, Option<u16>, Option<String>) {
    if class == LeakClass::CloseWait && (origin.past.ending == 0 || origin.far.is_some()) {
        let peer = match origin.far {
            Some(Far::Server(peer)) => Some(peer.to_string()),
            Some(Far::ClientOf(_) | Far::Attempt(_) | Far::Former(_)) | None => None,
        };
        return (After::PeerClosed, None, peer);
    }
    // Nothing but the socket itself has told it; why, it does not say.
    match origin.far {
        Some(Far::Attempt(ip)) if origin.past.ending == 0 => {
            return (After::ConnectFailed, None, Some(ip.to_string()));
        }
        Some(Far::Former(peer)) if origin.past.ending == 0 => {
            return (After::ConnectionFailed, None, Some(peer.to_string()));
        }
        _ => {}
    }
    let Some(endings) = pasts.endings else {
        return (unseen(class), None, None);
    };
    if origin.past.ending != 0 {
        let id = origin.past.ending;
        let Some(ending) = endings.get(&id).copied().or_else(|| Ending::of_id(id)) else {
            return (After::Unknown, None, None);
        };
        let attempt = ending.state == TcpState::SynSent;
        let after = match ending.errno {
            _ if ending.state == TcpState::Close => After::BindFailed,
            ECONNREFUSED if attempt => After::ConnectRefused,
            ETIMEDOUT if attempt => After::ConnectTimedOut,
            _ if attempt => After::ConnectFailed,
            ECONNRESET | EPIPE => After::PeerReset,
            _ => After::ConnectionFailed,
        };
        let peer = ending.peer.map(|peer| peer.to_string());
        return (after, Some(ending.errno), peer);
    }
    let after = match class {
        LeakClass::CloseWait => After::PeerClosed,
        _ if origin.past.tried => After::ConnectionEnded,
        LeakClass::Bound => After::BoundOnly,
        LeakClass::Unbound if origin.seen && pasts.connects => After::NeverUsed,
        LeakClass::Unbound => After::Unknown,
    };
    (after, None, None)
}

fn unseen(class: LeakClass) -> After {
    match class {
        LeakClass::Bound => After::BoundOnly,
        LeakClass::CloseWait => After::PeerClosed,
        LeakClass::Unbound => After::Unknown,
    }
}

/// All that a report says about where the sockets of `group` come from.
#[derive(Debug)]
pub(super) struct Provenance {
    /// Most frequent first; not more than a report lists.
    pub(super) origins: Vec<LeakOrigin>,
    /// Sockets whose origin is not in the list.
    pub(super) others: u64,
    /// Sockets with a stack.
    pub(super) stacked: u64,
}

impl Provenance {
    pub(super) fn of(group: &Group, pasts: Pasts<'_>, now_ns: u64) -> Self {
        let process = group.key.process;
        let mut merged: Vec<Merged> = Vec::new();
        let mut places: HashMap<Label, usize> = HashMap::new();
        let mut stacked = 0;
        for (origin, tally) in &group.tally.origins {
            if tally.aged == 0 {
                continue;
            }
            if origin.is_stacked() {
                stacked += tally.aged;
            }
            let label = Label {
                after: after(group.key.class, *origin, pasts),
                stack: named(process, *origin, pasts),
            };
            let index = *places.entry(label.clone()).or_insert_with(|| {
                merged.push(Merged::new(label));
                merged.len() - 1
            });
            if let Some(one) = merged.get_mut(index) {
                one.count += tally.aged;
                one.since_ns = one.since_ns.into_iter().chain(tally.since_ns).min();
                let rate = (group.origins.get(origin)).and_then(|one| one.window.rate_per_min());
                one.rate = one.rate.zip(rate).map(|(sum, rate)| sum + rate);
            }
        }
        merged.arrange_by_key(|one| Reverse(one.count));
        let others = merged.iter().skip(LISTED).map(|one| one.count).sum();
        merged.truncate(LISTED);
        Self {
            origins: merged.into_iter().map(|one| one.report(now_ns)).collect(),
            others,
            stacked,
        }
    }

    /// What had happened to the sockets, whatever their stacks; most frequent first.
    pub(super) fn fates(&self) -> Vec<Fate<'_>> {
        let mut fates: Vec<Fate<'_>> = Vec::new();
        for origin in &self.origins {
            let same = |fate: &&mut Fate<'_>| {
                let one = fate.origin;
                (one.after, &one.errno, &one.peer) == (origin.after, &origin.errno, &origin.peer)
            };
            if let Some(fate) = fates.iter_mut().find(same) {
                fate.count += origin.count;
                fate.rate = fate.rate.zip(origin.rate_per_min).map(|(a, b)| a + b);
                continue;
            }
            fates.push(Fate {
                origin,
                count: origin.count,
                rate: origin.rate_per_min,
            });
        }
        fates.arrange_by_key(|fate| Reverse(fate.count));
        fates
    }

    /// What had happened to most of the sockets.
    pub(super) fn mostly(&self) -> (After, Option<String>, Option<String>) {
        let fates = self.fates();
        fates.first().map_or((After::Unknown, None, None), |fate| {
            let one = fate.origin;
            (one.after, one.errno.clone(), one.peer.clone())
        })
    }

    /// The most frequent stack.
    pub(super) fn stack(&self) -> Option<Vec<String>> {
        self.origins.iter().find_map(|origin| origin.stack.clone())
    }
}

/// Sockets to which the same had happened, wherever they were created.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate<'a> {
    /// One of their origins.
    pub(super) origin: &'a LeakOrigin,
    pub(super) count: u64,
    /// Growth per minute.
    pub(super) rate: Option<f64>,
}

type Happened = (After, Option<u16>, Option<String>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Label {
    after: Happened,
    stack: StackLabel,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum StackLabel {
    None,
    /// Wanted, and the kernel could not give it.
    Failed,
    /// Taken, and not looked up (yet).
    Pending,
    Named(Vec<String>, Option<String>),
}

fn named(process: ProcessId, origin: Origin, pasts: Pasts<'_>) -> StackLabel {
    match origin.past.stack {
        Stack::None => StackLabel::None,
        Stack::Failed => StackLabel::Failed,
        Stack::Id(id) => match pasts.stacks.and_then(|all| all.get(&(process, id))) {
            Some(stack) => StackLabel::Named(stack.frames.clone(), stack.unnamed.clone()),
            None => StackLabel::Pending,
        },
    }
}

struct Merged {
    label: Label,
    count: u64,
    since_ns: Option<u64>,
    /// `None` as soon as that of one part is not known.
    rate: Option<f64>,
}

impl Merged {
    fn new(label: Label) -> Self {
        Self {
            label,
            count: 0,
            since_ns: None,
            rate: Some(0.0),
        }
    }

    fn report(self, now_ns: u64) -> LeakOrigin {
        let (after, errno, peer) = self.label.after;
        let (stack, unnamed) = match self.label.stack {
            StackLabel::None => (None, None),
            StackLabel::Failed => (None, Some("the kernel could not take the stack".to_owned())),
            StackLabel::Pending => (None, Some("the stack is still being looked up".to_owned())),
            StackLabel::Named(frames, why) => ((!frames.is_empty()).then_some(frames), why),
        };
        LeakOrigin {
            after,
            errno: errno.map(errno_name),
            peer,
            count: self.count,
            oldest_age_s: (self.since_ns).map(|since| now_ns.saturating_sub(since) as f64 / 1e9),
            rate_per_min: self.rate,
            stack,
            unnamed,
        }
    }
}
