//! A conversation in the terminal: lines in, answers out, until Ctrl-D or /exit.
//!
//! The conversation and the history of lines are kept in memory alone, unless /save is asked for. Nothing of the conversation is forgotten
//! without a word: a question that fails is taken back, and where the context is full the user decides about the oldest turns.

mod editor;
mod kept;
mod line;
mod room;
mod settings;

use std::io;
use std::path::Path;

use rustyline::error::ReadlineError;
use serde_json::Value;
use worker::chat::message;
use worker::{Chat, Prompt, WorkerError};

use self::editor::LineEditor;
use self::line::Line;
use super::ask::{Answer, Asker};
use super::show::{self, Reasoning, Shown};
use crate::{cmd, log};

/// What is said of a line that cannot be a message.
const NO_TEXT: &str = "\na byte that is not UTF-8 was typed, and the line is dropped: type it again\n";

/// A conversation under way.
pub(crate) struct Talk<'a> {
    asker: Asker<'a>,
    reasoning: Reasoning,
    /// Whether answers come without their figures.
    is_quiet: bool,
    /// The system message, if there is one.
    opening: Vec<Value>,
    /// The opening, and what was said since.
    messages: Vec<Value>,
}

fn opening(system: Option<&str>) -> Vec<Value> {
    system.filter(|text| !text.is_empty()).map(|text| message("system", text)).into_iter().collect()
}

