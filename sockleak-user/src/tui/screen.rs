//! The screen as the watch sees it: a mailbox, a few questions, and a thread that draws.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use ratatui_core::{buffer::Buffer, terminal::Terminal};
use ratatui_crossterm::{
    CrosstermBackend,
    crossterm::event::{self, Event},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

use super::{
    app::{self, App, Effect},
    input,
    mailbox::{Mail, Mailbox},
    stop::{self, Noted},
    terminal::{self, Frame},
    view,
};
use crate::{
    render::{Json, Renderer as _},
    report::{Body, Report},
};

/// Least time between two frames.
const FRAME: Duration = Duration::from_millis(50);
/// Least time between two frames that no key asked for.
const QUIET: Duration = Duration::from_millis(250);
/// How often the size of the terminal and the age of what it shows are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long the end waits for a terminal that takes no output.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions that may wait for the watch.
const ASKS: usize = 16;
/// Files of one second and view.
const FILES: u32 = 100;

/// Draws the state, once for each frame.
pub type Draw = fn(&App, &mut Buffer);

/// How the screen is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Colours.
    pub color: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
    /// Single events are reported.
    pub events: bool,
}

/// What the user wants of the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// That it ends.
    Quit,
    /// That it looks at all descriptors now.
    Refresh,
    /// A look at the ports of a network namespace.
    Look(u32),
    /// Nothing any more: the terminal is gone.
    Gone,
}

/// A screen that is shown.
#[derive(Debug)]
pub struct Screen {
    mailbox: Arc<Mailbox>,
    asks: mpsc::Receiver<Ask>,
    done: Receiver<()>,
    /// It was said that the terminal is gone.
    gone: bool,
    /// Lines of an interval that is not complete.
    lines: Vec<Report>,
}

impl Screen {
    /// Takes over the terminal.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn start(options: Options) -> Result<Self> {
        Self::drawn_by(view::draw, options)
    }

    /// Likewise, with something else that draws.
    ///
    /// # Errors
    /// When the terminal cannot be taken over.
    pub fn drawn_by(draw: Draw, options: Options) -> Result<Self> {
        let mailbox = Arc::new(Mailbox::new().context("making a mailbox for the screen")?);
        let (tell_asks, asks) = mpsc::channel(ASKS);
        let (tell_done, done) = channel();
        let terminal = terminal::enter(options.color)
            .context("taking over the terminal (--plain does without)")?;
        let noted = Noted::begin(mailbox.wake())
            .inspect_err(|_| terminal::leave())
            .context("listening for Ctrl-Z")?;
        let drawn = Arc::clone(&mailbox);
        let started = thread::Builder::new()
            .name("tui".to_owned())
            .spawn(move || {
                let screen = app::Screen {
                    width: 0,
                    height: 0,
                    color: options.color,
                    unicode: options.unicode,
                };
                let mut drawer = Drawer {
                    terminal,
                    app: App::new(screen, options.events),
                    mailbox: drawn,
                    noted,
                    draw,
                    asks: tell_asks.clone(),
                    asked: None,
                };
                if drawer.run().is_err() {
                    // When the watch does not listen any more, it ends already.
                    let _ = tell_asks.blocking_send(Ask::Gone);
                }
                terminal::leave();
                // Likewise.
                let _ = tell_done.send(());
            });
        if let Err(error) = started {
            terminal::leave();
            return Err(error).context("starting the thread of the screen");
        }
        Ok(Self {
            mailbox,
            asks,
            done,
            gone: false,
            lines: Vec::new(),
        })
    }

    /// A report; lines of an interval wait for its end.
    pub fn show(&mut self, report: Report) {
        match &report.body {
            Body::Event(_) => self.mailbox.event(report),
            Body::Start(_) | Body::Ports(_) => self.mailbox.interval(vec![report]),
            _ => self.lines.push(report),
        }
    }

    /// An interval has all its lines.
    pub fn interval_is_over(&mut self) {
        self.mailbox.interval(std::mem::take(&mut self.lines));
    }

    /// Where messages for the user go.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// What the user wants next.
    pub async fn asked(&mut self) -> Ask {
        // Its thread has ended without a word: it has panicked.
        let ask = self.asks.recv().await.unwrap_or(Ask::Gone);
        self.gone |= ask == Ask::Gone;
        ask
    }

    /// Gives the terminal back. Says whether it is there and takes output.
    ///
    /// # Errors
    /// When the thread has panicked, which it has said itself.
    pub fn close(mut self) -> Result<bool> {
        self.mailbox.close();
        match self.done.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => {
                terminal::give_back();
                return Ok(false);
            }
            Err(RecvTimeoutError::Disconnected) => {
                terminal::leave();
                anyhow::bail!("the thread that draws has ended by itself");
            }
        }
        // What it has said before it ended.
        let mut gone = false;
        while let Ok(ask) = self.asks.try_recv() {
            gone |= ask == Ask::Gone;
        }
        Ok(!gone && !self.gone)
    }
}

