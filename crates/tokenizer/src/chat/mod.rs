//! How does a conversation become a prompt? The file's own Jinja template, rendered in a sandbox.
//!
//! GGUF has `tokenizer.chat_template` (the default), `tokenizer.chat_template.NAME`, and their names in
//! `tokenizer.chat_templates`. Templates are written for transformers' `apply_chat_template`, so its Jinja environment is
//! followed: `trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}`, Python's methods and text forms, and the variables
//! and functions it passes. minijinja parses; evaluation is this crate's own, because every step, byte and level has to be counted
//! for a hostile template to be harmless, and because Python's forms (`True`, `['a']`) are what models were trained on.

mod args;
mod attributes;
mod budget;
mod calls;
mod characters;
#[cfg(test)]
mod charges;
mod eval;
mod expr;
mod filters;
mod format;
mod functions;
mod json;
mod key;
mod literal;
mod methods;
mod number;
mod operators;
mod predicates;
mod source;
mod strings;
mod text;
mod time;
mod uses;
mod value;

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use gguf::{Metadata, Value as GgufValue};

use crate::error::TokenizerError;
use crate::limits::{MAX_RENDER_MEMORY, MAX_TEMPLATES, MAX_VALUE_DEPTH};
use crate::rank;
use crate::special::{SpecialMatcher, unmarked};
use crate::special_tokens::SpecialTokens;
use crate::stop::Stop;
use crate::vocab::Vocab;

use eval::Renderer;
use value::Value;

/// A conversation's prompt that knows which control tokens its template wrote. Made by
/// [`Tokenizer::render_chat`](crate::Tokenizer::render_chat).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedChat(pub(crate) String);

impl RenderedChat {
    /// The prompt's text.
    #[must_use]
    pub fn text(&self) -> String {
        unmarked(&self.0).into_owned()
    }

    /// What stands before the last place of `text`, and after it `end`, in which a control token's name is text. `None` where `text` is nowhere.
    #[must_use]
    pub fn ended_at(&self, text: &str, end: &str) -> Option<RenderedChat> {
        let at = self.0.rfind(text)?;
        Some(RenderedChat(format!("{}{}", self.0.get(..at)?, unmarked(end))))
    }
}

/// A chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos_token: String,
    eos_token: String,
}

/// What a chat template is given.
#[derive(Clone, Debug, Default)]
pub struct ChatInput<'a> {
    /// The messages in order: objects with `role`, `content`, and what else the template knows (`tool_calls`, `name`, ..).
    pub messages: &'a [serde_json::Value],
    /// Does the text end with the start of an answer?
    pub add_generation_prompt: bool,
    /// The tools that may be called, as JSON schemas.
    pub tools: Option<&'a [serde_json::Value]>,
    /// More variables by name, such as `enable_thinking`; they win over the others.
    pub extra: &'a [(String, serde_json::Value)],
    /// For `strftime_now`: seconds since 1970; now if none. Dates are in UTC.
    pub now: Option<i64>,
    /// When to give up, whatever the bounds in [`crate::limits`] would still allow.
    pub stop: Stop<'a>,
}

impl ChatTemplate {
    /// A template that is checked once, here. The token texts are its variables `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// [`TokenizerError::TemplateSyntax`]; [`TokenizerError::TooLarge`].
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<ChatTemplate, TokenizerError> {
        let source = source::prepare(source)?;
        source::parse(&source)?;
        Ok(ChatTemplate { source, bos_token: bos_token.to_owned(), eos_token: eos_token.to_owned() })
    }

    /// The template's text, as it is parsed.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template's text has this name as a word: a variable of any other name cannot change what it writes.
    #[must_use]
    pub fn names(&self, variable: &str) -> bool {
        let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut found = self.source.match_indices(variable);
        found.any(|(at, _)| {
            let (before, after) = (&self.source[..at], &self.source[at + variable.len()..]);
            !before.ends_with(is_of_word) && !after.starts_with(is_of_word)
        })
    }

