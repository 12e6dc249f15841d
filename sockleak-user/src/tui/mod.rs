//! `watch` on a terminal. The state ([`app`]) takes reports, keys and the time; the views
//! ([`view`]) turn it into cells; the rest is the thin edge to the terminal.
//!
//! The watch never waits for the screen: what it has to say goes into a bounded [`mailbox`], which
//! a thread of its own empties. A terminal that is slow, or stopped, makes that thread miss
//! intervals, which the screen says; it makes the watch miss nothing.

pub mod app;
mod input;
mod mailbox;
mod screen;
mod stop;
mod terminal;
pub mod view;

pub use mailbox::Mailbox;
pub use screen::{Ask, Options, Screen};
pub use terminal::{enter, leave};
