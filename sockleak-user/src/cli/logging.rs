//! `-v`: what libraries and we say on the way, to standard error.

use std::{
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use log::{LevelFilter, Log, Metadata, Record};

use super::progress::before_a_line;
use crate::sanitize::defused;

struct ToStderr;

/// Where lines go while something else is drawn on the terminal.
type Elsewhere = Box<dyn Fn(&str) + Send>;

static ELSEWHERE: Mutex<Option<(Elsewhere, Vec<String>)>> = Mutex::new(None);

/// Lines that are kept for when the terminal is there again; the first ones say most.
const KEPT: usize = 50;

fn elsewhere() -> MutexGuard<'static, Option<(Elsewhere, Vec<String>)>> {
    ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines go to `show` from now on, and are kept.
pub fn divert(show: Elsewhere) {
    *elsewhere() = Some((show, Vec::new()));
}

/// Lines go to standard error again, those that were kept first.
pub fn restore() {
    // Not while it is locked: a line that cannot be written is one more.
    let kept = elsewhere().take();
    for line in kept.into_iter().flat_map(|(_, kept)| kept) {
        write(&line);
    }
}

fn write(line: &str) {
    let line = format!("{}{line}", before_a_line());
    // One write, so that lines of several threads do not mix. Nobody is left to tell when
    // it fails.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

impl Log for ToStderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let line = format!(
            "sockleak: {}: {}: {}\n",
            record.level().as_str().to_ascii_lowercase(),
            record.target(),
            defused(&message),
        );
        if let Some((show, kept)) = &mut *elsewhere() {
            show(line.trim_end());
            if kept.len() < KEPT {
                kept.push(line);
            }
            return;
        }
        write(&line);
    }

    fn flush(&self) {}
}

/// Starts logging: warnings, with `-v` also information, then debugging, then everything.
pub fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // Fails only when there is a logger already, which then stays.
    if log::set_logger(&ToStderr).is_ok() {
        log::set_max_level(level);
    }
}
