//! What would be right in place of a refused command line? Adds a tip to the parser's reason, where one is known.
//!
//! The parser says what is wrong with a word, but not where its writer may put it: that depends on the command.

use std::error::Error as _;
use std::ffi::OsString;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Names that other programs have for commands, and ours.
const KNOWN_ELSEWHERE: [(&str, &str); 16] = [
    ("chat", "run"),
    ("complete", "run"),
    ("generate", "run"),
    ("cli", "run"),
    ("server", "serve"),
    ("start", "serve"),
    ("download", "pull"),
    ("list", "models"),
    ("ls", "models"),
    ("remove", "rm"),
    ("delete", "rm"),
    ("info", "inspect"),
    ("embedding", "embed"),
    ("embeddings", "embed"),
    ("benchmark", "bench"),
    ("perplexity", "eval perplexity"),
];

/// What names a model, as help says it.
const MODEL: &str = "a model is a GGUF file, a name such as qwen3:0.6b, or hf:ORG/REPO of a hub";

/// The error with a tip; as it is where the parser has one of its own, such as a similar name.
pub(crate) fn with_tip(mut refusal: Error, args: &[OsString]) -> Error {
    let has_own = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
        .into_iter()
        .any(|kind| refusal.get(kind).is_some());
    if has_own {
        return refusal;
    }
    if let Some(tip) = tip(&refusal, args) {
        refusal.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    refusal
}

fn tip(refusal: &Error, args: &[OsString]) -> Option<String> {
    let (command, sub) = command(args);
    match refusal.kind() {
        ErrorKind::InvalidSubcommand => elsewhere(text(refusal, ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => {
            misplaced((&command, sub.as_deref()), text(refusal, ContextKind::InvalidArg)?)
        }
        ErrorKind::ArgumentConflict if crate::named::are_two(refusal) => Some(match command.as_str() {
            "tokenize" | "detokenize" => from_stdin(&command),
            "eval" => "--model names the model already; a text is given by its file, with --file".to_owned(),
            _ => "--model names the model already: leave one of the two out".to_owned(),
        }),
        ErrorKind::MissingRequiredArgument => {
            let missing = text(refusal, ContextKind::InvalidArg)?;
            let is = |name: &str| missing.contains(name);
            Some(match () {
                () if is("MODEL") => MODEL.to_owned(),
                () if is("RECEIPT") => {
                    "a receipt is a file that run --receipt wrote, or a folder that --proof wrote".to_owned()
                }
                () if is("--url") => "the server must run already, as --url http://127.0.0.1:8080".to_owned(),
                () => return None,
            })
        }
        ErrorKind::ValueValidation => number(refusal),
        _ => None,
    }
}

/// The command, and the one below it where it has some; empty where there is none.
fn command(args: &[OsString]) -> (String, Option<String>) {
    let all = <crate::Cli as clap::CommandFactory>::command();
    let mut words = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let Some(found) = words.find_map(|word| all.find_subcommand(word)) else { return Default::default() };
    let below = words.next().filter(|word| found.find_subcommand(word).is_some());
    (found.get_name().to_owned(), below.map(str::to_owned))
}

/// A part of an error, as text.
fn text(refusal: &Error, kind: ContextKind) -> Option<&str> {
    match refusal.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => {
            texts.iter().find(|text| text.contains("MODEL")).or(texts.first()).map(String::as_str)
        }
        _ => None,
    }
}

/// What a command that does not exist may stand for.
fn elsewhere(name: &str) -> Option<String> {
    if let Some((_, ours)) = KNOWN_ELSEWHERE.iter().find(|(theirs, _)| *theirs == name) {
        return Some(format!("the command is called {ours}: worker-orcd {ours} --help"));
    }
    let is_model = name.ends_with(".gguf") || name.contains([':', '/']);
    is_model.then(|| format!("a command comes first: worker-orcd run {name}, or worker-orcd serve {name}"))
}

/// Where a word or a flag belongs that a command does not take.
fn misplaced((command, sub): (&str, Option<&str>), given: &str) -> Option<String> {
    let is_flag = given.starts_with('-');
    let names_model = ["-m", "--model"].contains(&given);
    Some(match (command, sub) {
        _ if given.starts_with("--hf-") => {
            "a model of the hub is named as hf:ORG/REPO or hf:ORG/REPO:QUANTIZATION, as --model hf:Qwen/Qwen3-0.6B-GGUF"
                .to_owned()
        }
        _ if given.starts_with("--cache-type-") => {
            "keys and values are kept in one type, as --kv-type q8_0".to_owned()
        }
        ("", _) if is_flag => {
            "flags follow a command, as in worker-orcd run --model m.gguf --prompt Hello".to_owned()
        }
        ("bench", Some("serve")) if !is_flag || names_model => {
            "bench serve measures a server that runs already, as --url http://127.0.0.1:8080".to_owned()
        }
        ("pull" | "show" | "rm", _) if names_model => {
            format!("the model is a word: worker-orcd {command} MODEL")
        }
        ("run", _) if ["-f", "--file"].contains(&given) => {
            "a prompt is read from a file through stdin: worker-orcd run MODEL < FILE".to_owned()
        }
        ("serve" | "bench", _) if ["-p", "--prompt"].contains(&given) => {
            "a prompt is answered by worker-orcd run; a server gets prompts over HTTP".to_owned()
        }
        _ if is_flag => {
            let below = sub.map(|sub| format!(" {sub}")).unwrap_or_default();
            format!("worker-orcd {command}{below} --help lists the flags that there are")
        }
        ("run", _) => "a prompt of several words is put in quotes".to_owned(),
        ("serve", _) if given.parse::<u16>().is_ok() => format!("a port is given as --port {given}"),
        ("serve", _) => "an address is given as --host ADDRESS --port PORT".to_owned(),
        ("tokenize" | "detokenize", _) => from_stdin(command),
        ("eval", Some("divergence")) if given.ends_with(".gguf") => {
            format!("the model to compare with is given as --base {given}")
        }
        ("eval", _) => format!("a text is given by its file, as --file {given}"),
        ("verify", _) => "the order is RECEIPT MODEL, one of each".to_owned(),
        _ => return None,
    })
}

/// What tokenize and detokenize read.
fn from_stdin(command: &str) -> String {
    let (what, example) = match command {
        "tokenize" => ("the text is", "printf 'Hello'"),
        _ => ("the ids are", "echo '[9707]'"),
    };
    format!("{what} read from stdin: {example} | worker-orcd {command} MODEL")
}

/// What is expected in place of a value that is no number.
fn number(refusal: &Error) -> Option<String> {
    let source = refusal.source()?;
    if let Some(error) = source.downcast_ref::<ParseIntError>() {
        let is_negative =
            text(refusal, ContextKind::InvalidValue).is_some_and(|value| value.starts_with('-'));
        return Some(match error.kind() {
            IntErrorKind::PosOverflow => "a smaller number is expected".to_owned(),
            _ if is_negative => "a whole number of at least 0 is expected".to_owned(),
            _ => "a whole number is expected, such as 64".to_owned(),
        });
    }
    source.downcast_ref::<ParseFloatError>().map(|_| "a number is expected, such as 0.8".to_owned())
}
