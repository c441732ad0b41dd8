//! A conversation in the terminal: lines in, answers out, until Ctrl-D or /exit.
//!
//! The conversation and the history of lines are kept in memory alone. A question that fails is forgotten, so that the next one
//! starts from what went well.

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::Value;
use worker::chat::message;
use worker::{Chat, Prompt};

use super::ask::Asker;
use super::show::{Reasoning, Shown};
use crate::cmd;

const HELP: &str = "\
/help          this text
/reset         forget the conversation, keep the system message
/system TEXT   forget the conversation and set the system message (without TEXT: none)
/exit          leave, as Ctrl-D does
Ctrl-C stops an answer. Everything else is a message to the model.
";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Help,
    Reset,
    System(&'a str),
    Exit,
    Unknown(&'a str),
    Message(&'a str),
}

impl Line<'_> {
    fn parse(line: &str) -> Line<'_> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return if line.is_empty() { Line::Nothing } else { Line::Message(line) };
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("help" | "?", "") => Line::Help,
            ("reset" | "clear", "") => Line::Reset,
            ("system", text) => Line::System(text),
            ("exit" | "quit" | "bye", "") => Line::Exit,
            _ => Line::Unknown(line),
        }
    }
}

/// Talks until the user leaves.
pub(crate) fn talk(asker: &Asker<'_>, system: Option<&str>, reasoning: Reasoning) -> anyhow::Result<()> {
    let mut editor = DefaultEditor::new()?;
    let mut opening: Vec<Value> = system.map(|text| message("system", text)).into_iter().collect();
    let mut messages = opening.clone();
    cmd::print("Type a message, or /help. Ctrl-C stops an answer, Ctrl-D leaves.\n")?;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            // Nothing is running that could be stopped: an unfinished line is thrown away.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !line.trim().is_empty() {
            editor.add_history_entry(line.trim())?;
        }
        match Line::parse(&line) {
            Line::Nothing => {}
            Line::Help => cmd::print(HELP)?,
            Line::Exit => return Ok(()),
            Line::Unknown(command) => cmd::print(&format!("no command {command}; /help lists them\n"))?,
            Line::Reset => messages.clone_from(&opening),
            Line::System(text) => {
                opening = Some(text)
                    .filter(|text| !text.is_empty())
                    .map(|text| message("system", text))
                    .into_iter()
                    .collect();
                messages.clone_from(&opening);
            }
            Line::Message(text) => {
                messages.push(message("user", text));
                match answer(asker, &messages, reasoning)? {
                    Some(answer) if !answer.is_empty() => messages.push(message("assistant", &answer)),
                    _ => drop(messages.pop()),
                }
            }
        }
    }
}

/// Streams an answer; `None`, after a word about it, where the question could not be answered.
fn answer(asker: &Asker<'_>, messages: &[Value], reasoning: Reasoning) -> anyhow::Result<Option<String>> {
    let mut shown = Shown::stdout(reasoning);
    let prompt = Prompt::Chat(Chat::new(messages.to_vec()));
    match asker.ask(prompt, &mut |piece| shown.piece(piece)) {
        Ok(answer) => {
            shown.end(if answer.interrupted { " [stopped]\n" } else { "\n" })?;
            tracing::debug!("{}", answer.summary());
            Ok(Some(answer.text))
        }
        Err(error) if error.downcast_ref::<worker::WorkerError>().is_some() => {
            tracing::error!("{error:#}; /reset starts a new conversation");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_messages() {
        let cases = [
            ("  ", Line::Nothing),
            (" what is /help? ", Line::Message("what is /help?")),
            ("/help", Line::Help),
            ("/exit", Line::Exit),
            ("/reset", Line::Reset),
            ("/system  Be brief. ", Line::System("Be brief.")),
            ("/system", Line::System("")),
            ("/help me", Line::Unknown("/help me")),
            ("/etc/passwd is what?", Line::Unknown("/etc/passwd is what?")),
        ];
        for (line, expected) in cases {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
