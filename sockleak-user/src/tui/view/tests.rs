//! What is seen, on the two sizes that matter, as text and by what stands out.

use ratatui_core::{
    backend::TestBackend,
    style::{Color, Modifier},
    terminal::Terminal,
};

use super::super::app::tests::{full, report};
use super::super::app::{App, Batch, Key, Screen, View};
use super::draw;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

fn screen((width, height): (u16, u16), color: bool) -> Screen {
    Screen {
        width,
        height,
        color,
        unicode: true,
    }
}

fn drawn(app: &App) -> Terminal<TestBackend> {
    let backend = TestBackend::new(app.screen.width, app.screen.height);
    let mut terminal = Terminal::new(backend).expect("memory is enough");
    terminal
        .draw(|frame| draw(app, frame.buffer_mut()))
        .expect("memory is enough");
    terminal
}

/// The cells as lines of text, without what is empty at their ends.
fn text(app: &App) -> String {
    let terminal = drawn(app);
    let buffer = terminal.backend().buffer();
    let rows = buffer
        .content()
        .chunks(usize::from(app.screen.width).max(1));
    let lines = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

fn golden(name: &str, app: &App) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../goldens");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text(app)));
}

fn at(size: (u16, u16), keys: &[Key]) -> App {
    let mut app = full(screen(size, true));
    for key in keys {
        app.key(*key);
    }
    app
}

/// Each view, on both sizes.
#[test]
fn views() {
    for view in View::ALL {
        let digit = char::from_digit(view.index() as u32 + 1, 10).expect("a digit");
        for (size, name) in [(SMALL, "80x24"), (LARGE, "160x50")] {
            let app = at(size, &[Key::Char(digit)]);
            golden(&format!("{}_{name}", view.slug()), &app);
        }
    }
}

/// What Enter opens, in each view that opens something else.
#[test]
fn details() {
    for view in View::ALL {
        let digit = char::from_digit(view.index() as u32 + 1, 10).expect("a digit");
        let app = at(SMALL, &[Key::Char(digit), Key::Enter]);
        golden(&format!("{}_open", view.slug()), &app);
    }
    let app = at(LARGE, &[Key::Enter]);
    golden("process_160x50", &app);
}

#[test]
fn frames() {
    golden("help", &at(SMALL, &[Key::Char('?')]));
    golden("paused", &at(SMALL, &[Key::Char('p')]));
    let typing = [Key::Char('f'), Key::Char('j'), Key::Char('a')];
    golden("filter_typed", &at(SMALL, &typing));
    let nothing = [Key::Char('f'), Key::Char('%'), Key::Enter];
    golden("filter_empty", &at(SMALL, &nothing));
    let sorted = [Key::Char('s'), Key::Char('r')];
    golden("sorted", &at(SMALL, &sorted));
    golden("attached", &{
        let mut app = App::new(screen(SMALL, true), false);
        app.take(Batch {
            reports: of(&["start"]),
            ..Batch::default()
        });
        app
    });
    golden("nothing_found", &{
        let mut app = App::new(screen(SMALL, true), false);
        app.take(Batch {
            reports: of(&["start", "interval_blind"]),
            ..Batch::default()
        });
        app
    });
    golden("losses_missed_hostile", &{
        let mut app = App::new(screen(SMALL, true), false);
        app.take(Batch {
            reports: of(&["start", "interval_first", "leak_unknown", "failure_hostile"]),
            missed_intervals: 3,
            missed_events: 1_234,
        });
        app
    });
    golden("ports_mixed", &{
        let mut app = at(LARGE, &[Key::Char('6')]);
        app.take(Batch {
            reports: of(&["ports_towards"]),
            ..Batch::default()
        });
        app
    });
}

fn of(names: &[&str]) -> Vec<crate::report::Report> {
    names.iter().map(|name| report(name)).collect()
}

fn colors(app: &App) -> usize {
    let terminal = drawn(app);
    let cells = terminal.backend().buffer().content().iter();
    cells
        .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
        .count()
}

/// NO_COLOR: the same text, no colour, and what is bad still stands out.
#[test]
fn without_colour_nothing_is_missing() {
    for view in View::ALL {
        let digit = char::from_digit(view.index() as u32 + 1, 10).expect("a digit");
        for size in [SMALL, LARGE] {
            let mut plain = full(screen(size, false));
            plain.key(Key::Char(digit));
            let colourful = at(size, &[Key::Char(digit)]);
            assert_eq!(colors(&plain), 0);
            assert!(colors(&colourful) > 0);
            assert_eq!(text(&plain), text(&colourful));
        }
    }
    let plain = full(screen(SMALL, false));
    let terminal = drawn(&plain);
    let buffer = terminal.backend().buffer();
    let leak = buffer.content().windows(4).position(|cells| {
        let word: String = cells.iter().map(|cell| cell.symbol()).collect();
        word == "LEAK"
    });
    let cell = &buffer.content()[leak.expect("a leak is shown")];
    assert!(
        cell.modifier
            .contains(Modifier::BOLD | Modifier::UNDERLINED)
    );
}

/// Without UTF-8, nothing of ours is beyond ASCII.
#[test]
fn without_unicode_all_is_ascii() {
    for view in View::ALL {
        let digit = char::from_digit(view.index() as u32 + 1, 10).expect("a digit");
        let mut app = full(Screen {
            unicode: false,
            ..screen(LARGE, true)
        });
        app.key(Key::Char(digit));
        app.key(Key::Char('s'));
        assert!(text(&app).is_ascii(), "{}", text(&app));
    }
}

/// Nothing that a name contains reaches the terminal as a command or leaves its cell.
#[test]
fn hostile_names_are_cells_like_others() {
    let mut app = App::new(screen(LARGE, true), false);
    let names: Vec<&str> = vec![
        "interval_first",
        "leak_unknown",
        "failure_hostile",
        "event_hostile",
        "ports_extreme",
    ];
    app.take(Batch {
        reports: of(&names),
        ..Batch::default()
    });
    for view in View::ALL {
        let digit = char::from_digit(view.index() as u32 + 1, 10).expect("a digit");
        for keys in [vec![Key::Char(digit)], vec![Key::Char(digit), Key::Enter]] {
            for key in keys {
                app.key(key);
            }
            let terminal = drawn(&app);
            for cell in terminal.backend().buffer().content() {
                let symbol = cell.symbol();
                assert!(
                    symbol.chars().all(crate::sanitize::is_harmless),
                    "{symbol:?}"
                );
            }
        }
    }
}

/// Any size, any view, also while it shrinks: no panic, and a word on what is wrong.
#[test]
fn any_size_is_drawn() {
    let mut app = full(screen(SMALL, true));
    for view in View::ALL {
        app.key(Key::Char(
            char::from_digit(view.index() as u32 + 1, 10).expect("a digit"),
        ));
        for (width, height) in [
            (1, 1),
            (20, 5),
            (40, 8),
            (41, 9),
            (79, 23),
            (300, 100),
            (0, 0),
        ] {
            app.resize(width, height);
            let shown = text(&app);
            if width == 20 {
                assert!(shown.starts_with("screen too small"), "{shown}");
            }
            app.key(Key::Enter);
            text(&app);
            app.key(Key::Esc);
        }
    }
}
