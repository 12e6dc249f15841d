//! What is being done, for people who wait: on a terminal, from half a second on, gone at its end.
//! Nothing is written where nobody looks.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long nobody minds to wait, and how often it is written then.
const STEP: Duration = Duration::from_millis(500);
/// To the begin of the line, and nothing in it any more (ECMA-48 8.3.41).
const CLEAR: &str = "\r\x1b[K";

/// A line is there that belongs to nobody for long.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Something that takes its time. It is over when this is dropped.
pub struct Progress(Option<(Arc<Done>, JoinHandle<()>)>);

#[derive(Default)]
struct Done {
    is: Mutex<bool>,
    changed: Condvar,
}

impl Progress {
    /// It begins, and takes so long if that is known.
    pub fn begin(what: &'static str, takes: Option<Duration>) -> Self {
        let dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if dumb || !io::stderr().is_terminal() {
            return Self(None);
        }
        let done = Arc::new(Done::default());
        let watched = Arc::clone(&done);
        let thread = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || show(&watched, what, takes));
        // Without one more thread there is one line less.
        Self(thread.ok().map(|thread| (done, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.0.take() {
            *done.is.lock().unwrap_or_else(PoisonError::into_inner) = true;
            done.changed.notify_all();
            // It cannot panic but where standard error does, which is not ours to say.
            let _ = thread.join();
        }
    }
}

/// What has to be written before a line of somebody else.
pub fn before_a_line() -> &'static str {
    match SHOWN.swap(false, Ordering::SeqCst) {
        true => CLEAR,
        false => "",
    }
}

fn show(done: &Done, what: &str, takes: Option<Duration>) {
    let began = Instant::now();
    let mut is_done = done.is.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let waited = done.changed.wait_timeout(is_done, STEP);
        (is_done, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *is_done {
            break;
        }
        let line = format!("{CLEAR}{}", text(what, began.elapsed(), takes));
        SHOWN.store(true, Ordering::SeqCst);
        let _ = io::stderr().write_all(line.as_bytes());
    }
    let _ = io::stderr().write_all(before_a_line().as_bytes());
}

/// Within one line of any terminal.
fn text(what: &str, elapsed: Duration, takes: Option<Duration>) -> String {
    let elapsed = elapsed.as_secs_f64();
    match takes.map(|takes| takes.as_secs_f64()) {
        // What comes after, such as the last look at all descriptors.
        Some(takes) if elapsed > takes => format!("{what}: putting it together"),
        Some(takes) => format!("{what}: {elapsed:.0} of {takes:.0} s"),
        None => format!("{what}: {elapsed:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_long_and_of_how_much() {
        let s = Duration::from_secs;
        assert_eq!(text("looking", s(3), None), "looking: 3 s");
        assert_eq!(text("watching", s(3), Some(s(5))), "watching: 3 of 5 s");
        let over = text("watching", s(6), Some(s(5)));
        assert_eq!(over, "watching: putting it together");
    }

    #[test]
    fn nothing_is_written_where_nobody_looks() {
        // The harness's standard error may be a terminal; then this says less.
        if !io::stderr().is_terminal() {
            assert!(Progress::begin("waiting", None).0.is_none());
        }
        assert_eq!(before_a_line(), "");
    }
}
