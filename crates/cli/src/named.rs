//! Which model is meant? A word of the command line, as in `run m.gguf`, or `--model m.gguf`.
//!
//! Both mean the same; two names are a usage error, since one of them would be ignored.

use clap::error::ErrorKind;
use clap::{Arg, ArgGroup, ArgMatches, Command, Error, FromArgMatches};
use hub::ModelRef;

use crate::config::InEffect;
use crate::fetch;

/// The id of the word, and of the group that it forms with `--model`.
pub(crate) const WORD: &str = "model_word";
/// The group of both.
pub(crate) const GROUP: &str = "model_name";
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
