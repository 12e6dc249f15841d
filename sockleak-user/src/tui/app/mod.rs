//! The state of the screen: reports in, keys in, time in. No terminal, no clock.

mod destinations;
pub mod export;
pub mod keys;
pub mod known;
pub mod list;
pub mod rows;
pub mod subject;
pub mod table;
#[cfg(test)]
pub(super) mod tests;

pub use keys::{Command, Key};
pub use known::{Batch, Known};
pub use list::List;
pub use subject::{Subject, View};
pub use table::Table;

use std::sync::Arc;

use super::view;
use crate::report::Report;

/// How long a message stands, ms.
const MESSAGE_MS: u64 = 6_000;
/// Longest text that can be typed, characters.
const TYPED: usize = 60;
/// Columns that a step sideways goes.
const SIDE: u16 = 8;

/// What the edge has to do after a key.
#[derive(Clone, Debug, Default)]
pub enum Effect {
    /// Nothing but drawing.
    #[default]
    None,
    /// End the watch.
    Quit,
    /// Look at all descriptors now.
    Refresh,
    /// Write these into a file whose name contains this word.
    Export(&'static str, Vec<Arc<Report>>),
    /// Draw every cell again.
    Redraw,
    /// Stop, as a job of the shell.
    Suspend,
}

/// What is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A filter, and the one before.
    Filter(String, String),
    /// What to search for.
    Search(String),
}

/// What was opened, and where in it one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What.
    pub subject: Subject,
    /// First line that is seen.
    pub line: usize,
    /// First column that is seen.
    pub column: u16,
}

/// What the screen can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Colours.
    pub color: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
}

/// The state.
#[derive(Clone, Debug)]
pub struct App {
    known: Known,
    /// What is shown while paused.
    frozen: Option<Box<Known>>,
    /// The screen.
    pub screen: Screen,
    /// The view.
    pub view: View,
    lists: [List; View::ALL.len()],
    /// What was opened, the newest last.
    pub opened: Vec<Opened>,
    /// The help is open, from this line on.
    pub help: Option<usize>,
    /// What is being typed.
    pub prompt: Option<Prompt>,
    message: Option<(String, u64)>,
    now_ms: u64,
}

impl App {
    /// Nothing known yet, but whether single events will come.
    pub fn new(screen: Screen, events: bool) -> Self {
        Self {
            known: Known {
                has_events: events,
                ..Known::default()
            },
            frozen: None,
            screen,
            view: View::default(),
            lists: Default::default(),
            opened: Vec::new(),
            help: None,
            prompt: None,
            message: None,
            now_ms: 0,
        }
    }

    /// What is shown.
    pub fn shown(&self) -> &Known {
        self.frozen.as_deref().unwrap_or(&self.known)
    }

    /// By how much what is shown is behind, ms; `None` without a pause.
    pub fn paused_ms(&self) -> Option<u64> {
        let frozen = self.frozen.as_ref()?;
        Some(
            self.known
                .at_ms()
                .unwrap_or(0)
                .saturating_sub(frozen.at_ms().unwrap_or(0)),
        )
    }

    /// The list of the view.
    pub fn list(&self) -> &List {
        &self.lists[self.view.index()]
    }

    fn list_mut(&mut self) -> &mut List {
        &mut self.lists[self.view.index()]
    }

    /// The table of the view, as it is arranged.
    pub fn table(&self) -> Table {
        let mut table = rows::table(self.view, self.shown());
        self.list().arrange(&mut table);
        table
    }

    /// What to say to the user now.
    pub fn message(&self) -> Option<&str> {
        self.message.as_ref().map(|(text, _)| text.as_str())
    }

    /// The wall clock, ms since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The namespace whose ports are to be looked at, while somebody sees them.
    pub fn wants_look(&self) -> Option<u32> {
        if self.view != View::Ports || self.frozen.is_some() {
            return None;
        }
        let table = self.table();
        match table.rows.get(self.list().cursor)?.subject {
            Subject::Namespace(netns) => Some(netns),
            _ => None,
        }
    }

    /// Reports in. Says whether what is seen may have changed.
    pub fn take(&mut self, batch: Batch) -> bool {
        self.known.take(batch);
        self.settle();
        self.frozen.is_none()
    }

    /// Time in: the wall clock, ms since 1970. Says whether what is seen has changed.
    pub fn tick(&mut self, now_ms: u64) -> bool {
        let age = |app: &Self| view::age_s(app);
        let before = age(self);
        self.now_ms = now_ms;
        let over = self
            .message
            .as_ref()
            .is_some_and(|(_, since)| now_ms.saturating_sub(*since) >= MESSAGE_MS);
        if over {
            self.message = None;
        }
        over || age(self) != before
    }

