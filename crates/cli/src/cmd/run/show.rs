//! How is an answer written to stdout? As it comes, with what the model thinks first told apart from it.
//!
//! Thinking stands between the lines that Ollama's users know, dimmed where a terminal shows it; whoever reads a pipe gets the answer alone,
//! unless they ask for more. Each piece is dimmed by itself, so that whatever ends the program leaves no dim terminal behind.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

use crate::log;

/// Whether what the model thinks is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reasoning {
    /// On a terminal.
    Auto,
    /// Always.
    Show,
    /// Never.
    Hide,
}

/// More of an answer. Either may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) reasoning: String,
    pub(crate) text: String,
}

/// How reasoning is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Hidden,
    Plain,
    Dim,
}

/// What is said beside an answer, dimmed unless no colour is wanted.
pub(crate) fn dim(text: &str) -> String {
    if log::is_plain() { text.to_owned() } else { format!("\x1b[2m{text}\x1b[0m") }
}

/// Writes one answer.
#[derive(Debug)]
pub(crate) struct Shown<W> {
    out: W,
    style: Style,
    is_reasoning: bool,
    /// Whether what was written ends a line.
    ends_line: bool,
}

impl Shown<io::StdoutLock<'static>> {
    /// To stdout.
    pub(crate) fn stdout(reasoning: Reasoning) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Shown::new(io::stdout().lock(), Style::of(reasoning, is_terminal, log::is_plain()))
    }
}

impl Style {
    fn of(reasoning: Reasoning, is_terminal: bool, is_plain: bool) -> Style {
        match (reasoning, is_terminal) {
            (Reasoning::Hide, _) | (Reasoning::Auto, false) => Style::Hidden,
            (Reasoning::Auto | Reasoning::Show, true) if !is_plain => Style::Dim,
            _ => Style::Plain,
        }
    }
}

impl<W: Write> Shown<W> {
    fn new(out: W, style: Style) -> Shown<W> {
        Shown { out, style, is_reasoning: false, ends_line: false }
    }

    /// More of the answer.
    pub(crate) fn piece(&mut self, piece: &Piece) -> io::Result<()> {
        if !piece.reasoning.is_empty() && self.style != Style::Hidden {
            if !self.is_reasoning {
                self.apart("Thinking...\n")?;
                self.is_reasoning = true;
            }
            self.apart(&piece.reasoning)?;
        }
        if !piece.text.is_empty() {
            if self.is_reasoning {
                self.is_reasoning = false;
                let before = if self.ends_line { "" } else { "\n" };
                self.apart(&format!("{before}...done thinking.\n"))?;
                self.write("\n")?;
            }
            self.write(&piece.text)?;
        }
        self.out.flush()
    }

    /// The answer is over: its last line ends, with a word about it.
    pub(crate) fn end(&mut self, word: &str) -> io::Result<()> {
        self.write(word)?;
        if !self.ends_line {
            self.write("\n")?;
        }
        self.out.flush()
    }

    /// What is not the answer.
    fn apart(&mut self, text: &str) -> io::Result<()> {
        match self.style {
            Style::Dim => {
                write!(self.out, "\x1b[2m{text}\x1b[0m")?;
                self.ends_line = text.ends_with('\n');
                Ok(())
            }
            _ => self.write(text),
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        if !text.is_empty() {
            self.ends_line = text.ends_with('\n');
        }
        self.out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(style: Style, pieces: &[(&str, &str)], word: &str, expected: &str) {
        let mut shown = Shown::new(Vec::new(), style);
        for &(reasoning, text) in pieces {
            shown.piece(&Piece { reasoning: reasoning.to_owned(), text: text.to_owned() }).unwrap();
        }
        shown.end(word).unwrap();
        assert_eq!(String::from_utf8(shown.out).unwrap(), expected);
    }

    #[test]
    fn thinking_stands_apart_from_the_answer() {
        let thought = [("I ", ""), ("wonder.", ""), ("", "Yes"), ("", ".")];
        check(Style::Hidden, &thought, "", "Yes.\n");
        check(Style::Plain, &thought, "", "Thinking...\nI wonder.\n...done thinking.\n\nYes.\n");
        let dim = "\x1b[2mThinking...\n\x1b[0m\x1b[2mI \x1b[0m\x1b[2mwonder.\x1b[0m\x1b[2m\n...done thinking.\n\x1b[0m\nYes.\n";
        check(Style::Dim, &thought, "", dim);
        // Both in one piece, and a line that the model ended.
        check(Style::Plain, &[("Hm.\n", "Yes.\n")], "", "Thinking...\nHm.\n...done thinking.\n\nYes.\n");
        check(Style::Plain, &[("", "Yes.\n")], "", "Yes.\n");
        check(Style::Plain, &[("", "Yes")], " [stopped]\n", "Yes [stopped]\n");
        // It was cut off while it thought.
        check(Style::Plain, &[("Hm", "")], "", "Thinking...\nHm\n");
        check(Style::Hidden, &[("Hm", "")], "", "\n");
    }

    #[test]
    fn a_pipe_has_the_answer_alone_unless_more_is_asked_for() {
        assert_eq!(Style::of(Reasoning::Auto, false, false), Style::Hidden);
        assert_eq!(Style::of(Reasoning::Auto, true, false), Style::Dim);
        assert_eq!(Style::of(Reasoning::Auto, true, true), Style::Plain);
        assert_eq!(Style::of(Reasoning::Show, false, false), Style::Plain);
        assert_eq!(Style::of(Reasoning::Show, true, false), Style::Dim);
        assert_eq!(Style::of(Reasoning::Hide, true, false), Style::Hidden);
    }
}
