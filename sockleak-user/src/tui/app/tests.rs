//! Keys in, reports in, time in. Every key of the help has a test here; the last one counts.

use super::keys::{BINDINGS, command};
use super::*;
use crate::render::fixtures;
use crate::report::{Body, LeakClass, PortPiece, rfc3339};

const SCREEN: Screen = Screen {
    width: 80,
    height: 24,
    color: false,
    unicode: true,
};

pub fn report(name: &str) -> Report {
    let mut all = fixtures::all().into_iter();
    let found = all.find(|(known, _)| *known == name);
    let mut report = found.map(|(_, report)| report).expect("a fixture");
    if let Body::Ports(look) = &mut report.body {
        match name {
            "ports_incident" => look.map.pieces = pieces_of_one(),
            "ports_towards" => look.map.pieces = pieces_of_two(),
            _ => {}
        }
    }
    report
}

/// All 12,001 ports from 50000 on, of one process.
fn pieces_of_one() -> Vec<PortPiece> {
    let pieces = (0..501).map(|piece| PortPiece {
        first: 50_000 + piece * 24,
        bound: if piece == 500 { 1 } else { 24 },
        pid: Some(4684),
        ..PortPiece::default()
    });
    pieces.collect()
}

/// Connections of two processes and of nobody, some TIME_WAIT, much that is free.
fn pieces_of_two() -> Vec<PortPiece> {
    let pieces = (0..390).map(|piece| PortPiece {
        first: 32_768 + piece * 56,
        reserved: u16::from(piece == 20) * 56,
        bound: u16::from(piece == 10) * 4,
        connected: match piece {
            20 => 0,
            300.. => 9,
            _ => 37,
        },
        time_wait: if piece % 40 == 39 { 50 } else { 2 },
        pid: (piece % 7 != 6).then_some(if piece % 5 < 3 { 912 } else { 913 }),
    });
    pieces.collect()
}

fn batch(names: &[&str]) -> Batch {
    Batch {
        reports: names.iter().map(|name| report(name)).collect(),
        ..Batch::default()
    }
}

/// An interval with something in every view.
const ALL: [&str; 12] = [
    "start",
    "interval",
    "failure_exhausted",
    "failure_conflict",
    "hot_loop",
    "pressure",
    "leak_bound",
    "leak_stack",
    "event_alloc",
    "event_destroy",
    "event_connect",
    "ports_incident",
];

pub fn full(screen: Screen) -> App {
    let mut app = App::new(screen, true);
    app.take(batch(&ALL));
    app
}

fn press(app: &mut App, keys: &[Key]) {
    for key in keys {
        app.key(*key);
    }
}

fn typed(app: &mut App, text: &str) {
    for c in text.chars() {
        app.key(Key::Char(c));
    }
}

/// Process ids in the first column that is called PID.
fn pids(app: &App) -> Vec<String> {
    let table = app.table();
    let at = (table.columns.iter())
        .position(|column| column.title == "PID")
        .expect("a column");
    let rows = table.rows.iter();
    rows.map(|row| row.cells[at].text.clone()).collect()
}

#[test]
fn views_are_reached_by_number_and_in_turn() {
    let mut app = full(SCREEN);
    for (n, view) in View::ALL.iter().enumerate() {
        let digit = char::from_digit(n as u32 + 1, 10).expect("a digit");
        press(&mut app, &[Key::Char(digit)]);
        assert_eq!(app.view, *view);
    }
    press(&mut app, &[Key::Tab]);
    assert_eq!(app.view, View::Overview);
    press(&mut app, &[Key::BackTab]);
    assert_eq!(app.view, View::Events);
    press(&mut app, &[Key::BackTab]);
    assert_eq!(app.view, View::Ports);
}