impl<'a> Talk<'a> {
    pub(crate) fn new(
        asker: Asker<'a>,
        system: Option<&str>,
        reasoning: Reasoning,
        is_quiet: bool,
    ) -> Talk<'a> {
        let opening = opening(system);
        Talk { asker, reasoning, is_quiet, messages: opening.clone(), opening }
    }

    /// Talks until the user leaves.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let mut editor = editor::editor()?;
        cmd::print("Type a message, or /help. Ctrl-C stops an answer, Ctrl-D leaves.\n")?;
        loop {
            // A warning of the last answer comes before the prompt, not behind it.
            log::flush();
            let typed = match editor.readline("> ") {
                Ok(typed) => typed,
                // Nothing is running that could be stopped: an unfinished line is thrown away.
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => return Ok(()),
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    cmd::print(NO_TEXT)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if !typed.trim().is_empty() {
                editor.add_history_entry(typed.trim())?;
            }
            match Line::parse(&typed) {
                Line::Exit => return Ok(()),
                Line::Message(text) => self.question(text, &mut editor)?,
                line => cmd::print(&self.command(line))?,
            }
        }
    }

    /// Does what a command asks for, and says so.
    fn command(&mut self, line: Line<'_>) -> String {
        match line {
            Line::Help => line::help(),
            Line::Unknown(command) => {
                let name = command.split_whitespace().next().unwrap_or_default();
                let known = line::COMMANDS.iter().map(|(name, ..)| *name);
                let hint = server::nearest::suggestion(name, known);
                format!("no command {command}{hint}; /help lists them\n")
            }
            Line::Set("", _) => settings::shown(&self.asker.sampling, self.defaults()),
            Line::Set(name, value) => match settings::set(&mut self.asker.sampling, name, value) {
                Ok(()) => format!("{name} is {value} from now on\n"),
                Err(reason) => format!("{reason}\n"),
            },
            Line::Show => self.shown(),
            Line::Reset => {
                self.messages.clone_from(&self.opening);
                "a new conversation\n".to_owned()
            }
            Line::System(text) => {
                self.opening = opening(Some(text));
                self.messages.clone_from(&self.opening);
                let with = if text.is_empty() { "without a" } else { "with this" };
                format!("a new conversation {with} system message\n")
            }
            Line::Save("") => "/save: expected the name of a new file behind it\n".to_owned(),
            Line::Load("") => "/load: expected the name of a file that /save wrote behind it\n".to_owned(),
            Line::Save(path) => match kept::save(Path::new(path), &self.messages) {
                Ok(()) => format!("saved {} messages in {path}\n", self.messages.len()),
                Err(error) => format!("not saved: {path}: {error}\n"),
            },
            Line::Load(path) => match self.load(Path::new(path)) {
                Ok(()) => format!("going on with {} messages of {path}\n", self.messages.len()),
                Err(reason) => format!("not loaded: {path}: {reason}\n"),
            },
            Line::Nothing | Line::Exit | Line::Message(_) => String::new(),
        }
    }

    fn defaults(&self) -> worker::Defaults {
        self.asker.worker.options().defaults
    }

    fn shown(&self) -> String {
        let capacity = self.asker.worker.engine().capacity();
        let context = match self.messages.is_empty() {
            true => Ok(0),
            false => self.count(self.messages.clone()),
        };
        let used = context.map_or_else(|error| error.to_string(), |n| n.to_string());
        let system = self.opening.first().and_then(|message| message["content"].as_str()).unwrap_or("none");
        format!(
            "{}{:<18} {used} of {capacity} tokens, {} messages\n{:<18} {system}\n",
            settings::shown(&self.asker.sampling, self.defaults()),
            "context",
            self.messages.len(),
            "system message",
        )
    }

    fn load(&mut self, path: &Path) -> Result<(), String> {
        let messages = kept::load(path)?;
        self.count(messages.clone()).map_err(|error| error.to_string())?;
        let is_opening = messages[0]["role"] == "system";
        self.opening = messages.iter().take(usize::from(is_opening)).cloned().collect();
        self.messages = messages;
        Ok(())
    }

    /// Tokens of a conversation as a prompt.
    fn count(&self, messages: Vec<Value>) -> Result<usize, WorkerError> {
        Ok(self.asker.worker.tokenize(&Prompt::Chat(Chat::new(messages)))?.len())
    }

    /// Asks, and keeps the answer.
    fn question(&mut self, text: &str, editor: &mut LineEditor) -> anyhow::Result<()> {
        let before = self.messages.len();
        self.messages.push(message("user", text));
        if !self.has_room(editor)? {
            self.messages.truncate(before);
            return Ok(());
        }
        match self.answer()? {
            Some(answer) if !answer.text.is_empty() => self.messages.push(message("assistant", &answer.text)),
            Some(_) => {
                self.messages.pop();
                cmd::print("[no answer: the question is not kept]\n")?;
            }
            None => drop(self.messages.pop()),
        }
        Ok(())
    }

    /// Makes room for an answer where the user lets it.
    fn has_room(&mut self, editor: &mut LineEditor) -> anyhow::Result<bool> {
        let capacity = self.asker.worker.engine().capacity();
        let n_prompt = match self.count(self.messages.clone()) {
            Ok(n_prompt) if n_prompt >= capacity => n_prompt,
            // What is wrong with a conversation is for the answer to say.
            _ => return Ok(true),
        };
        // An answer needs room as well.
        let most = capacity - capacity / 4;
        let fewest = room::fewest(&self.messages, most, |messages| self.count(messages))?;
        let n_turn = room::n_turn(&self.messages);
        let last = room::without(&self.messages, n_turn.saturating_sub(1));
        let n_dropped = match fewest {
            Some(n_dropped) => n_dropped,
            None if self.count(last)? < capacity => n_turn - 1,
            None => {
                let text = format!(
                    "this message alone is longer than the context of {capacity} tokens; start with a larger --ctx\n"
                );
                cmd::print(&text)?;
                return Ok(false);
            }
        };
        let question = format!(
            "The conversation of {n_prompt} tokens is too long for the context of {capacity}. Drop the oldest {n_dropped} of {n_turn} turns? [Y/n] "
        );
        let is_wanted = match editor.readline(&question) {
            Ok(typed) => matches!(typed.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => false,
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                cmd::print(NO_TEXT)?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        if is_wanted {
            self.messages = room::without(&self.messages, n_dropped);
        } else {
            cmd::print(
                "nothing is dropped, and the question was not asked; /save keeps the conversation, /reset starts anew\n",
            )?;
        }
        Ok(is_wanted)
    }

    /// Streams an answer; `None`, after a word about it, where the question could not be answered.
    fn answer(&self) -> anyhow::Result<Option<Answer>> {
        let mut shown = Shown::stdout(self.reasoning);
        let prompt = Prompt::Chat(Chat::new(self.messages.clone()));
        match self.asker.ask(prompt, &mut |piece| shown.piece(piece)) {
            Ok(answer) => {
                shown.end(&self.word(&answer))?;
                drop(shown);
                if !self.is_quiet {
                    cmd::print(&show::dim(&format!(
                        "[{}]\n",
                        answer.figures(self.asker.worker.engine().capacity())
                    )))?;
                }
                tracing::debug!("{}", answer.summary());
                Ok(Some(answer))
            }
            Err(error) if error.downcast_ref::<WorkerError>().is_some() => {
                tracing::error!("{error:#}; /reset starts a new conversation");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What stands behind an answer that did not end by itself.
    fn word(&self, answer: &Answer) -> String {
        let capacity = self.asker.worker.engine().capacity();
        match answer.stop_reason {
            "interrupted" => " [stopped]\n".to_owned(),
            "length" if answer.n_context() >= capacity => {
                format!(" [cut off: the context of {capacity} tokens is full]\n")
            }
            "length" => format!(" [cut off at max_tokens, {}]\n", answer.tokens.len()),
            _ => "\n".to_owned(),
        }
    }
}
