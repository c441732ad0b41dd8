//! Is a template's text one that can be parsed safely?
//!
//! minijinja's parser and the tree it makes are recursive. It bounds the nesting of expressions, but not chains such as
//! `1+1+1` or `elif`: these are counted before parsing, so that no template can exhaust the stack.

use std::ops::Range;

use minijinja::machinery::ast::Stmt;
use minijinja::machinery::{Token, parse as parse_jinja, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::literal::respelled;
use crate::error::TokenizerError;
use crate::limits::{MAX_NAME_BYTES, MAX_TAG_TOKENS, MAX_TEMPLATE_BYTES, MAX_TEMPLATE_CHAIN};

fn syntax() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn syntax_error(error: &minijinja::Error) -> TokenizerError {
    let why = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    TokenizerError::TemplateSyntax { why, line: error.line().unwrap_or(0) }
}

/// Checks a template's size and shape, gives its lines the ends that Jinja 2's lexer gives them (`\n`, whatever the file was saved
/// with), writes Python's escapes and what is raw as the parser reads them, and makes `{% generation %}` a block without meaning.
pub(super) fn prepare(source: &str) -> Result<String, TokenizerError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        let (limit, found) = (MAX_TEMPLATE_BYTES as u64, source.len() as u64);
        return Err(TokenizerError::TooLarge { what: "bytes of a chat template", limit, found });
    }
    let source = &source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = String::with_capacity(source.len());
    let mut copied = 0;
    let (mut in_tag, mut chain) = (0usize, 0usize);
    let mut tag_start = false;
    let mut last_end = 0;
    let config = syntax().map_err(|error| syntax_error(&error))?;
    for token in tokenize(source, false, config) {
        let (token, span) = token.map_err(|error| syntax_error(&error))?;
        in_tag += 1;
        if in_tag > MAX_TAG_TOKENS {
            return Err(TokenizerError::TemplateLimit {
                what: "words in one tag",
                limit: MAX_TAG_TOKENS as u64,
                line: usize::from(span.start_line),
            });
        }
        if let Token::Ident(name) = token
            && name.len() > MAX_NAME_BYTES
        {
            return Err(TokenizerError::TemplateLimit {
                what: "bytes in a name",
                limit: MAX_NAME_BYTES as u64,
                line: usize::from(span.start_line),
            });
        }
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        if let Token::String(_) = token
            && let (Some(before), Some(literal)) = (source.get(copied..start), source.get(start..end))
        {
            let line = usize::from(span.start_line);
            let respelled = respelled(literal)
                .map_err(|why| TokenizerError::TemplateSyntax { why: why.to_owned(), line })?;
            if let Some(literal) = respelled {
                prepared.push_str(before);
                prepared.push_str(&literal);
                copied = end;
            }
        }
        if let Token::TemplateData(_) = token
            && let Some(raw) = Raw::of(source, last_end, start..end)
            && let Some(before) = source.get(copied..raw.place.start)
        {
            prepared.push_str(before);
            prepared.push_str(&raw.written());
            copied = raw.place.end;
        }
        last_end = end;
        if tag_start && let Token::Ident(name) = token {
            let replacement = match name {
                "generation" => Some("with"),
                "endgeneration" => Some("endwith"),
                _ => None,
            };
            if let Some(replacement) = replacement
                && let Some(before) = source.get(copied..start)
            {
                prepared.push_str(before);
                prepared.push_str(replacement);
                copied = end;
            }
            chain += usize::from(name == "elif");
            if chain > MAX_TEMPLATE_CHAIN {
                return Err(TokenizerError::TemplateLimit {
                    what: "elif branches",
                    limit: MAX_TEMPLATE_CHAIN as u64,
                    line: usize::from(span.start_line),
                });
            }
        }
        tag_start = matches!(token, Token::BlockStart);
        if matches!(token, Token::BlockStart | Token::VariableStart | Token::TemplateData(_)) {
            in_tag = 0;
        }
    }
    prepared.push_str(source.get(copied..).unwrap_or_default());
    Ok(prepared)
}

/// A block of raw text, in which the parser would leave out other white space than Jinja 2 does: a line end at its start, and blanks before its
/// end where they are all that there is.
struct Raw<'a> {
    /// Both tags and the text.
    place: Range<usize>,
    /// What stands after `{%` and before `%}` of the first tag, and of the last one.
    signs: [&'a str; 4],
    text: &'a str,
}

impl<'a> Raw<'a> {
    /// The block whose text is at `data`, if that is one's; `before` is where the last token ended.
    fn of(source: &'a str, before: usize, data: Range<usize>) -> Option<Raw<'a>> {
        let head = source.get(before..data.start)?;
        let opened = head.rfind("{%")?;
        let (open, first) = signs(&head[opened..], "raw")?;
        let tail = source.get(data.end..)?;
        let tail = &tail[..tail.find("%}")? + 2];
        let (last, close) = signs(tail, "endraw")?;
        let place = before + opened..data.end + tail.len();
        Some(Raw { place, signs: [open, first, last, close], text: source.get(data)? })
    }

    /// The text as Jinja 2 writes it, as a block of one expression.
    fn written(&self) -> String {
        let [open, first, last, close] = self.signs;
        let text = if first == "-" { self.text.trim_start() } else { self.text };
        let line = text.rfind('\n').map_or(0, |at| at + 1);
        let text = match last {
            "-" => text.trim_end(),
            "" if line > 0 && text[line..].trim().is_empty() => &text[..line],
            _ => text,
        };
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{{%{open} with %}}{{{{ \"{text}\" }}}}{{% endwith {close}%}}")
    }
}

/// The signs for white space of a whole tag that is only this word.
fn signs<'a>(tag: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let sign = |text: &'a str, is_there: bool| if is_there { text } else { "" };
    let open = sign(inner.get(..1)?, inner.starts_with(['-', '+']));
    let inner = &inner[open.len()..];
    let close = sign(inner.get(inner.len().checked_sub(1)?..)?, inner.ends_with(['-', '+']));
    let inner = &inner[..inner.len() - close.len()];
    (inner.trim() == word).then_some((open, close))
}

/// The syntax tree.
pub(super) fn parse(source: &str) -> Result<Stmt<'_>, TokenizerError> {
    let config = syntax().map_err(|error| syntax_error(&error))?;
    parse_jinja(source, "chat_template", config).map_err(|error| syntax_error(&error))
}
