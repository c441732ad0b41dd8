//! What does the file say? A TOML table of flags by their long names, with `-` or `_` between words.

use std::path::Path;

use clap::builder::Arg;
use toml::de::{DeTable, DeValue};

use super::value::Raw;
use super::{Origin, Setting, flags, long, unknown};
use crate::exit::Failure;
use crate::input;

/// The most bytes of a file.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file that may be as long as one can write.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    input::settings(path, MAX_BYTES)
}

/// What the text of a file says of these flags.
pub(super) fn settings(known: &[&Arg], path: &Path, text: &str) -> anyhow::Result<Vec<Setting>> {
    let place = |at: usize| format!("{}:{}", path.display(), 1 + text[..at].matches('\n').count());
    let refuse = |at: usize, reason: &str| Failure::Usage(format!("{}: {reason}", place(at)));
    let table = DeTable::parse(text).map_err(|error| {
        refuse(error.span().map_or(0, |span| span.start.min(text.len())), error.message())
    })?;
    let mut settings: Vec<Setting> = Vec::new();
    for (key, value) in table.into_inner() {
        let (at, key) = (key.span().start, key.into_inner());
        let name = key.replace('_', "-");
        let Some(arg) = known.iter().find(|arg| long(arg) == name) else {
            return Err(unknown(&place(at), &key, known.iter().map(|arg| long(arg))));
        };
        let id = arg.get_id().to_string();
        if settings.iter().any(|setting| setting.id == id) {
            return Err(refuse(at, &format!("{key} is set twice")).into());
        }
        let flags = raw(value.into_inner())
            .and_then(|raw| flags(arg, raw))
            .map_err(|expected| refuse(at, &format!("{key}: expected {expected}")))?;
        settings.push(Setting { id, flags, origin: Origin::File(path.to_owned()) });
    }
    // In the order of the flags' definition, so that of several wrong values the same is always the first.
    settings.sort_by_key(|setting| known.iter().position(|arg| arg.get_id() == setting.id.as_str()));
    Ok(settings)
}

fn raw(value: DeValue<'_>) -> Result<Raw, &'static str> {
    Ok(match value {
        DeValue::String(text) => Raw::String(text.into_owned()),
        DeValue::Boolean(truth) => Raw::Truth(truth),
        DeValue::Float(number) => Raw::Number(number.as_str().to_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Raw::Number(number.as_str().to_owned()),
        DeValue::Integer(number) => {
            let value = u64::from_str_radix(number.as_str(), number.radix());
            Raw::Number(value.map_err(|_| "a smaller number")?.to_string())
        }
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| raw(item.into_inner()));
            Raw::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Datetime(_) => return Err("text, a number, true or false, or a list, found a date"),
        DeValue::Table(_) => return Err("text, a number, true or false, or a list, found a table"),
    })
}
