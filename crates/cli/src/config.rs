//! How is `serve` set up? By flags, by `WORKER_ORCD_*` in the environment and by a TOML file, in this order of precedence.
//!
//! Everything follows from clap's own definition of the flags: a variable is a flag's long name in capitals, a key is the name itself, and both
//! become flags that are put behind those of the command line where it is silent. So a new flag is covered by itself, and every value passes
//! the same checks wherever it came from.

mod environment;
mod file;
mod print;
mod value;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{Arg, ArgAction};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

pub(crate) use self::file::read;
pub(crate) use self::print::{InEffect, print};
use self::value::Raw;
use crate::exit::Failure;

/// The command that this is for.
const COMMAND: &str = "serve";
/// Flags that say where settings are, and are none.
const NOT_SETTINGS: [&str; 4] = ["config", "print_config", "help", "version"];

/// The flags of configuration itself.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ConfigArgs {
    /// A TOML file of flags without their dashes, such as port = 9000; flags and WORKER_ORCD_* variables win over it
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
    /// Print what is in effect and where each value came from, and end
    #[arg(long, help_heading = "Configuration")]
    print_config: bool,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag,
    /// This variable.
    Environment(String),
    /// This file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

/// A command line with what environment and file add to it.
#[derive(Debug)]
pub(crate) struct Layered {
    pub(crate) matches: ArgMatches,
    /// Of the arguments that did not come from the command line, by their ids.
    origins: HashMap<String, Origin>,
}

/// Why a process is not set up.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// By the parser of flags; help and version arrive here too.
    Flags(clap::Error),
    /// By what environment or file say.
    Setting(anyhow::Error),
}

/// What one flag gets from a layer below the command line.
struct Setting {
    id: String,
    flags: Vec<OsString>,
    origin: Origin,
}

impl Layered {
    /// Whether the settings are all that is wanted.
    pub(crate) fn is_to_print(&self) -> bool {
        self.serve().is_some_and(wants_print)
    }

    /// The arguments of `serve`, where that is the command.
    pub(crate) fn serve(&self) -> Option<&ArgMatches> {
        self.matches.subcommand_matches(COMMAND)
    }

    /// Where the value of an argument came from.
    pub(crate) fn origin(&self, matches: &ArgMatches, id: &str) -> Origin {
        match self.origins.get(id) {
            Some(origin) => origin.clone(),
            None if matches.value_source(id) == Some(ValueSource::CommandLine) => Origin::Flag,
            None => Origin::Default,
        }
    }
}

/// Parses a command line; that of `serve` with what environment and file add to it. `read` reads the file.
pub(crate) fn parse(
    command: &Command,
    args: Vec<OsString>,
    environment: &[(OsString, OsString)],
    read: &dyn Fn(&Path) -> anyhow::Result<String>,
) -> Result<Layered, Refusal> {
    // What is missing or in conflict here is for the second look to say.
    let first = command.clone().ignore_errors(true).try_get_matches_from(&args).map_err(Refusal::Flags)?;
    let Some(given) = first.subcommand_matches(COMMAND) else {
        let matches = command.clone().try_get_matches_from(args).map_err(Refusal::Flags)?;
        return Ok(Layered { matches, origins: HashMap::new() });
    };
    let mut built = command.clone();
    built.build();
    let serve = built.find_subcommand(COMMAND).unwrap_or(&built);
    let known: Vec<&Arg> = settings(serve).collect();
    let (settings, config) = environment::settings(&known, environment).map_err(Refusal::Setting)?;
    let config = given.get_one::<PathBuf>("config").cloned().or(config);
    let from_file = match config {
        Some(path) => {
            read(&path).and_then(|text| file::settings(&known, &path, &text)).map_err(Refusal::Setting)?
        }
        None => Vec::new(),
    };
    let is_given = |arg: &&Arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    // A word of the command line may exclude a setting, too.
    let mut taken: Vec<&Arg> = serve.get_arguments().filter(is_given).collect();
    let mut args = args;
    let mut origins = HashMap::new();
    for layer in [settings, from_file] {
        let above = taken.clone();
        for setting in layer {
            let Some(arg) = known.iter().find(|arg| arg.get_id() == setting.id.as_str()) else { continue };
            // What contradicts a layer above yields to it, as the value of the same flag does.
            if above.iter().any(|other| other.get_id() == arg.get_id() || conflict(&built, serve, arg, other))
            {
                continue;
            }
            taken.push(arg);
            args.extend(setting.flags);
            origins.insert(setting.id, setting.origin);
        }
    }
    // What must be given to serve need not be there to be looked at.
    let command = match wants_print(given) {
        true => command.clone().mut_subcommand(COMMAND, without_duties),
        false => command.clone(),
    };
    match command.try_get_matches_from(args) {
        Ok(matches) => Ok(Layered { matches, origins }),
        Err(refusal) => Err(blame(refusal, &known, &origins)),
    }
}