/// The thread's side.
struct Drawer {
    terminal: Terminal<CrosstermBackend<Frame>>,
    app: App,
    /// Dropped before the mailbox, which it rings.
    noted: Noted,
    mailbox: Arc<Mailbox>,
    draw: Draw,
    asks: mpsc::Sender<Ask>,
    /// The look that was asked for last, and what was known then.
    asked: Option<(u32, String)>,
}

impl Drawer {
    /// Until the watch is over.
    ///
    /// # Errors
    /// When the terminal is gone.
    fn run(&mut self) -> io::Result<()> {
        let mut drawn: Option<Instant> = None;
        // Drawn at once; keys are answered sooner than reports.
        let (mut dirty, mut pace) = (true, FRAME);
        loop {
            let mail = self.mailbox.take();
            dirty |= self.obey()?;
            if mail.closing {
                return Ok(());
            }
            dirty |= self.read(mail);
            dirty |= self.app.tick(unix_ms());
            dirty |= self.resize()?;
            self.want();
            let left = drawn.map_or(Duration::ZERO, |at| pace.saturating_sub(at.elapsed()));
            if dirty && left.is_zero() {
                self.draw()?;
                (dirty, pace) = (false, QUIET);
                drawn = Some(Instant::now());
            }
            let wait = if dirty { left } else { LOOK };
            if self.wait(wait)? {
                dirty |= self.keys()?;
                pace = FRAME;
            }
        }
    }

    fn read(&mut self, mail: Mail) -> bool {
        let mut dirty = !mail.messages.is_empty();
        for text in mail.messages {
            self.app.say(text);
        }
        if let Some(batch) = mail.batch {
            dirty |= self.app.take(batch);
        }
        dirty
    }

    fn resize(&mut self) -> io::Result<bool> {
        let size = self.terminal.size()?;
        let screen = self.app.screen;
        let changed = (size.width, size.height) != (screen.width, screen.height);
        if changed {
            self.app.resize(size.width, size.height);
        }
        Ok(changed)
    }

    /// Asks for the look that the view shows, once for each interval.
    fn want(&mut self) {
        let wanted = self
            .app
            .wants_look()
            .map(|netns| (netns, self.app.shown().ts.clone()));
        if wanted != self.asked {
            if let Some((netns, _)) = &wanted {
                self.ask(Ask::Look(*netns));
            }
            self.asked = wanted;
        }
    }

    /// What the shell wants; says whether all has to be drawn again.
    fn obey(&mut self) -> io::Result<bool> {
        let came = Noted::came();
        if came.stop {
            terminal::leave();
            self.noted.stop()?;
        }
        // After SIGSTOP, too, the shell has had the terminal meanwhile.
        if came.stop || came.continued {
            terminal::take()?;
            self.terminal.clear()?;
        }
        Ok(came.stop || came.continued)
    }

    fn ask(&self, ask: Ask) {
        // A watch that is busy for long need not do the same thing sixteen times.
        let _ = self.asks.try_send(ask);
    }

