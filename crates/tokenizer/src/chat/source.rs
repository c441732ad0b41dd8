//! Is a template's text one that can be parsed safely?
//!
//! minijinja's parser and the tree it makes are recursive. It bounds the nesting of expressions, but not chains such as
//! `1+1+1` or `elif`: these are counted before parsing, so that no template can exhaust the stack.

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
/// with), writes Python's escapes as the parser reads them, and makes `{% generation %}` a block without meaning.
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

/// The syntax tree.
pub(super) fn parse(source: &str) -> Result<Stmt<'_>, TokenizerError> {
    let config = syntax().map_err(|error| syntax_error(&error))?;
    parse_jinja(source, "chat_template", config).map_err(|error| syntax_error(&error))
}