/// A command that needs no argument.
fn without_duties(command: Command) -> Command {
    let groups: Vec<_> = command.get_groups().map(|group| group.get_id().clone()).collect();
    let command = command.mut_args(|arg| arg.required(false));
    groups.into_iter().fold(command, |command, id| command.mut_group(id, |group| group.required(false)))
}

/// Whether `--print-config` is given.
fn wants_print(matches: &ArgMatches) -> bool {
    matches!(matches.try_get_one("print_config"), Ok(Some(true)))
}

/// The arguments of a command that can be set.
pub(crate) fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some() && !NOT_SETTINGS.contains(&arg.get_id().as_str()))
}

/// A flag's long name; every setting has one.
fn long(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_default()
}

/// Whether two arguments exclude each other. Global ones are the root's.
fn conflict(root: &Command, serve: &Command, one: &Arg, other: &Arg) -> bool {
    let excludes = |one: &Arg, other: &Arg| {
        let home = root.get_arguments().find(|arg| arg.get_id() == one.get_id());
        let others = match home {
            Some(arg) => root.get_arg_conflicts_with(arg),
            None => serve.get_arg_conflicts_with(one),
        };
        others.iter().any(|arg| arg.get_id() == other.get_id())
    };
    excludes(one, other) || excludes(other, one)
}

/// Says of a refused value where it came from, and does not repeat a secret.
fn blame(refusal: clap::Error, known: &[&Arg], origins: &HashMap<String, Origin>) -> Refusal {
    let Some(ContextValue::String(named)) = refusal.get(ContextKind::InvalidArg) else {
        return Refusal::Flags(refusal);
    };
    let flag = named.split([' ', '=']).next().and_then(|flag| flag.strip_prefix("--"));
    let Some(arg) = known.iter().find(|arg| Some(long(arg)) == flag) else { return Refusal::Flags(refusal) };
    let source = match origins.get(arg.get_id().as_str()) {
        Some(Origin::Environment(name)) => name.clone(),
        Some(Origin::File(path)) => format!("{}: {}", path.display(), long(arg)),
        // The parser would repeat it.
        _ if is_secret(arg) => format!("--{}", long(arg)),
        _ => return Refusal::Flags(refusal),
    };
    let text = match is_secret(arg) && refusal.kind() != ErrorKind::ArgumentConflict {
        true => "its value is not accepted".to_owned(),
        false => crate::exit::reason(&refusal),
    };
    Refusal::Setting(Failure::Usage(format!("{source}: {text}")).into())
}

/// Whether a flag's value must not be shown: by its name, unless it names a file.
fn is_secret(arg: &Arg) -> bool {
    let by_name = ["key", "token", "secret", "password"]
        .iter()
        .any(|end| long(arg).strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('-')));
    let is_file = |name: &clap::builder::Str| matches!(name.as_str(), "FILE" | "PATH" | "PEM");
    by_name && !arg.get_value_names().is_some_and(|names| names.iter().any(is_file))
}

/// The flags that give an argument a value. What would be expected where it cannot be one.
fn flags(arg: &Arg, raw: Raw) -> Result<Vec<OsString>, &'static str> {
    let long = long(arg);
    match arg.get_action() {
        ArgAction::SetTrue => Ok(if raw.truth()? { vec![format!("--{long}").into()] } else { Vec::new() }),
        ArgAction::Count => Ok(vec![format!("--{long}").into(); usize::from(raw.count()?)]),
        action => {
            let many = matches!(action, ArgAction::Append) || arg.get_value_delimiter().is_some();
            let flag = |value: OsString| {
                let mut flag = OsString::from(format!("--{long}="));
                flag.push(value);
                flag
            };
            Ok(raw.values(many)?.into_iter().map(flag).collect())
        }
    }
}

/// An error over a name that is none, with the one that may have been meant.
fn unknown<'a>(place: &str, name: &str, known: impl Iterator<Item = &'a str>) -> anyhow::Error {
    let hint = server::nearest::suggestion(name, known);
    Failure::Usage(format!("{place}: no setting is called {name}{hint}")).into()
}

#[cfg(test)]
mod tests;