#[test]
fn the_cursor_moves_within_the_rows() {
    for (down, up) in [
        (Key::Down, Key::Up),
        (Key::Char('j'), Key::Char('k')),
        (Key::PageDown, Key::PageUp),
        (Key::Ctrl('f'), Key::Ctrl('b')),
        (Key::Ctrl('d'), Key::Ctrl('u')),
        (Key::End, Key::Home),
        (Key::Char('G'), Key::Char('g')),
    ] {
        let mut app = full(SCREEN);
        press(&mut app, &[Key::Char('7')]);
        assert_eq!(app.table().rows.len(), 3);
        press(&mut app, &[down]);
        assert!(app.list().cursor > 0, "{down:?}");
        press(&mut app, &[down, down, down]);
        assert_eq!(app.list().cursor, 2, "{down:?}");
        press(&mut app, &[up, up, up]);
        assert_eq!(app.list().cursor, 0, "{up:?}");
    }
}

#[test]
fn pages_and_half_pages_are_what_is_seen() {
    let mut app = App::new(SCREEN, true);
    let events: Vec<&str> = std::iter::repeat_n("event_alloc", 100).collect();
    app.take(batch(&["interval"]));
    app.take(batch(&events));
    press(&mut app, &[Key::Char('7'), Key::PageDown]);
    // 24 rows without the two of the frame and the heading.
    assert_eq!((app.list().cursor, app.list().offset), (21, 1));
    press(&mut app, &[Key::Ctrl('d')]);
    assert_eq!((app.list().cursor, app.list().offset), (31, 11));
    press(&mut app, &[Key::Ctrl('u'), Key::Ctrl('u')]);
    assert_eq!((app.list().cursor, app.list().offset), (11, 11));
    press(&mut app, &[Key::End]);
    assert_eq!((app.list().cursor, app.list().offset), (99, 79));
}

#[test]
fn the_cursor_stays_on_its_row_when_others_move() {
    let mut app = full(SCREEN);
    press(&mut app, &[Key::Char('7'), Key::Char('j')]);
    let on = app.list().on.clone();
    assert_eq!(on, Some(Subject::Event(2)));
    app.take(batch(&["event_alloc", "event_alloc"]));
    assert_eq!(app.list().on, on);
    assert_eq!(app.list().cursor, 3);
}

#[test]
fn opening_leads_to_the_process_and_back() {
    for open in [Key::Enter, Key::Char('i')] {
        let mut app = full(SCREEN);
        press(&mut app, &[Key::Char('2'), open]);
        let opened: Vec<_> = app.opened.iter().map(|one| one.subject.clone()).collect();
        assert_eq!(opened, [Subject::Leak(4684, LeakClass::Bound)]);
        press(&mut app, &[open, open]);
        assert_eq!(app.opened.len(), 2);
        assert_eq!(app.opened[1].subject, Subject::Process(4684));
        press(&mut app, &[Key::Esc]);
        assert_eq!(app.opened.len(), 1);
        press(&mut app, &[Key::Backspace]);
        assert!(app.opened.is_empty());
    }
}

#[test]
fn what_is_open_scrolls_both_ways() {
    let mut app = full(SCREEN);
    press(
        &mut app,
        &[Key::Enter, Key::Char('j'), Key::Char('l'), Key::Right],
    );
    assert_eq!((app.opened[0].line, app.opened[0].column), (1, 16));
    press(&mut app, &[Key::End]);
    let last = app.opened[0].line;
    assert!(last > 1);
    press(&mut app, &[Key::Char('j')]);
    assert_eq!(app.opened[0].line, last);
    press(
        &mut app,
        &[Key::Home, Key::Left, Key::Char('h'), Key::Char('h')],
    );
    assert_eq!((app.opened[0].line, app.opened[0].column), (0, 0));
}

