//! How is a line typed? With its history, Tab for commands, settings and files, and several lines between `"""`.

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::line::{COMMANDS, is_open};
use super::settings;

/// The editor of a conversation's lines; its history is kept in memory alone.
pub(super) type LineEditor = Editor<Typist, DefaultHistory>;

/// Makes the editor.
pub(super) fn editor() -> Result<LineEditor, ReadlineError> {
    let config = Config::builder().completion_type(CompletionType::List).build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Typist { files: FilenameCompleter::new() }));
    Ok(editor)
}

/// What helps to type.
pub(super) struct Typist {
    files: FilenameCompleter,
}

impl Helper for Typist {}
impl Highlighter for Typist {}

impl Hinter for Typist {
    type Hint = String;
}

impl Validator for Typist {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult, ReadlineError> {
        Ok(match is_open(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Typist {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        context: &Context<'_>,
    ) -> Result<(usize, Vec<Pair>), ReadlineError> {
        let typed = &line[..at];
        match typed.split_once(' ') {
            None => Ok((0, beginning(typed, COMMANDS.iter().map(|(name, ..)| *name)))),
            Some(("/set", name)) => Ok((at - name.len(), beginning(name, settings::names()))),
            Some(("/save" | "/load", _)) => self.files.complete(line, at, context),
            Some(_) => Ok((at, Vec::new())),
        }
    }
}

/// The names that begin like this, where anything is typed.
fn beginning<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<Pair> {
    let names = names.filter(|name| !typed.is_empty() && name.starts_with(typed));
    names.map(|name| Pair { display: name.to_owned(), replacement: format!("{name} ") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_completes_commands_and_settings_and_no_message() {
        let typist = Typist { files: FilenameCompleter::new() };
        let history = DefaultHistory::new();
        let completed = |line: &str| {
            let (start, found) = typist.complete(line, line.len(), &Context::new(&history)).unwrap();
            let found: Vec<&str> = found.iter().map(|pair| pair.display.as_str()).collect();
            format!("{start}: {}", found.join(" "))
        };
        assert_eq!(completed("/s"), "0: /set /show /system /save");
        assert_eq!(completed("/set top"), "5: top_k top_p");
        assert_eq!(completed("why"), "0: ");
        assert_eq!(completed("why is"), "6: ");
        assert_eq!(completed(""), "0: ");
    }
}
