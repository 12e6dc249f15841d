//! `-v`: what libraries and we say on the way, to standard error.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

use crate::sanitize::defused;

struct ToStderr;

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
        // One write, so that lines of several threads do not mix. Nobody is left to tell when
        // it fails.
        let _ = std::io::stderr().write_all(line.as_bytes());
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
