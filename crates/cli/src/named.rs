//! Which model is meant? A word of the command line, as in `run m.gguf`, or `--model m.gguf`.
//!
//! Both mean the same; two names are a usage error, since one of them would be ignored. With `--model` a word is the prompt of `run` or a
//! text of `embed`: nothing else is left that it could be.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgGroup, ArgMatches, Command, Error, FromArgMatches};
use hub::ModelRef;

use crate::config::InEffect;
use crate::exit::Failure;
use crate::fetch;

/// The id of the word, and of the group that it forms with `--model`.
pub(crate) const WORD: &str = "model_word";
/// The group of both.
pub(crate) const GROUP: &str = "model_name";
/// Characters of a text that an error repeats.
const MAX_SHOWN: usize = 60;

/// The id of `--model`.
pub(crate) const FLAG: &str = "model";

/// A model's name.
#[derive(Clone, Debug)]
pub(crate) struct Named(pub(crate) ModelRef);

impl Named {
    /// The name that was given; none where a command needs none.
    pub(crate) fn find(matches: &ArgMatches) -> Option<&ModelRef> {
        [WORD, FLAG].into_iter().find_map(|id| matches.try_get_one(id).ok().flatten())
    }
}

/// The word, as the setting that it stands for.
pub(crate) fn in_effect(serve: &ArgMatches) -> Option<InEffect> {
    let word: &ModelRef = serve.try_get_one(WORD).ok().flatten()?;
    let value = serde_json::Value::from(word.to_string()).to_string();
    Some(InEffect { id: FLAG.to_owned(), value, origin: "the command line" })
}

/// Commands that take words behind their model, and the ids of these.
const WITH_WORDS: [(&str, &str); 2] = [("run", "prompt_word"), ("embed", "texts")];

/// Whether a command line is refused over a word beside `--model`.
pub(crate) fn are_two(refusal: &Error) -> bool {
    let names = |kind, name: &str| match refusal.get(kind) {
        Some(ContextValue::String(found)) => found == name,
        Some(ContextValue::Strings(found)) => found.iter().any(|found| found == name),
        _ => false,
    };
    let (flag, word) = ("--model <MODEL>", "[MODEL]");
    let (this, that) = (ContextKind::InvalidArg, ContextKind::PriorArg);
    refusal.kind() == ErrorKind::ArgumentConflict
        && (names(this, flag) && names(that, word) || names(this, word) && names(that, flag))
}

/// `run --model m.gguf PROMPT` as `run m.gguf PROMPT`; `None` where there is no such command, or not one `--model` with a value.
pub(crate) fn as_word(args: &[OsString]) -> Option<Vec<OsString>> {
    let command = args.iter().position(|arg| WITH_WORDS.iter().any(|(name, _)| arg == name))?;
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let is_flag = |arg: &OsString| ["-m", "--model"].iter().any(|flag| arg == flag);
    let glued =
        |arg: &OsString| arg.to_str().and_then(|arg| arg.strip_prefix("--model=")).map(OsString::from);
    let mut flags = (command..end).filter(|&i| is_flag(&args[i]) || glued(&args[i]).is_some());
    let (at, None) = (flags.next()?, flags.next()) else { return None };
    let mut args = args.to_vec();
    let value = match glued(&args[at]) {
        Some(value) => value,
        None => args.get(at + 1)?.clone(),
    };
    args.drain(at..=at + usize::from(is_flag(&args[at])));
    args.insert(command + 1, value);
    Some(args)
}

/// Whether a word behind the model may be a second model.
pub(crate) fn may_be_two(matches: &ArgMatches) -> bool {
    let Some((name, matches)) = matches.subcommand() else { return false };
    let Some((_, id)) = WITH_WORDS.iter().find(|(command, _)| *command == name) else { return false };
    let words = matches.try_get_many::<String>(id).ok().flatten();
    words.into_iter().flatten().any(|word| word.ends_with(".gguf") || word.starts_with("hf:"))
}

/// Refuses what stands in a model's place and is none, where a word behind it looks like one: the two were meant the other way round.
///
/// # Errors
/// Which is which, and what would be right.
pub(crate) fn in_order(usage: &str, model: &ModelRef, words: &[String]) -> Result<(), Failure> {
    let ModelRef::Path(path) = model else { return Ok(()) };
    let is_meant = path.exists() || is_like_a_model(&path.to_string_lossy());
    let Some(second) = words.iter().find(|word| is_like_a_model(word)).filter(|_| !is_meant) else {
        return Ok(());
    };
    let shown = |text: &str| {
        let cut = if text.chars().nth(MAX_SHOWN).is_some() { "..." } else { "" };
        format!("{:?}{cut}", text.chars().take(MAX_SHOWN).collect::<String>())
    };
    let (first, second) = (shown(&path.to_string_lossy()), shown(second));
    Err(Failure::Usage(format!(
        "{first} is no model, and {second} behind it looks like one: the order is worker-orcd {usage}"
    )))
}

/// Whether a word names a model and can hardly be anything else.
fn is_like_a_model(word: &str) -> bool {
    let end = Path::new(word).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    end || matches!(ModelRef::try_from(OsString::from(word)), Ok(ModelRef::Hub(_) | ModelRef::Repo(_)))
}

impl clap::Args for Named {
    fn augment_args(command: Command) -> Command {
        let name = |id| Arg::new(id).value_name("MODEL").value_parser(fetch::reference());
        let word = name(WORD)
            .help("The GGUF file (any part of a split one): a path, a name such as qwen3:0.6b, or hf:ORG/REPO[:QUANTIZATION] of a hub")
            .help_heading(None)
            .conflicts_with(FLAG);
        let flag = name(FLAG).long(FLAG).short('m').help("The same as the word MODEL");
        let group = ArgGroup::new(GROUP).args([WORD, FLAG]).required(true).multiple(true);
        command.arg(word).arg(flag).group(group)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Named {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Named, Error> {
        let found = Named::find(matches).cloned().map(Named);
        found.ok_or_else(|| Error::new(ErrorKind::MissingRequiredArgument))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Named::from_arg_matches(matches)?;
        Ok(())
    }
}
