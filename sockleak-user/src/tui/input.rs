//! Keys as the terminal library names them.

use ratatui_crossterm::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::app::Key;

/// The key, if it means anything here.
pub fn key(event: &KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
    // What Alt adds is left out: over a slow link it may be Esc and a key.
    Some(match event.code {
        KeyCode::Char(c) if ctrl => Key::Ctrl(c.to_ascii_lowercase()),
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_is_printed_on_them() {
        let press = |code, modifiers| key(&KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert_eq!(press(KeyCode::Char('q'), none), Some(Key::Char('q')));
        let shift = KeyModifiers::SHIFT;
        assert_eq!(press(KeyCode::Char('G'), shift), Some(Key::Char('G')));
        let ctrl = KeyModifiers::CONTROL;
        assert_eq!(press(KeyCode::Char('C'), ctrl), Some(Key::Ctrl('c')));
        assert_eq!(press(KeyCode::BackTab, shift), Some(Key::BackTab));
        assert_eq!(press(KeyCode::F(1), none), None);
        let released = KeyEvent::new_with_kind(KeyCode::Enter, none, KeyEventKind::Release);
        assert_eq!(key(&released), None);
    }
}
