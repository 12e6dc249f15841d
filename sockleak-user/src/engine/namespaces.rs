//! Port settings of the network namespaces that sockets live in.

use crate::{
    model::NamespacePorts,
    source::netns::{self, Namespaces, NetnsError, NetnsHandle},
    tracker::Census,
};

/// Namespaces that are looked into at most; a host may have thousands.
const MOST: usize = 256;

/// Settings and TIME_WAIT of every namespace in the census, and what could not be read.
pub fn ports(census: &Census) -> (Vec<NamespacePorts>, Vec<String>) {
    let wanted: Vec<u32> = census
        .namespaces()
        .iter()
        .filter_map(|used| used.netns)
        .collect();
    let namespaces = known(census);
    let mut found = Vec::new();
    let mut gaps = Vec::new();
    for inode in wanted.iter().copied().take(MOST) {
        let read = namespaces
            .open(inode)
            .and_then(|handle| netns::ports(&handle));
        match read {
            Ok(ports) => found.push(ports),
            Err(error) => gaps.push(error.to_string()),
        }
    }
    if wanted.len() > MOST {
        gaps.push(format!(
            "{} network namespaces have sockets; the ports of {MOST} were read",
            wanted.len()
        ));
    }
    (found, gaps)
}

/// The namespace with this inode number, if a mount or a process of the census leads there.
///
/// # Errors
/// When none does, or it cannot be opened.
pub fn open(census: &Census, inode: u32) -> Result<NetnsHandle, NetnsError> {
    known(census).open(inode)
}

fn known(census: &Census) -> Namespaces {
    let mut namespaces = Namespaces::default();
    namespaces.add_mounts();
    for holding in census.holdings() {
        if let Some(netns) = netns_of(holding.process.pid) {
            namespaces.add_process(netns, holding.process.pid);
        }
    }
    namespaces
}

fn netns_of(pid: u32) -> Option<u32> {
    crate::source::pid_dir::PidDir::open(pid).ok()?.netns().ok()
}
