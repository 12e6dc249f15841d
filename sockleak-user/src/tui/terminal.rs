//! The terminal: taken over, and given back whatever happens.

use std::{
    io::{self, Write},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use ratatui_core::terminal::Terminal;
use ratatui_crossterm::{
    CrosstermBackend,
    crossterm::{
        QueueableCommand as _,
        cursor::{Hide, Show},
        style::force_color_output,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

/// The terminal is ours.
static OURS: AtomicBool = AtomicBool::new(false);

/// Collects a frame, and writes it whole: over a slow link a frame is one packet or a few.
/// Nothing is written any more once the terminal was given back, not even by a drop.
#[derive(Debug, Default)]
pub struct Frame(Vec<u8>);

impl Write for Frame {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.0);
        if !OURS.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut rest = bytes.as_slice();
        // Not through the lock and the buffer of io::stdout, which a panic may have left.
        while !rest.is_empty() {
            match rustix::io::write(rustix::stdio::stdout(), rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Takes over the terminal of standard input and output: raw, on its second screen. A panic of
/// any thread gives it back before it says its words.
///
/// # Errors
/// When it is no terminal, or is gone.
pub fn enter(color: bool) -> io::Result<Terminal<CrosstermBackend<Frame>>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
    });
    if color {
        // --color always is stronger than NO_COLOR.
        force_color_output(true);
    }
    take()?;
    Terminal::new(CrosstermBackend::new(Frame::default())).inspect_err(|_| leave())
}

/// Takes it once more: it was given back, or somebody may have changed it while we were stopped.
/// In the background this waits for the foreground (SIGTTOU).
///
/// # Errors
/// When it is gone.
pub fn take() -> io::Result<()> {
    // Else it counts as done (crossterm remembers).
    disable_raw_mode()?;
    enable_raw_mode()?;
    OURS.store(true, Ordering::SeqCst);
    let mut begin = Frame::default();
    let begun = begin.queue(EnterAlternateScreen)?.queue(Hide)?.flush();
    begun.inspect_err(|_| leave())
}

/// Gives the terminal back as it was. Once is enough; whoever draws still, draws nothing.
pub fn leave() {
    if !OURS.load(Ordering::SeqCst) {
        return;
    }
    let mut end = Frame::default();
    // There is nobody to tell when the terminal is gone.
    let _ = end
        .queue(LeaveAlternateScreen)
        .and_then(|end| end.queue(Show))
        .and_then(Write::flush);
    give_back();
}

/// Only what cannot wait for a terminal that takes no more output.
pub fn give_back() {
    OURS.store(false, Ordering::SeqCst);
    let _ = disable_raw_mode();
}
