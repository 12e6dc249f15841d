//! Takes over the terminal as `watch` does, and panics when it is asked for anything: what is left
//! of the terminal then? With the argument `draw`, what draws panics as soon as the help is opened.

use ratatui_core::buffer::Buffer;
use sockleak::tui::app::App;
use sockleak::tui::{Ask, Options, Screen, view};

fn main() {
    let options = Options {
        color: true,
        unicode: true,
        events: false,
    };
    let in_thread = std::env::args().nth(1).is_some_and(|what| what == "draw");
    let draw = if in_thread { panics } else { view::draw };
    let mut screen = match Screen::drawn_by(draw, options) {
        Ok(screen) => screen,
        Err(error) => {
            eprintln!("{error:#}");
            std::process::exit(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("an event loop without anything needs nothing");
    let ask = runtime.block_on(screen.asked());
    if in_thread && ask == Ask::Gone {
        // As `watch` ends.
        match screen.close() {
            Ok(_) => eprintln!("it has ended in order"),
            Err(error) => {
                eprintln!("sockleak: {error:#}");
                std::process::exit(1);
            }
        }
    }
    panic!("asked for {ask:?}, in the middle of it");
}

fn panics(app: &App, buffer: &mut Buffer) {
    assert!(app.help.is_none(), "in the middle of a frame");
    view::draw(app, buffer);
}
