//! What is in effect? The settings as a TOML file that could be given to `--config`, each with a comment on where it came from.
//!
//! Secrets, flags that have no value and defaults that another flag excludes stand in comments alone.

use std::ffi::OsStr;
use std::fmt::Write;

use clap::builder::{Arg, ArgAction};
use clap::{ArgMatches, Command};

use super::environment::variable;
use super::{COMMAND, Layered, Origin, conflict, is_secret, long, settings};

/// What a setting that nobody set comes to.
#[derive(Debug)]
pub(crate) struct InEffect {
    /// The argument's id.
    pub(crate) id: String,
    /// As TOML.
    pub(crate) value: String,
    /// Where it came from.
    pub(crate) origin: &'static str,
}

/// The settings of `serve`; `in_effect` are those that start would choose.
pub(crate) fn print(command: &Command, layered: &Layered, in_effect: &[InEffect]) -> String {
    let mut built = command.clone();
    built.build();
    let mut text = String::new();
    let (Some(serve), Some(matches)) = (built.find_subcommand(COMMAND), layered.serve()) else {
        return text;
    };
    for arg in settings(serve) {
        let name = long(arg);
        let origin = match layered.origin(matches, arg.get_id().as_str()) {
            Origin::Flag => format!("flag --{name}"),
            Origin::Environment(name) => format!("environment {name}"),
            Origin::File(path) => format!("file {}", path.display()),
            Origin::Default => "default".to_owned(),
        };
        // A name can hold a line's end; a comment cannot.
        let origin: String = origin.chars().filter(|c| !c.is_control()).collect();
        let is_said = |other: &&Arg| layered.origin(matches, other.get_id().as_str()) != Origin::Default;
        let excluded = settings(serve).filter(is_said).any(|other| conflict(&built, serve, arg, other));
        let chosen_now = in_effect.iter().find(|found| arg.get_id() == found.id.as_str());
        let _ = match value(arg, matches) {
            Some(value) if excluded => writeln!(text, "# {name} = {value} is not in effect"),
            None if let Some(InEffect { value, origin, .. }) = chosen_now => {
                writeln!(text, "{name} = {value}  # {origin}")
            }
            None => {
                let what = chosen(arg).map_or_else(
                    || "is not set".to_owned(),
                    |default| format!("is chosen at start: {default}"),
                );
                writeln!(text, "# {name} {what} (--{name}, {})", variable(arg))
            }
            Some(_) if is_secret(arg) => writeln!(text, "# {name} is set and not shown  # {origin}"),
            Some(value) => writeln!(text, "{name} = {value}  # {origin}"),
        };
    }
    text
}

/// What the program takes where nobody names a value, and no constant is the default: the help of the flag says it.
fn chosen(arg: &Arg) -> Option<String> {
    let help = arg.get_help()?.to_string();
    let (_, default) = help.split_once("[default: ")?;
    Some(default.split_once(']')?.0.to_owned())
}

/// A value as TOML.
fn value(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    match arg.get_action() {
        ArgAction::SetTrue => Some(matches.get_flag(id).to_string()),
        ArgAction::Count => Some(matches.get_count(id).to_string()),
        action => {
            let values: Vec<String> = matches.get_raw(id)?.map(scalar).collect();
            Some(match matches!(action, ArgAction::Append) || arg.get_value_delimiter().is_some() {
                true => format!("[{}]", values.join(", ")),
                false => values.concat(),
            })
        }
    }
}

/// A number where the text is one and reads back as the same text; else a string.
fn scalar(value: &OsStr) -> String {
    let text = value.to_string_lossy();
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => text.into_owned(),
        // JSON's escapes are TOML's; TOML wants one more.
        _ => serde_json::Value::from(text.as_ref()).to_string().replace('\u{7f}', "\\u007f"),
    }
}
