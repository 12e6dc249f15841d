//! Takes over the terminal as `watch` does, and panics when it is asked for anything: what is left
//! of the terminal then?

use sockleak::tui::{Options, Screen};

fn main() {
    let options = Options {
        color: true,
        unicode: true,
    };
    let mut screen = match Screen::start(options) {
        Ok(screen) => screen,
        Err(error) => {
            eprintln!("{error:#}");
            std::process::exit(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("an event loop without anything needs nothing");
    let ask = runtime.block_on(screen.asked());
    panic!("asked for {ask:?}, in the middle of it");
}
