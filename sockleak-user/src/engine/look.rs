//! One inventory, by the iterator when there is one, by /proc otherwise.

use anyhow::{Context as _, Result};

use super::clock;
use crate::{
    model::{Filter, HeldSocket, Subject},
    probe::{Attached, Hook},
    source::{
        inventory::{bpf, procfs},
        sockstat,
    },
    tracker::{Census, Inventory},
};

/// An inventory and how it went.
pub struct Look {
    /// What it found.
    pub inventory: Inventory,
    /// `bpf` or `proc`.
    pub method: &'static str,
    /// What is missing in it.
    pub incomplete: Vec<String>,
    /// Records from the kernel that made no sense.
    pub undecodable: u64,
    /// How long it took, ns.
    pub took_ns: u64,
}

/// How to look.
pub enum Way<'a> {
    /// By the iterator of the loaded object.
    Iterator(&'a mut Attached),
    /// By /proc, xattr and sock_diag.
    Proc,
}

impl<'a> Way<'a> {
    /// The iterator when it is attached, else /proc.
    pub fn best(attached: &'a mut Attached) -> Self {
        let served = |hook| {
            let outcome = attached
                .outcomes()
                .iter()
                .find(|outcome| outcome.hook == hook);
            outcome.is_some_and(|outcome| outcome.served.is_some())
        };
        if served(Hook::Inventory) {
            Self::Iterator(attached)
        } else {
            Self::Proc
        }
    }
}

/// Looks at every descriptor of every process. Sockets of another family or namespace than the
/// filter asks for are left out of the census; `each` sees all, and whether they are wanted.
pub fn look(
    way: Way<'_>,
    filter: &Filter,
    mut each: impl FnMut(&HeldSocket, bool),
) -> Result<Look> {
    let at_ns = clock::monotonic_ns();
    // So that it does not grow, and move, as it fills.
    let expected = sockstat::read().map_or(0, |sockstat| sockstat.alloc);
    let mut census = Census::expecting(expected);
    // Sockstat counts the whole host, so it is held against the whole host.
    let partial = filter.family.is_some() || filter.netns.is_some();
    let mut whole = partial.then(Census::new);
    let take = |socket: HeldSocket| {
        let wanted = is_wanted(filter, &socket);
        if wanted {
            census.add(&socket);
        }
        if let Some(whole) = &mut whole {
            whole.add(&socket);
        }
        each(&socket, wanted);
    };
    let (method, incomplete, undecodable) = match way {
        Way::Iterator(attached) => {
            let iterator = attached.start_inventory()?;
            let walk = bpf::walk(iterator, take)
                .context("reading the inventory of descriptors from the kernel")?;
            ("bpf", Vec::new(), walk.undecodable)
        }
        Way::Proc => {
            let outcome = procfs::scan(take).context("listing the processes in /proc")?;
            ("proc", outcome.incomplete, 0)
        }
    };
    let took_ns = clock::monotonic_ns().saturating_sub(at_ns);
    let inventory = Inventory {
        at_ns,
        totals: whole.as_ref().unwrap_or(&census).totals(),
        census,
        complete: incomplete.is_empty(),
    };
    Ok(Look {
        inventory,
        method,
        incomplete,
        undecodable,
        took_ns,
    })
}

/// Sockets are filtered by what belongs to them; processes are filtered when they are shown.
fn is_wanted(filter: &Filter, socket: &HeldSocket) -> bool {
    let socket_only = Filter {
        family: filter.family,
        ..Filter::default()
    };
    socket_only.matches(&Subject {
        family: Some(socket.family),
        ..Subject::default()
    }) && filter.netns.is_none_or(|netns| socket.netns == Some(netns))
}
