//! How is a query written down with a document that is to be ranked for it? `tokenizer.chat_template.rerank`.
//!
//! Not Jinja: `{query}` and `{document}` stand for the two texts, all else for itself, as llama.cpp's converter writes it for Qwen3-Reranker. Names of
//! control tokens are these tokens in the template, and text in what it is given: a document cannot speak for the template.

use gguf::Metadata;

use crate::chat::RenderedChat;
use crate::error::TokenizerError;
use crate::limits::{MAX_TEMPLATE_BYTES, MAX_TEXT_BYTES};
use crate::special::{SpecialMatcher, unmarked};

/// The key, behind `tokenizer.chat_template.`.
pub(crate) const NAME: &str = "rerank";

/// A template in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RankTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// With marks before the names of control tokens.
    Text(String),
    Query,
    Document,
}

impl RankTemplate {
    /// The file's, if it has one; a notice says why one that is there cannot be used.
    pub(crate) fn read(
        metadata: &Metadata,
        matcher: &SpecialMatcher,
    ) -> Result<(Option<RankTemplate>, Option<String>), TokenizerError> {
        let key = format!("tokenizer.chat_template.{NAME}");
        let source = match metadata.str_of(&key) {
            Ok(Some(source)) => source,
            Ok(None) => return Ok((None, None)),
            Err(error) => return Ok((None, Some(format!("{error}; it has no effect")))),
        };
        if source.len() > MAX_TEMPLATE_BYTES {
            let (limit, found) = (MAX_TEMPLATE_BYTES as u64, source.len() as u64);
            return Err(TokenizerError::TooLarge { what: "bytes of a template", limit, found });
        }
        let pieces = cut(&matcher.mark(source));
        let has_both = pieces.contains(&Piece::Query) && pieces.contains(&Piece::Document);
        if !has_both {
            return Ok((None, Some(format!("{key} cannot be used: it lacks {{query}} or {{document}}"))));
        }
        Ok((Some(RankTemplate(pieces)), None))
    }

    /// A query with a document.
    pub(crate) fn render(&self, query: &str, document: &str) -> Result<RenderedChat, TokenizerError> {
        let (query, document) = (unmarked(query), unmarked(document));
        let pieces = || self.0.iter().map(|piece| piece.text([&query, &document]));
        let n_byte = pieces().fold(0usize, |sum, text| sum.saturating_add(text.len()));
        if n_byte > MAX_TEXT_BYTES {
            let (limit, found) = (MAX_TEXT_BYTES as u64, n_byte as u64);
            return Err(TokenizerError::TooLarge { what: "bytes of text", limit, found });
        }
        Ok(RenderedChat(pieces().collect()))
    }
}

impl Piece {
    /// What stands there, of a query and a document.
    fn text<'t>(&'t self, [query, document]: [&'t str; 2]) -> &'t str {
        match self {
            Piece::Text(text) => text,
            Piece::Query => query,
            Piece::Document => document,
        }
    }
}

/// A template's text and places, in order.
fn cut(source: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = source;
    while let Some((at, place, name)) = [(Piece::Query, "{query}"), (Piece::Document, "{document}")]
        .into_iter()
        .filter_map(|(place, name)| Some((rest.find(name)?, place, name)))
        .min_by_key(|&(at, ..)| at)
    {
        pieces.extend([Piece::Text(rest[..at].to_owned()), place]);
        rest = &rest[at + name.len()..];
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces
}

#[cfg(test)]
mod tests {
    use gguf::Value;

    use super::*;

    fn read(source: Value) -> (Option<RankTemplate>, Option<String>) {
        let metadata = Metadata::from_pairs([("tokenizer.chat_template.rerank", source)]).unwrap();
        RankTemplate::read(&metadata, &SpecialMatcher::default()).unwrap()
    }

    #[test]
    fn places_are_filled_once_and_in_order() {
        let (template, notice) = read("D {document}{query}\n{query} {{x}}\n\n".into());
        assert_eq!(notice, None);
        let text = template.unwrap().render("q{document}", "d").unwrap().text();
        assert_eq!(text, "D dq{document}\nq{document} {{x}}\n\n");
    }

    #[test]
    fn one_that_cannot_be_used_is_told() {
        for (source, expected) in [
            (
                Value::from("{query} alone"),
                "tokenizer.chat_template.rerank cannot be used: it lacks {query} or {document}",
            ),
            (
                Value::from(3u32),
                "key \"tokenizer.chat_template.rerank\", byte 0: expected string, found u32; it has no effect",
            ),
        ] {
            let (template, notice) = read(source);
            assert_eq!((template, notice.as_deref()), (None, Some(expected)));
        }
        assert_eq!(
            RankTemplate::read(&Metadata::default(), &SpecialMatcher::default()).unwrap(),
            (None, None)
        );
    }

    #[test]
    fn a_template_that_repeats_its_document_is_bounded() {
        let source = format!("{{query}}{}", "{document}".repeat(1000));
        let (template, _) = read(source.as_str().into());
        let error = template.unwrap().render("q", &"d".repeat(MAX_TEXT_BYTES / 500)).unwrap_err();
        assert!(matches!(error, TokenizerError::TooLarge { what: "bytes of text", .. }), "{error}");
    }
}
