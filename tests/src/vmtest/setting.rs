//! Where the tests run and with what.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::WORKLOAD_COMMAND;
use crate::workload::Driver;

/// Where the tests run and with what.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The sockleak under test.
    pub(super) sockleak: PathBuf,
    /// A guest that belongs to us alone (`SOCKLEAK_GUEST`): nobody else makes sockets or loads
    /// programs, and its kernel offers every backend.
    pub(super) guest: bool,
    /// Version of the running kernel, for what a kernel can be asked only by its version.
    pub(super) kernel: (u32, u32),
    /// Sockets per process in the tests that want many.
    pub(super) many: usize,
    /// How long to wait for what should happen at once.
    pub(super) patience: Duration,
}

impl Setting {
    /// Looks around: `$SOCKLEAK`, else `sockleak` next to this program.
    pub(super) fn find() -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("the tests need root for BPF and network namespaces: use sudo");
        }
        let here = std::env::current_exe().context("cannot find the test program")?;
        let sockleak = match std::env::var_os("SOCKLEAK") {
            Some(path) => PathBuf::from(path),
            None => here.with_file_name("sockleak"),
        };
        if !sockleak.is_file() {
            bail!(
                "there is no {}; set SOCKLEAK to the binary",
                sockleak.display()
            );
        }
        let guest = std::env::var_os("SOCKLEAK_GUEST").is_some();
        let many = match std::env::var("SOCKLEAK_MANY") {
            Ok(text) => text.parse().context("SOCKLEAK_MANY is not a number")?,
            Err(_) => 10_000,
        };
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let mut numbers = release
            .split(['.', '-'])
            .map_while(|part| part.parse().ok());
        let kernel = (numbers.next().zip(numbers.next()))
            .with_context(|| format!("cannot understand kernel release {release:?}"))?;
        Ok(Self {
            sockleak,
            guest,
            kernel,
            many,
            patience: Duration::from_secs(if guest { 120 } else { 30 }),
        })
    }

    /// As [`Self::many`], for a test that every backend has: in an emulated guest the numbers are
    /// large with the first of them, and a quarter with the others.
    pub(super) fn many_with(&self, backend: &str) -> usize {
        match self.guest && backend != "fentry" {
            true => self.many / 4,
            false => self.many,
        }
    }

    /// Starts a workload.
    pub(super) fn workload(&self, arguments: &[&str]) -> anyhow::Result<Driver> {
        let here = std::path::Path::new("/proc/self/exe");
        let mut all = vec![WORKLOAD_COMMAND];
        all.extend_from_slice(arguments);
        Driver::start(here, &all)
    }

    /// Waits, in a guest, until nothing is left of what ran before: connections that nobody has
    /// any more, sockets of namespaces that are being taken down. They, or their end, would count
    /// as the next workload's. Gives up after the longest that TCP keeps an orphan; then the
    /// counts tell.
    pub(super) fn quiet(&self) {
        if !self.guest {
            return;
        }
        let mut calm = 0;
        let mut before = None;
        for _ in 0..700 {
            let now = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
            let tcp = now.lines().find(|line| line.starts_with("TCP:"));
            let tcp = tcp.map(ToOwned::to_owned);
            let orphans = tcp.as_ref().is_some_and(|tcp| !tcp.contains("orphan 0 "));
            calm = if orphans || tcp != before {
                0
            } else {
                calm + 1
            };
            if calm == 3 {
                return;
            }
            before = tcp;
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("     note: sockets of earlier workloads still come and go: {before:?}");
    }
}
