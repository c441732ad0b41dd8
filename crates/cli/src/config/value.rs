//! What may stand for a flag's value outside the command line?
//!
//! A switch is true or false, a flag that counts is a small number, a flag that may be repeated is a list (in a variable, words with commas
//! between them), and any other is one text or number. What the text means is the flag's own affair.

use std::ffi::OsString;

/// A value as a layer has it.
#[derive(Debug)]
pub(crate) enum Raw {
    /// A variable's.
    Text(OsString),
    /// TOML's booleans.
    Truth(bool),
    /// TOML's numbers.
    Number(String),
    /// TOML's strings.
    String(String),
    /// TOML's arrays of these.
    List(Vec<Raw>),
}

impl Raw {
    /// A switch's value.
    pub(crate) fn truth(self) -> Result<bool, &'static str> {
        let text = match self {
            Raw::Truth(truth) => return Ok(truth),
            Raw::Text(text) => text.to_string_lossy().to_ascii_lowercase(),
            _ => return Err("true or false"),
        };
        match text.as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("true or false"),
        }
    }

    /// How often a flag that counts is given.
    pub(crate) fn count(self) -> Result<u8, &'static str> {
        let text = match self {
            Raw::Number(text) => text,
            Raw::Text(text) => text.to_string_lossy().into_owned(),
            _ => String::new(),
        };
        text.parse().ok().filter(|&n: &u8| n <= 9).ok_or("a whole number from 0 to 9")
    }

    /// The values of any other flag; one, unless it takes many.
    pub(crate) fn values(self, many: bool) -> Result<Vec<OsString>, &'static str> {
        let expected = if many { "text, a number or a list of these" } else { "text or a number" };
        Ok(match self {
            Raw::Text(text) if many => match text.to_str() {
                Some(words) => words.split(',').map(|word| word.trim().into()).collect(),
                None => vec![text],
            },
            Raw::Text(text) => vec![text],
            Raw::Number(text) | Raw::String(text) => vec![text.into()],
            Raw::List(items) if many => {
                let one = |item: Raw| match item {
                    Raw::Number(text) | Raw::String(text) => Ok(text.into()),
                    _ => Err(expected),
                };
                items.into_iter().map(one).collect::<Result<_, _>>()?
            }
            Raw::Truth(_) | Raw::List(_) => return Err(expected),
        })
    }
}
