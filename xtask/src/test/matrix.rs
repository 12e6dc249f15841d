//! The kernel matrix: `vmtest` in a guest of every kernel, three guests at a time.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    BRIEF, Options,
    count::{GuestTest, Tally, guest_result},
    table::Row,
};
use crate::{
    cmd::note,
    frame::Kind,
    guest,
    initramfs::Content,
    kernel::Kernel,
    qemu::{Machine, Qemu},
    vm,
};

/// Guests at once. Each has two processors, and the machines this runs on have two cores: guests that wait leave
/// theirs to the others. A whole run used 63 of 82 core-minutes.
const AT_ONCE: usize = 3;

/// Static programs for the guests.
pub struct Programs {
    /// The guest's init.
    pub init: PathBuf,
    /// sockleak itself.
    pub sockleak: PathBuf,
    /// The tests.
    pub vmtest: PathBuf,
}

/// Runs the guests; rows come back in the order of `kernels`.
pub fn run(
    root: &Path,
    qemu: &Qemu,
    kernels: &[Kernel],
    programs: &Programs,
    options: &Options,
) -> Vec<Row> {
    let rows = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    // What takes longest begins first, so that nothing long is left over for the end.
    let mut order: Vec<usize> = (0..kernels.len()).rev().collect();
    order.sort_by_key(|at| {
        kernels
            .get(*at)
            .map(|kernel| options.shortened(&kernel.series) == Some(BRIEF))
    });
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(kernels.len()) {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let Some(at) = order.get(turn).copied() else {
                        return;
                    };
                    let Some(kernel) = kernels.get(at) else {
                        return;
                    };
                    note(format!("booting {} for vmtest", kernel.release));
                    let row = one(root, qemu, kernel, programs, options);
                    if let Ok(mut rows) = rows.lock() {
                        rows.insert(at, row);
                    }
                }
            });
        }
    });
    rows.into_inner()
        .unwrap_or_default()
        .into_values()
        .collect()
}

fn one(root: &Path, qemu: &Qemu, kernel: &Kernel, programs: &Programs, options: &Options) -> Row {
    let mut row = Row::new(&kernel.series, &kernel.release);
    if let Err(error) = guest(root, qemu, kernel, programs, options, &mut row) {
        *row.tallies.entry("other").or_default() += Tally::one(false);
        row.failures.push(format!("{error:#}"));
        eprintln!("[{}] {error:#}", kernel.series);
    }
    row
}

fn guest(
    root: &Path,
    qemu: &Qemu,
    kernel: &Kernel,
    programs: &Programs,
    options: &Options,
    row: &mut Row,
) -> Result<()> {
    let mut command = vec!["/bin/vmtest".to_owned()];
    command.extend(options.shortened(&kernel.series).map(str::to_owned));
    let timeout = Duration::from_secs(options.timeout);
    let content = Content {
        init: programs.init.clone(),
        command,
        env: vm::ENV.into_iter().map(str::to_owned).collect(),
        files: vec![
            (programs.vmtest.clone(), "/bin/vmtest".into()),
            (programs.sockleak.clone(), "/bin/sockleak".into()),
        ],
        complete: Vec::new(),
        modules: Vec::new(),
    };
    let machine = Machine {
        smp: 2,
        mem: "2G".into(),
        icount: false,
        append: String::new(),
    };
    let mut lines = Lines {
        series: &kernel.series,
        pending: BTreeMap::new(),
        log: String::new(),
        row,
        end: None,
    };
    let outcome = guest::run(qemu, kernel, &machine, &content, timeout, |kind, bytes| {
        lines.take(kind, bytes)
    });
    lines.finish();
    let (end, log) = (lines.end, std::mem::take(&mut lines.log));
    let place = root.join("target/vm");
    fs::create_dir_all(&place)?;
    let file = place.join(format!("{}.log", kernel.series));
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            fs::write(&file, format!("{log}\n{error:#}\n"))?;
            return Err(error).context(format!("the whole output is in {}", file.display()));
        }
    };
    fs::write(
        &file,
        format!("{log}\n--- kernel log ---\n{}", outcome.kernel_log),
    )?;
    row.seconds = (outcome.boot.as_secs_f64(), outcome.total.as_secs_f64());
    outcome.sound(kernel)?;
    let Some(end) = end else {
        bail!(
            "vmtest ended with status {} before its last line",
            outcome.status
        );
    };
    let counted = row.total();
    if end != counted {
        bail!("vmtest says {end:?} but printed lines for {counted:?}");
    }
    if (outcome.status == 0) != (counted.failed == 0) {
        bail!(
            "vmtest ended with status {} but {} of its tests failed",
            outcome.status,
            counted.failed
        );
    }
    if counted.passed == 0 {
        bail!("no test passed in the guest, so nothing was tested");
    }
    Ok(())
}

/// Splits the two streams into lines, prints each under the kernel's name, counts verdicts.
struct Lines<'a> {
    series: &'a str,
    pending: BTreeMap<u8, Vec<u8>>,
    log: String,
    row: &'a mut Row,
    end: Option<Tally>,
}

impl Lines<'_> {
    fn take(&mut self, kind: Kind, bytes: &[u8]) {
        let stream = u8::from(kind == Kind::Stderr);
        let pending = self.pending.entry(stream).or_default();
        pending.extend_from_slice(bytes);
        while let Some(at) = self
            .pending
            .get(&stream)
            .and_then(|text| text.iter().position(|byte| *byte == b'\n'))
        {
            let Some(pending) = self.pending.get_mut(&stream) else {
                return;
            };
            let rest = pending.split_off(at + 1);
            let line = std::mem::replace(pending, rest);
            self.line(stream, String::from_utf8_lossy(&line).trim_end());
        }
    }

    fn finish(&mut self) {
        for (stream, rest) in std::mem::take(&mut self.pending) {
            if !rest.is_empty() {
                self.line(stream, &String::from_utf8_lossy(&rest));
            }
        }
    }

    fn line(&mut self, stream: u8, line: &str) {
        let _ = writeln!(self.log, "{line}");
        println!("[{}] {line}", self.series);
        if stream != 0 {
            return;
        }
        if let Some(test) = GuestTest::parse(line) {
            *self.row.tallies.entry(test.backend()).or_default() += test.tally;
            if test.tally.skipped > 0 {
                self.row.skips.push(line.to_owned());
            } else if test.tally.failed > 0 {
                self.row.failures.push(line.to_owned());
            }
        }
        if let Some(end) = guest_result(line) {
            self.end = Some(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_however_they_arrive_and_stderr_does_not_count() {
        let mut row = Row::new("6.1", "6.1.0");
        let mut lines = Lines {
            series: "6.1",
            pending: BTreeMap::new(),
            log: String::new(),
            row: &mut row,
            end: None,
        };
        lines.take(Kind::Stdout, b"PASS fen");
        lines.take(Kind::Stderr, b"FAIL kprobe/not a verdict\n");
        lines.take(
            Kind::Stdout,
            b"try/a\nSKIP kprobe/b: why\nvmtest: 1 passed, 0 failed, 1 skipped",
        );
        lines.finish();
        assert_eq!(
            lines.end,
            Some(Tally {
                passed: 1,
                failed: 0,
                skipped: 1
            })
        );
        assert_eq!(
            row.total(),
            Tally {
                passed: 1,
                failed: 0,
                skipped: 1
            }
        );
        assert_eq!(row.skips, ["SKIP kprobe/b: why"]);
        assert!(row.failures.is_empty());
    }
}