#[test]
fn sorting_goes_through_the_columns_and_turns_around() {
    let mut app = full(SCREEN);
    assert_eq!(pids(&app), ["4684", "912"]);
    press(&mut app, &[Key::Char('s')]);
    assert_eq!(
        (app.list().sort, pids(&app)),
        (Some((0, false)), vec!["4684".to_owned(), "912".to_owned()])
    );
    press(&mut app, &[Key::Char('r')]);
    assert_eq!(pids(&app), ["912", "4684"]);
    press(&mut app, &[Key::Char('S')]);
    assert_eq!(app.list().sort, None);
    press(&mut app, &[Key::Char('S')]);
    assert_eq!(
        app.list().sort,
        Some((
            rows::table(View::Overview, app.shown()).columns.len() - 1,
            false
        ))
    );
    press(&mut app, &[Key::Char('s'), Key::Char('s'), Key::Char('s')]);
    assert_eq!(app.list().sort, Some((1, false)));
    // Each view has its own order.
    press(&mut app, &[Key::Char('3')]);
    assert_eq!(app.list().sort, None);
}

#[test]
fn what_is_unknown_is_last_whichever_way() {
    let mut app = full(SCREEN);
    let oldest = app
        .table()
        .columns
        .iter()
        .position(|one| one.title == "OLDEST");
    let steps = oldest.expect("a column") + 1;
    for _ in 0..steps {
        press(&mut app, &[Key::Char('s')]);
    }
    // nginx has no CLOSED socket.
    assert_eq!(pids(&app), ["4684", "912"]);
    press(&mut app, &[Key::Char('r')]);
    assert_eq!(pids(&app), ["4684", "912"]);
}

#[test]
fn a_filter_is_seen_while_it_is_typed_and_can_be_dropped() {
    let mut app = full(SCREEN);
    press(&mut app, &[Key::Char('f')]);
    typed(&mut app, "NGIx");
    assert!(pids(&app).is_empty());
    press(&mut app, &[Key::Backspace]);
    assert_eq!(pids(&app), ["912"]);
    press(&mut app, &[Key::Enter]);
    assert_eq!(
        (app.prompt.clone(), pids(&app)),
        (None, vec!["912".to_owned()])
    );
    // Escape in the prompt: as it was before.
    press(&mut app, &[Key::Char('f'), Key::Ctrl('u')]);
    assert_eq!(pids(&app).len(), 2);
    press(&mut app, &[Key::Esc]);
    assert_eq!(pids(&app), ["912"]);
    // Escape in the list: no filter.
    press(&mut app, &[Key::Esc]);
    assert_eq!(pids(&app).len(), 2);
}

#[test]
fn a_search_goes_to_the_next_match_and_around_the_end() {
    let mut app = full(SCREEN);
    press(&mut app, &[Key::Char('7'), Key::Char('/')]);
    typed(&mut app, "alloc");
    press(&mut app, &[Key::Enter]);
    assert_eq!(app.list().cursor, 2);
    press(&mut app, &[Key::Char('/')]);
    typed(&mut app, "java");
    press(&mut app, &[Key::Enter]);
    assert_eq!(app.list().cursor, 0);
    press(&mut app, &[Key::Char('n')]);
    assert_eq!(app.list().cursor, 1);
    press(&mut app, &[Key::Char('N'), Key::Char('N')]);
    assert_eq!(app.list().cursor, 2);
    press(&mut app, &[Key::Char('/')]);
    typed(&mut app, "nobody");
    press(&mut app, &[Key::Enter]);
    assert_eq!(app.message(), Some("not found: nobody"));
    assert_eq!(app.list().cursor, 2);
    // Keys are text while something is typed, but for Ctrl-C.
    press(&mut app, &[Key::Char('/'), Key::Char('q')]);
    assert_eq!(app.prompt, Some(Prompt::Search("q".to_owned())));
    assert!(matches!(app.key(Key::Ctrl('c')), Effect::Quit));
}

#[test]
fn a_pause_keeps_what_is_shown_and_says_how_far_it_is_behind() {
    for pause in [Key::Char('p'), Key::Char(' ')] {
        let mut app = full(SCREEN);
        press(&mut app, &[pause]);
        assert_eq!(app.paused_ms(), Some(0));
        let mut later = report("interval_blind");
        let at = app.shown().at_ms().expect("a time") + 5_000;
        later.ts = rfc3339(at * 1_000_000);
        let reports = vec![later];
        let is_seen = app.take(Batch {
            reports,
            ..Batch::default()
        });
        assert!(!is_seen);
        assert_eq!((app.paused_ms(), pids(&app).len()), (Some(5_000), 2));
        press(&mut app, &[pause]);
        assert_eq!((app.paused_ms(), pids(&app).len()), (None, 0));
    }
}