    /// The prompt of a conversation, as text. To encode it, use [`Tokenizer::render_chat`](crate::Tokenizer::render_chat), whose result
    /// knows which control tokens the template wrote.
    ///
    /// # Errors
    /// [`TokenizerError::TemplateRaised`] where the template refuses; [`TokenizerError::TemplateRender`] where it fails;
    /// [`TokenizerError::TemplateLimit`] where it goes past a bound in [`crate::limits`]; [`TokenizerError::TemplateStopped`] where
    /// [`ChatInput::stop`] ends it.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, TokenizerError> {
        render(&self.source, [&self.bos_token, &self.eos_token], input)
    }

    /// The same with [`MARK`](crate::special::MARK) before the control tokens that the template wrote.
    pub(crate) fn render_marked(
        &self,
        matcher: &SpecialMatcher,
        input: &ChatInput<'_>,
    ) -> Result<String, TokenizerError> {
        let [source, bos, eos] =
            [&self.source, &self.bos_token, &self.eos_token].map(|text| matcher.mark(text));
        render(&source, [&bos, &eos], input)
    }
}

/// What a template makes of a conversation. The input has no marks, whatever it says.
fn render(source: &str, [bos, eos]: [&str; 2], input: &ChatInput<'_>) -> Result<String, TokenizerError> {
    let mut bytes = 0;
    let mut global = |json: &serde_json::Value| {
        let value = json::from_json(json, 0, &mut bytes).ok_or(TokenizerError::TooLarge {
            what: "levels of lists and maps in a chat request",
            limit: MAX_VALUE_DEPTH as u64,
            found: MAX_VALUE_DEPTH as u64 + 1,
        })?;
        if bytes > MAX_RENDER_MEMORY {
            let (limit, found) = (MAX_RENDER_MEMORY as u64, bytes as u64);
            return Err(TokenizerError::TooLarge { what: "bytes of a chat request", limit, found });
        }
        Ok(value)
    };
    let mut list = |items: &[serde_json::Value]| {
        items.iter().map(&mut global).collect::<Result<Vec<_>, _>>().map(Value::list)
    };
    let mut globals = HashMap::from([
        ("messages".to_owned(), list(input.messages)?),
        ("tools".to_owned(), input.tools.map_or(Ok(Value::None), &mut list)?),
        ("documents".to_owned(), Value::None),
        ("add_generation_prompt".to_owned(), Value::Bool(input.add_generation_prompt)),
        ("bos_token".to_owned(), Value::str(bos)),
        ("eos_token".to_owned(), Value::str(eos)),
    ]);
    for (name, value) in input.extra {
        globals.insert(unmarked(name).into_owned(), global(value)?);
    }
    let now = input.now.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(0)
    });
    let root = source::parse(source)?;
    Renderer::new(globals, now, input.stop).template(&root)
}

/// Templates by name, and notices about those that cannot be used.
type Templates = (Vec<(String, ChatTemplate)>, Vec<String>);

/// The templates of a file.
pub(crate) fn templates_of(
    metadata: &Metadata,
    vocab: &Vocab,
    special: &SpecialTokens,
) -> Result<Templates, TokenizerError> {
    const KEY: &str = "tokenizer.chat_template";
    let name_of = |id: Option<u32>| {
        id.and_then(|id| vocab.bytes_of(id)).map(|name| String::from_utf8_lossy(name).into_owned())
    };
    let (bos, eos) = (name_of(special.bos).unwrap_or_default(), name_of(special.eos).unwrap_or_default());
    let (mut templates, mut notices) = (Vec::new(), Vec::new());
    for (key, value) in metadata.iter() {
        let name = match key.strip_prefix(KEY) {
            Some("") => "default",
            Some(rest) => match rest.strip_prefix('.') {
                // Not Jinja, and no conversation's.
                None | Some(rank::NAME) => continue,
                Some(name) => name,
            },
            None => continue,
        };
        if templates.len() >= MAX_TEMPLATES {
            let (limit, found) = (MAX_TEMPLATES as u64, templates.len() as u64 + 1);
            return Err(TokenizerError::TooLarge { what: "chat templates", limit, found });
        }
        if !matches!(value, GgufValue::String(_)) {
            notices.push(format!("{key} is not text: ignored"));
            continue;
        }
        let source = metadata.str_of(key)?.unwrap_or_default();
        match ChatTemplate::new(source, &bos, &eos) {
            Ok(template) => templates.push((name.to_owned(), template)),
            Err(error) => notices.push(format!("{key} cannot be used: {error}")),
        }
    }
    Ok((templates, notices))
}
