//! The terminal: whether there is one, keys as they are pressed, a screen that is drawn again and again.

use std::{
    io::{self, IsTerminal, Read, Write},
    thread,
};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::sync::mpsc;

/// Whether what is printed may have colours.
pub(super) fn takes_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A screen that one program has for itself, until this is dropped.
pub(super) struct Screen {
    /// What keys did before.
    before: Option<Termios>,
}

impl Screen {
    /// None where standard output is no terminal.
    pub(super) fn take() -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        // The other screen, without a cursor.
        print("\x1b[?1049h\x1b[?25l");
        Some(Self { before: single_keys() })
    }

    /// Replaces what is shown; what has no room is cut off.
    pub(super) fn draw(&self, text: &str) {
        let rows = termios::tcgetwinsize(io::stdout()).map_or(24, |size| size.ws_row);
        let lines = text.lines().take(usize::from(rows.max(2)) - 1);
        let lines: String = lines.map(|line| format!("{line}\x1b[K\r\n")).collect();
        print(&format!("\x1b[H{lines}\x1b[J"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nobody is left to be told.
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
        print("\x1b[?25h\x1b[?1049l");
    }
}

/// Keys come one by one and are not shown; Ctrl-C stays a signal.
fn single_keys() -> Option<Termios> {
    let before = termios::tcgetattr(io::stdin()).ok()?;
    let mut now = before.clone();
    now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    termios::tcsetattr(io::stdin(), OptionalActions::Now, &now).ok()?;
    Some(before)
}

/// Keys that are pressed from now on; none ever where standard input is no terminal.
pub(super) fn keys() -> mpsc::UnboundedReceiver<u8> {
    let (pressed, keys) = mpsc::unbounded_channel();
    if io::stdin().is_terminal() {
        // Not joined: it ends with the process.
        thread::spawn(move || {
            let mut bytes = io::stdin().lock().bytes().map_while(Result::ok);
            bytes.all(|key| pressed.send(key).is_ok())
        });
    }
    keys
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    // A terminal that is gone needs no screen.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