#[test]
fn the_help_opens_scrolls_and_closes() {
    for help in [Key::Char('?'), Key::Char('H')] {
        let mut app = full(SCREEN);
        press(&mut app, &[help]);
        assert_eq!(app.help, Some(0));
        press(&mut app, &[Key::Char('j')]);
        assert_eq!(app.help, Some(1));
        press(&mut app, &[Key::Esc]);
        assert_eq!(app.help, None);
        press(&mut app, &[help, help]);
        assert_eq!(app.help, None);
    }
}

#[test]
fn what_the_watch_has_to_do_is_handed_out() {
    let mut app = full(SCREEN);
    for key in [Key::Char('q'), Key::Ctrl('c')] {
        assert!(matches!(app.key(key), Effect::Quit));
    }
    for key in [Key::Char('u'), Key::Ctrl('r')] {
        assert!(matches!(app.key(key), Effect::Refresh));
    }
    assert!(matches!(app.key(Key::Ctrl('l')), Effect::Redraw));
    assert!(matches!(app.key(Key::Ctrl('z')), Effect::Suspend));
    assert!(matches!(app.key(Key::Char('j')), Effect::None));
}

#[test]
fn an_export_has_the_reports_behind_the_view() {
    let kinds = |view: char, key| {
        let mut app = full(SCREEN);
        press(&mut app, &[Key::Char(view)]);
        let Effect::Export(slug, reports) = app.key(key) else {
            panic!("{key:?} exports");
        };
        let kinds: Vec<_> = reports.iter().map(|report| report.body.kind()).collect();
        (slug, kinds.join(" "))
    };
    let expected = [
        (
            "overview",
            "start interval failure failure hot_loop pressure leak leak",
        ),
        ("leaks", "start interval leak leak"),
        ("failures", "start interval failure failure"),
        ("search", "start interval hot_loop"),
        ("destinations", "start interval failure pressure"),
        ("ports", "start interval ports"),
        ("events", "start interval event event event"),
    ];
    for (n, (slug, reports)) in expected.iter().enumerate() {
        let view = char::from_digit(n as u32 + 1, 10).expect("a digit");
        for key in [Key::Ctrl('s'), Key::Char('e')] {
            assert_eq!(kinds(view, key), (*slug, (*reports).to_owned()));
        }
    }
    // Through the filter, in the order of the view.
    let mut app = full(SCREEN);
    press(&mut app, &[Key::Char('2'), Key::Char('f')]);
    typed(&mut app, "close_wait");
    press(&mut app, &[Key::Enter]);
    let Effect::Export(_, reports) = app.key(Key::Char('e')) else {
        panic!("it exports");
    };
    assert_eq!(reports.len(), 3);
    assert!(matches!(&reports[2].body, Body::Leak(leak) if leak.class == LeakClass::CloseWait));
}

#[test]
fn a_key_without_a_meaning_says_where_the_keys_are() {
    let mut app = full(SCREEN);
    press(&mut app, &[Key::Char('z')]);
    assert_eq!(app.message(), Some("? shows the keys"));
    press(&mut app, &[Key::Char('j')]);
    assert_eq!(app.message(), None);
}

#[test]
fn messages_end_and_late_reports_are_called_late() {
    let mut app = full(SCREEN);
    let at = app.shown().at_ms().expect("a time");
    assert!(!app.tick(at));
    app.say("written");
    assert!(!app.tick(at + MESSAGE_MS - 1));
    assert_eq!(app.message(), Some("written"));
    assert!(app.tick(at + MESSAGE_MS));
    assert_eq!(app.message(), None);
    // An interval of 5 s: late after 12.5 s.
    assert_eq!(view::age_s(&app), None);
    assert!(app.tick(at + 13_000));
    assert_eq!(view::age_s(&app), Some(13));
    assert!(!app.tick(at + 13_500));
    assert!(app.tick(at + 14_000));
}