    fn draw(&mut self) -> io::Result<()> {
        let (app, draw) = (&self.app, self.draw);
        self.terminal.draw(|frame| draw(app, frame.buffer_mut()))?;
        Ok(())
    }

    /// Waits for keys or mail; says whether there are keys.
    fn wait(&self, time: Duration) -> io::Result<bool> {
        let stdin = rustix::stdio::stdin();
        let wake = self.mailbox.wake();
        let mut fds = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(&wake, PollFlags::IN),
        ];
        let time = Timespec::try_from(time).unwrap_or_default();
        match poll(&mut fds, Some(&time)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let keys = fds[0].revents();
        // The library would read for ever from a terminal that has hung up.
        if keys.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(keys.contains(PollFlags::IN))
    }

    fn keys(&mut self) -> io::Result<bool> {
        let mut dirty = false;
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(event) => {
                    if let Some(key) = input::key(&event) {
                        let effect = self.app.key(key);
                        self.carry_out(effect)?;
                        dirty = true;
                    }
                }
                Event::Resize(..) => dirty = true,
                _ => {}
            }
        }
        Ok(dirty)
    }

    fn carry_out(&mut self, effect: Effect) -> io::Result<()> {
        match effect {
            Effect::None => {}
            Effect::Quit => {
                self.app.say("taking the last look");
                self.ask(Ask::Quit);
            }
            Effect::Refresh => self.ask(Ask::Refresh),
            Effect::Redraw => self.terminal.clear()?,
            Effect::Suspend => stop::ask_the_job(),
            Effect::Export(slug, reports) => {
                let text = match export(Path::new("."), slug, &reports) {
                    Ok(path) => format!("{} reports in {}", reports.len(), path.display()),
                    Err(error) => format!("could not be written: {error:#}"),
                };
                self.app.say(text);
            }
        }
        Ok(())
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// Writes reports into a new file, one line each, which only its owner can read.
fn export(dir: &Path, slug: &str, reports: &[Arc<Report>]) -> Result<PathBuf> {
    let mut lines = Vec::new();
    for report in reports {
        Json.render(report, &mut lines).context("as JSON")?;
    }
    let newest = reports.iter().map(|report| report.ts.as_str()).max();
    let time: String = newest
        .unwrap_or("nothing")
        .chars()
        .take_while(|c| *c != '.')
        .filter(char::is_ascii_alphanumeric)
        .collect();
    for n in 0..FILES {
        let more = if n == 0 {
            String::new()
        } else {
            format!("-{n}")
        };
        let path = dir.join(format!("sockleak-{slug}-{time}{more}.json"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match file {
            Ok(mut file) => {
                file.write_all(&lines)
                    .with_context(|| format!("writing {}", path.display()))?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("making {}", path.display()));
            }
        }
    }
    anyhow::bail!("there are {FILES} such files already")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn an_export_is_a_file_of_reports_and_overwrites_nothing() {
        let dir = std::env::temp_dir().join(format!("sockleak-export-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let all = fixtures::all();
        let leaks: Vec<Arc<Report>> = (all.into_iter())
            .filter(|(name, _)| name.starts_with("leak_"))
            .map(|(_, report)| Arc::new(report))
            .collect();
        let first = export(&dir, "leaks", &leaks).expect("it is written");
        let second = export(&dir, "leaks", &leaks).expect("it is written");
        assert!(
            first.ends_with("sockleak-leaks-20260801T031415.json"),
            "{first:?}"
        );
        assert_ne!(first, second);
        let text = std::fs::read_to_string(&second).expect("it is there");
        let read: Vec<_> = text.lines().map(Report::from_json).collect();
        assert_eq!(read.len(), leaks.len());
        assert!(read.iter().all(Result::is_ok));
        let error = export(&dir.join("missing"), "leaks", &leaks).expect_err("no directory");
        assert!(
            format!("{error:#}").contains("sockleak-leaks-"),
            "{error:#}"
        );
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
