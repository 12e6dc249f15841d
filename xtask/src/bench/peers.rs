//! Other tools that do part of the job, from Debian's packages, to be measured in the same guest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::bundle::Bundle;

/// Where they are in the guest.
const GUEST: &str = "/peers";
/// Names of their runs begin with it; `rounds` waits differently for a tool that prints no JSON.
pub const PREFIX: &str = "peer-";

/// A tool that is measured: its name in the table, the package, the program in it, its argument.
struct Peer {
    name: &'static str,
    package: &'static str,
    program: &'static str,
    script: Option<&'static str>,
}

const PEERS: [Peer; 6] = [
    bpftrace("bpftrace, fentry", include_str!("peers/fentry.bt")),
    bpftrace("bpftrace, kprobe", include_str!("peers/kprobe.bt")),
    libbpf_tool("tcpconnect", "tcpconnect-libbpf"),
    libbpf_tool("tcpconnlat", "tcpconnlat-libbpf"),
    libbpf_tool("tcplife", "tcplife-libbpf"),
    libbpf_tool("tcptracer", "tcptracer-libbpf"),
];

const fn bpftrace(name: &'static str, script: &'static str) -> Peer {
    Peer {
        name,
        package: "bpftrace",
        program: "bpftrace",
        script: Some(script),
    }
}

/// As Debian calls it.
const fn libbpf_tool(name: &'static str, program: &'static str) -> Peer {
    Peer {
        name,
        package: "libbpf-tools",
        program,
        script: None,
    }
}

/// What the guest gets and runs.
#[derive(Default)]
pub struct Peers {
    /// Host path and guest path.
    pub files: Vec<(PathBuf, String)>,
    /// `NAME=PROGRAM ARGUMENT...` for `rounds`.
    pub runs: Vec<String>,
}

/// Names of the rows, in the order of the table.
pub fn names() -> impl Iterator<Item = &'static str> {
    PEERS.iter().map(|peer| peer.name)
}

/// The run of a row.
pub fn run_name(name: &str) -> String {
    format!("{PREFIX}{}", name.replace(", ", "-"))
}

/// Fetches them; `scratch` is where their scripts are written.
pub fn provide(scratch: &Path) -> Result<Peers> {
    let mut peers = Peers::default();
    for peer in &PEERS {
        let bundle = Bundle::provide(peer.package, &[&["trixie"]])?;
        let dir = format!("{GUEST}/{}", peer.package);
        let installed = bundle.program(peer.program)?;
        let (loader, libraries) = bundle.libraries(&installed)?;
        let place = |peers: &mut Peers, host: PathBuf, guest: String| {
            if peers.files.iter().all(|(_, present)| *present != guest) {
                peers.files.push((host, guest));
            }
        };
        place(&mut peers, installed, format!("{dir}/{}", peer.program));
        place(&mut peers, loader, format!("{dir}/ld.so"));
        for library in libraries {
            let name = library
                .file_name()
                .and_then(|name| name.to_str())
                .with_context(|| format!("{} has no name", library.display()))?;
            let guest = format!("{dir}/lib/{name}");
            place(&mut peers, library, guest);
        }
        let run = run_name(peer.name);
        let mut line = format!(
            "{run}={dir}/ld.so --library-path {dir}/lib {dir}/{}",
            peer.program
        );
        if let Some(script) = peer.script {
            let path = scratch.join(format!("{run}.bt"));
            fs::write(&path, script)
                .with_context(|| format!("could not write {}", path.display()))?;
            line += &format!(" {GUEST}/{run}.bt");
            place(&mut peers, path, format!("{GUEST}/{run}.bt"));
        }
        peers.runs.push(line);
    }
    Ok(peers)
}
