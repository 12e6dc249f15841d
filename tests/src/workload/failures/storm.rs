//! Many threads fail at once.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::io::Errno;

use super::super::{Options, Script};
use super::exhausted;
use super::sys;
use super::world::{SERVICE, World};

/// As many as the incident had.
const THREADS: usize = 200;
/// How long.
const TIME: Duration = Duration::from_secs(2);

/// `over`.
pub(super) fn storm(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    sys::set_range(exhausted::RANGE)?;
    let mut world = World::new(options);
    let server = world.server(SERVICE)?;
    world.connect_and_keep(&server, 16)?;
    let begin = Instant::now();
    let failed = thread::scope(|scope| -> anyhow::Result<u64> {
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let socket = world.socket()?;
            let to = server.address;
            let work = move || -> anyhow::Result<u64> {
                let mut failed = 0;
                while begin.elapsed() < TIME {
                    match rustix::net::connect(&socket, &to) {
                        Err(Errno::ADDRNOTAVAIL) => failed += 1,
                        other => bail!("connect gave {other:?}"),
                    }
                }
                Ok(failed)
            };
            threads.push(thread::Builder::new().spawn_scoped(scope, work)?);
        }
        let mut failed = 0;
        for one in threads {
            failed += one.join().ok().context("a thread panicked")??;
        }
        Ok(failed)
    })?;
    (world.ledger).connect_failed(server.address, None, exhausted::fault(), failed)?;
    world.show(script, None)
}