    /// The screen has another size.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.screen.width = width;
        self.screen.height = height;
        self.settle();
    }

    /// Says something to the user for a while.
    pub fn say(&mut self, text: impl Into<String>) {
        self.message = Some((text.into(), self.now_ms));
    }

    /// A key in.
    pub fn key(&mut self, key: Key) -> Effect {
        self.message = None;
        let effect = if self.prompt.is_some() && key != Key::Ctrl('c') {
            self.typed(key);
            Effect::None
        } else {
            match keys::command(key) {
                Some(command) => self.command(command),
                None => {
                    self.say("? shows the keys");
                    Effect::None
                }
            }
        };
        self.settle();
        effect
    }

    fn typed(&mut self, key: Key) {
        let Some(prompt) = &mut self.prompt else {
            return;
        };
        let text = match prompt {
            Prompt::Filter(text, _) | Prompt::Search(text) => text,
        };
        match key {
            Key::Char(c) if text.chars().count() < TYPED && !c.is_control() => text.push(c),
            Key::Backspace => {
                text.pop();
            }
            Key::Ctrl('u') => text.clear(),
            Key::Enter => {
                if let Some(Prompt::Search(text)) = self.prompt.take() {
                    self.list_mut().search = text;
                    self.find(false);
                }
                return;
            }
            Key::Esc => {
                if let Some(Prompt::Filter(_, before)) = self.prompt.take() {
                    self.list_mut().filter = before;
                }
                return;
            }
            _ => {}
        }
        // A filter shows what it does while it is typed.
        if let Some(Prompt::Filter(text, _)) = &self.prompt {
            self.lists[self.view.index()].filter.clone_from(text);
        }
    }

    fn command(&mut self, command: Command) -> Effect {
        match command {
            Command::Quit => return Effect::Quit,
            Command::Refresh => {
                self.say("looking at all descriptors");
                return Effect::Refresh;
            }
            Command::Redraw => return Effect::Redraw,
            Command::Suspend => return Effect::Suspend,
            Command::Export => return Effect::Export(self.view.slug(), export::reports(self)),
            Command::Help => {
                self.help = match self.help {
                    Some(_) => None,
                    None => Some(0),
                };
            }
            Command::View(at) => self.go(View::ALL.get(at).copied().unwrap_or_default()),
            Command::NextView => self.turn(1),
            Command::PreviousView => self.turn(View::ALL.len() - 1),
            Command::Move(by) => self.move_by(by.into()),
            Command::Page(by) => self.move_by(isize::from(by) * self.page()),
            Command::HalfPage(by) => self.move_by(isize::from(by) * (self.page() / 2).max(1)),
            Command::First => self.move_by(isize::MIN + 1),
            Command::Last => self.move_by(isize::MAX / 2),
            Command::Sideways(by) => self.sideways(by),
            Command::Open => self.open(),
            Command::Back => self.back(),
            Command::Sort => self.sort(false),
            Command::SortBack => self.sort(true),
            Command::Reverse => self.list_mut().reverse(),
            Command::Filter => {
                let now = self.list().filter.clone();
                self.close_all();
                self.prompt = Some(Prompt::Filter(now.clone(), now));
            }
            Command::Search => {
                self.close_all();
                self.prompt = Some(Prompt::Search(String::new()));
            }
            Command::NextMatch => self.find(false),
            Command::PreviousMatch => self.find(true),
            Command::Pause => {
                self.frozen = match self.frozen.take() {
                    Some(_) => None,
                    None => Some(Box::new(self.known.clone())),
                };
            }
        }
        Effect::None
    }

    fn go(&mut self, view: View) {
        self.close_all();
        self.view = view;
    }

    fn turn(&mut self, by: usize) {
        let next = (self.view.index() + by) % View::ALL.len();
        self.go(View::ALL.get(next).copied().unwrap_or_default());
    }

    fn close_all(&mut self) {
        self.opened.clear();
        self.help = None;
    }

    fn page(&self) -> isize {
        let rows = match (&self.help, self.opened.last()) {
            (None, None) => view::list_height(self, &self.table()),
            _ => view::body_height(self.screen).into(),
        };
        isize::try_from(rows).unwrap_or(1).max(1)
    }

    fn move_by(&mut self, by: isize) {
        if let Some(line) = &mut self.help {
            *line = line.saturating_add_signed(by);
        } else if let Some(opened) = self.opened.last_mut() {
            opened.line = opened.line.saturating_add_signed(by);
        } else {
            let table = self.table();
            self.list_mut().step(by, &table);
        }
    }

    fn sideways(&mut self, by: i8) {
        if let Some(opened) = self.opened.last_mut() {
            opened.column = if by < 0 {
                opened.column.saturating_sub(SIDE)
            } else {
                opened.column.saturating_add(SIDE)
            };
        }
    }

    fn open(&mut self) {
        self.help = None;
        let table = self.table();
        let next = match self.opened.last().map(|opened| &opened.subject) {
            // From what one process did to everything about that process.
            Some(subject) => view::process_of(subject, self.shown()),
            None => (table.rows.get(self.list().cursor)).map(|row| row.subject.clone()),
        };
        if let Some(subject) = next {
            self.opened.push(Opened {
                subject,
                line: 0,
                column: 0,
            });
        }
    }

    fn back(&mut self) {
        if self.help.take().is_some() || self.opened.pop().is_some() {
            return;
        }
        self.list_mut().filter.clear();
    }

    fn sort(&mut self, backwards: bool) {
        self.close_all();
        let columns = self.table().columns.len();
        let list = self.list_mut();
        list.sort_next(columns, backwards);
        // The top is what one sorts for.
        list.on = None;
        list.cursor = 0;
    }

    fn find(&mut self, backwards: bool) {
        let wanted = self.list().search.clone();
        if wanted.is_empty() {
            self.say("nothing to search for: / asks for it");
            return;
        }
        self.close_all();
        let table = self.table();
        match table.find(&wanted, self.list().cursor, backwards) {
            Some(at) => self.list_mut().go(at, &table),
            None => self.say(format!("not found: {wanted}")),
        }
    }

    fn settle(&mut self) {
        let table = self.table();
        let height = view::list_height(self, &table);
        self.list_mut().settle(&table, height);
        if let Some(last) = view::last_line(self) {
            if let Some(line) = &mut self.help {
                *line = (*line).min(last);
            } else if let Some(opened) = self.opened.last_mut() {
                opened.line = opened.line.min(last);
            }
        }
    }
}
