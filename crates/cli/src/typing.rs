//! What becomes of keys that are pressed while an answer is written? The terminal keeps them for the next line and does not show them in the answer.

use std::io;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// How the terminal was.
#[derive(Clone, Debug)]
pub(crate) struct Typing(Termios);

impl Typing {
    /// Shows what is typed again.
    pub(crate) fn restore(&self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What is typed is not shown while this lives. Signals such as Ctrl-C still come.
#[derive(Debug)]
pub(crate) struct Hushed(Typing);

impl Hushed {
    /// For a program that reads from a terminal in the foreground; none where stdin is no terminal.
    pub(crate) fn start() -> Option<Hushed> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Now, &now).ok()?;
        Some(Hushed(Typing(before)))
    }

    /// For whoever ends the process before this ends.
    pub(crate) fn before(&self) -> Typing {
        self.0.clone()
    }
}

impl Drop for Hushed {
    fn drop(&mut self) {
        self.0.restore();
    }
}
