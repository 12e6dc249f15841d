//! `sockleak ports` against scenes whose every port is known, in private network namespaces.
//! Needs root (CAP_SYS_ADMIN).
//!
//! Scenes assert, so that a failure shows the whole report; [`Scene::play`] makes an error of it.

mod compare;
mod incident;
mod known;
mod place;
mod rules;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::AddressFamily;
use rustix::thread::UnshareFlags;
use serde_json::Value;
use sockleak::demo::loopback_up;

use crate::schema::validate;
use place::Addresses;

/// What to test with.
#[derive(Clone, Debug)]
pub struct Looker {
    /// The sockleak under test.
    pub sockleak: PathBuf,
    /// A program that plays the demos' actors.
    pub actors: PathBuf,
}

/// A scene by name.
#[derive(Clone, Copy)]
pub struct Scene {
    /// What it is about.
    pub name: &'static str,
    play: fn(&Looker),
}

/// All of them.
pub const SCENES: [Scene; 10] = [
    Scene {
        name: "ipv4-from-an-even-port",
        play: |looker| compare::play(looker, AddressFamily::INET, (41_000, 41_399)),
    },
    Scene {
        name: "ipv4-from-an-odd-port",
        play: |looker| compare::play(looker, AddressFamily::INET, (41_001, 41_400)),
    },
    Scene {
        name: "ipv6",
        play: |looker| compare::play(looker, AddressFamily::INET6, (42_000, 42_199)),
    },
    Scene {
        name: "stolen-port",
        play: rules::a_stolen_port_is_missing_as_long_as_the_kernel_says,
    },
    Scene {
        name: "time-wait-reuse",
        play: rules::time_wait_is_taken_over_as_often_as_the_report_says,
    },
    Scene {
        name: "orphans",
        play: rules::ports_that_nobody_holds_are_counted_as_such,
    },
    Scene {
        name: "odd-range",
        play: rules::the_ends_of_an_odd_range_come_with_a_warning,
    },
    Scene {
        name: "families",
        play: rules::families_share_ports_where_the_kernel_shares_them,
    },
    Scene {
        name: "sources",
        play: rules::every_source_address_has_a_range_of_its_own,
    },
    Scene {
        name: "more-ports-than-the-range-has",
        play: incident::more_ports_than_the_range_has,
    },
];

impl Scene {
    /// Plays it.
    ///
    /// # Errors
    /// With the assertion that failed.
    pub fn play(&self, looker: &Looker) -> anyhow::Result<()> {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.play)(looker)));
        outcome.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            anyhow::anyhow!(text.unwrap_or_else(|| "it panicked".to_owned()))
        })
    }
}

impl Looker {
    /// From inside the namespace of this thread, or from outside by its path.
    fn ports(&self, arguments: &[&str]) -> Value {
        let output = Command::new(&self.sockleak)
            .arg("ports")
            .args(arguments)
            .args(["--json", "--top", "0"])
            .stderr(Stdio::inherit())
            .output()
            .expect("sockleak can be started");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        validate(&String::from_utf8(output.stdout).expect("UTF-8")).expect("it is valid")
    }
}

/// A child that a neighbouring test starts has this process's descriptors until it executes its
/// program, and would be found to hold them.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `inside` on a thread with a network namespace of its own.
fn in_new_namespace(inside: impl FnOnce() + Send) {
    let _alone = alone();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only CLONE_NEWNET is passed; the descriptor table stays shared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("unshare");
            loopback_up().expect("lo");
            inside();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn set(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value).expect(name);
}

/// Whether the kernel can be asked which connections' ports count as bound. Where it cannot, the
/// report has to say so.
fn knows_buckets(looker: &Looker, at: Addresses) -> bool {
    let listener: TcpListener = at.listener(80).into();
    let _client = TcpStream::connect(at.a).expect("connect");
    let report = looker.ports(&[]);
    let known = !report["bound_connected"].is_null();
    // The iterator sees it on every kernel; /proc on none.
    assert_eq!(known, report["method"] == "bpf", "{report}");
    let limits = report["limits"].to_string();
    assert_eq!(limits.contains("bound before"), !known, "{report}");
    drop(listener);
    known
}
