//! Keys and what they do: the one table behind both the handling and the help.

/// A key, whatever the terminal sends for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// With Ctrl.
    Ctrl(char),
    /// Return.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Shift and Tab.
    BackTab,
    /// Delete the character before.
    Backspace,
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// An arrow.
    Left,
    /// An arrow.
    Right,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// End the watch.
    Quit,
    /// Show the keys.
    Help,
    /// A view, by its place.
    View(usize),
    /// The next view.
    NextView,
    /// The one before.
    PreviousView,
    /// Move by rows.
    Move(i8),
    /// Move by pages.
    Page(i8),
    /// Move by halves of a page.
    HalfPage(i8),
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// Move sideways.
    Sideways(i8),
    /// Open what the cursor is on.
    Open,
    /// Close what was opened last.
    Back,
    /// Sort by the next column.
    Sort,
    /// Sort by the one before.
    SortBack,
    /// The other way round.
    Reverse,
    /// Type a filter.
    Filter,
    /// Type what to search for.
    Search,
    /// The next match.
    NextMatch,
    /// The match before.
    PreviousMatch,
    /// Stand still, or go on.
    Pause,
    /// Look at all descriptors now.
    Refresh,
    /// Write what is shown into a file.
    Export,
    /// Draw everything again.
    Redraw,
    /// Stop, until the shell lets it go on.
    Suspend,
}

/// A line of the help.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The keys.
    pub keys: &'static [Key],
    /// What the first of them does.
    pub command: Command,
    /// How they are written.
    pub label: &'static str,
    /// What is said about them.
    pub help: &'static str,
}

const fn bind(
    keys: &'static [Key],
    command: Command,
    label: &'static str,
    help: &'static str,
) -> Binding {
    Binding {
        keys,
        command,
        label,
        help,
    }
}

/// All of them; those without a label belong to the line before.
pub const BINDINGS: &[Binding] = &[
    bind(
        &[Key::Tab],
        Command::NextView,
        "Tab Shift-Tab 1-7",
        "next view, the one before, or by number",
    ),
    bind(&[Key::BackTab], Command::PreviousView, "", ""),
    bind(&[Key::Char('1')], Command::View(0), "", ""),
    bind(&[Key::Char('2')], Command::View(1), "", ""),
    bind(&[Key::Char('3')], Command::View(2), "", ""),
    bind(&[Key::Char('4')], Command::View(3), "", ""),
    bind(&[Key::Char('5')], Command::View(4), "", ""),
    bind(&[Key::Char('6')], Command::View(5), "", ""),
    bind(&[Key::Char('7')], Command::View(6), "", ""),
    bind(
        &[Key::Down, Key::Char('j')],
        Command::Move(1),
        "Up Down k j",
        "move the cursor",
    ),
    bind(&[Key::Up, Key::Char('k')], Command::Move(-1), "", ""),
    bind(
        &[Key::PageDown, Key::Ctrl('f')],
        Command::Page(1),
        "PgUp PgDn ^B ^F",
        "by pages; ^U ^D by half a page",
    ),
    bind(&[Key::PageUp, Key::Ctrl('b')], Command::Page(-1), "", ""),
    bind(&[Key::Ctrl('d')], Command::HalfPage(1), "", ""),
    bind(&[Key::Ctrl('u')], Command::HalfPage(-1), "", ""),
    bind(
        &[Key::Home, Key::Char('g')],
        Command::First,
        "Home End g G",
        "to the first, to the last",
    ),
    bind(&[Key::End, Key::Char('G')], Command::Last, "", ""),
    bind(
        &[Key::Right, Key::Char('l')],
        Command::Sideways(1),
        "Left Right h l",
        "move sideways in what was opened",
    ),
    bind(&[Key::Left, Key::Char('h')], Command::Sideways(-1), "", ""),
    bind(
        &[Key::Enter, Key::Char('i')],
        Command::Open,
        "Enter i",
        "open: a process has its leaks, stacks, failures",
    ),
    bind(
        &[Key::Esc, Key::Backspace],
        Command::Back,
        "Esc",
        "close it; drop the filter",
    ),
    bind(
        &[Key::Char('s')],
        Command::Sort,
        "s S r",
        "sort by the next column, the one before, reverse",
    ),
    bind(&[Key::Char('S')], Command::SortBack, "", ""),
    bind(&[Key::Char('r')], Command::Reverse, "", ""),
    bind(
        &[Key::Char('f')],
        Command::Filter,
        "f",
        "filter: only rows with this text",
    ),
    bind(
        &[Key::Char('/')],
        Command::Search,
        "/ n N",
        "search, next match, the one before",
    ),
    bind(&[Key::Char('n')], Command::NextMatch, "", ""),
    bind(&[Key::Char('N')], Command::PreviousMatch, "", ""),
    bind(
        &[Key::Char('p'), Key::Char(' ')],
        Command::Pause,
        "p Space",
        "pause; the watch itself goes on",
    ),
    bind(
        &[Key::Char('u'), Key::Ctrl('r')],
        Command::Refresh,
        "u",
        "look at everything now, as SIGUSR1 does",
    ),
    bind(
        &[Key::Ctrl('s'), Key::Char('e')],
        Command::Export,
        "^S e",
        "write what is shown into a JSON file",
    ),
    bind(
        &[Key::Ctrl('l')],
        Command::Redraw,
        "^L",
        "draw the screen again",
    ),
    bind(
        &[Key::Ctrl('z')],
        Command::Suspend,
        "^Z",
        "stop; the shell's fg goes on with it",
    ),
    bind(
        &[Key::Char('?'), Key::Char('H')],
        Command::Help,
        "?",
        "this help",
    ),
    bind(
        &[Key::Char('q'), Key::Ctrl('c')],
        Command::Quit,
        "q ^C",
        "end, and print the reports",
    ),
];

/// What a key asks for, when nothing is being typed.
pub fn command(key: Key) -> Option<Command> {
    let found = BINDINGS.iter().find(|binding| binding.keys.contains(&key));
    found.map(|binding| binding.command)
}