#[test]
fn failures_add_up_over_intervals_and_the_newest_come_first() {
    let mut app = full(SCREEN);
    app.take(batch(&["interval", "failure_conflict"]));
    let failures: Vec<_> = (app.shown().failures.iter())
        .map(|failed| (failed.now, failed.total))
        .collect();
    assert_eq!(failures, [(1, 2), (0, 12_345)]);
    assert!(
        app.shown().leaks().next().is_none(),
        "leaks are of their interval"
    );
}

#[test]
fn everything_that_is_kept_is_bounded_and_what_is_not_is_counted() {
    let mut known = Known::default();
    known.take(batch(&["interval"]));
    let Body::Failure(template) = report("failure_exhausted").body else {
        panic!("a failure");
    };
    let many = known::FAILURES + 7;
    let reports = (0..many).map(|pid| {
        let mut failure = template.clone();
        failure.pid = pid as u32;
        failure.count = 2;
        Report::new(fixtures::TS, Body::Failure(failure))
    });
    known.take(Batch {
        reports: reports.collect(),
        missed_intervals: 3,
        missed_events: 4,
    });
    assert_eq!(known.failures.len(), known::FAILURES);
    assert_eq!(known.failures_not_kept, 14);
    assert_eq!((known.missed_intervals, known.missed_events), (3, 4));
    for _ in 0..known::EVENTS + 9 {
        known.take(batch(&["event_alloc"]));
    }
    assert_eq!(known.events.len(), known::EVENTS);
    assert_eq!(known.events_seen, known::EVENTS as u64 + 9);
    for _ in 0..known::HISTORY + 9 {
        known.take(batch(&["interval_blind"]));
    }
    assert_eq!(known.history.len(), known::HISTORY);
}

#[test]
fn ports_are_looked_at_only_while_they_are_seen() {
    let mut app = full(SCREEN);
    assert_eq!(app.wants_look(), None);
    press(&mut app, &[Key::Char('6')]);
    assert_eq!(app.wants_look(), Some(4_026_531_840));
    press(&mut app, &[Key::Char('p')]);
    assert_eq!(app.wants_look(), None);
}

#[test]
fn no_key_does_harm_before_the_first_report_or_on_a_screen_of_nothing() {
    for (width, height) in [(80, 24), (1, 1), (0, 0), (u16::MAX, 3)] {
        let screen = Screen {
            width,
            height,
            ..SCREEN
        };
        for mut app in [App::new(screen, true), full(screen)] {
            for view in 0..View::ALL.len() {
                app.key(Key::Char(
                    char::from_digit(view as u32 + 1, 10).expect("a digit"),
                ));
                for binding in BINDINGS {
                    for key in binding.keys {
                        app.key(*key);
                    }
                }
                app.key(Key::Esc);
            }
        }
    }
}

/// The file you read: each key of the help is pressed in it, alone or in a list.
#[test]
fn every_key_of_the_help_is_pressed_by_a_test() {
    let all = include_str!("tests.rs");
    let mut keys = 0;
    for key in BINDINGS.iter().flat_map(|binding| binding.keys) {
        keys += 1;
        let name = format!("Key::{key:?}");
        let is_digit = matches!(key, Key::Char('1'..='7'));
        assert!(is_digit || all.contains(&name), "{name} is pressed nowhere");
    }
    assert!(keys > 40, "{keys}");
}

#[test]
fn no_key_has_two_meanings() {
    let mut seen = Vec::new();
    for binding in BINDINGS {
        for key in binding.keys {
            assert!(!seen.contains(key), "{key:?}");
            seen.push(*key);
            assert_eq!(command(*key), Some(binding.command));
        }
    }
}
