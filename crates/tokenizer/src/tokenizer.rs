//! text <-> ids: the one type the other crates use.
//!
//! A [`Tokenizer`] is immutable and shared between threads. Ids are `u32`, text is UTF-8; encoding is linear in the text (n log n
//! within one unbroken word), decoding gives U+FFFD for what is not UTF-8.

use std::borrow::Cow;
use std::fmt;

use crate::bpe::Bpe;
use crate::chat::{ChatInput, ChatTemplate, RenderedChat};
use crate::error::TokenizerError;
use crate::limits::MAX_TEXT_BYTES;
use crate::rank::RankTemplate;
use crate::special::{Piece, SpecialMatcher};
use crate::special_tokens::SpecialTokens;
use crate::spm::{Spm, Text};
use crate::stream::Decoder;
use crate::vocab::{TokenKind, Vocab};

/// Where a vocabulary comes from and how it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BPE from a GGUF file, over bytes or characters.
    GgufBpe,
    /// SentencePiece from a GGUF file.
    GgufSpm,
    /// A tokenizer.json.
    HfJson,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::GgufBpe => "gguf-bpe",
            Kind::GgufSpm => "gguf-spm",
            Kind::HfJson => "hf-json",
        })
    }
}

/// What encoding does besides encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put BOS first and EOS last, where the vocabulary says so.
    pub add_special: bool,
    /// Turn the names of control tokens into their ids. Only for text that the caller wrote, such as a rendered template.
    pub parse_special: bool,
}

/// The algorithm behind a vocabulary.
pub(crate) enum Encoder {
    Bpe(Bpe),
    Spm(Spm),
}

/// A vocabulary and its rules.
pub struct Tokenizer {
    pub(crate) kind: Kind,
    pub(crate) vocab: Vocab,
    pub(crate) encoder: Encoder,
    pub(crate) matcher: SpecialMatcher,
    pub(crate) special: SpecialTokens,
    /// Ascending.
    pub(crate) ends: Vec<u32>,
    /// SentencePiece: does a text, and each text after a special token, get a space in front?
    pub(crate) add_space_prefix: bool,
    pub(crate) templates: Vec<(String, ChatTemplate)>,
    pub(crate) rank: Option<RankTemplate>,
    pub(crate) notices: Vec<String>,
}

impl Tokenizer {
    /// Where the vocabulary came from.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many ids there are: all are below this.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        self.vocab.len()
    }

    /// The ids with a role.
    #[must_use]
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// What a user should be told about this vocabulary, one line each.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Does this id end a generation?
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// All ids that end a generation, ascending.
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Is this a control or unknown token, which decoding leaves out unless asked?
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.vocab.kind(id), Some(TokenKind::Control | TokenKind::Unknown))
    }

    /// Does this id fill a row of the model that no token has, such as `[PAD304]`? It has a name but no text.
    #[must_use]
    pub fn is_unused(&self, id: u32) -> bool {
        self.vocab.kind(id) == Some(TokenKind::Unused)
    }

    /// The bytes an id stands for: for a special or unused token its name, for others text, perhaps part of a character.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocab.bytes_of(id)
    }

    /// The id of a special token's name, such as `<|im_end|>`.
    #[must_use]
    pub fn special_id(&self, name: &str) -> Option<u32> {
        let mut found = None;
        self.matcher.split(name, true, |piece| {
            found = match piece {
                Piece::Special(id) if self.token_bytes(id) == Some(name.as_bytes()) => Some(id),
                _ => None,
            };
        });
        found
    }

    /// Text -> ids.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] past [`MAX_TEXT_BYTES`].
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TokenizerError> {
        if text.len() > MAX_TEXT_BYTES {
            let (limit, found) = (MAX_TEXT_BYTES as u64, text.len() as u64);
            return Err(TokenizerError::TooLarge { what: "bytes of text", limit, found });
        }
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        if options.add_special && self.special.add_bos {
            ids.extend(self.special.bos);
        }
        self.matcher.split(text, options.parse_special, self.encode_pieces(&mut ids));
        if options.add_special && self.special.add_eos {
            ids.extend(self.special.eos);
        }
        Ok(ids)
    }

    /// A conversation's prompt by one of this tokenizer's templates.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_chat(
        &self,
        template: &ChatTemplate,
        input: &ChatInput<'_>,
    ) -> Result<RenderedChat, TokenizerError> {
        template.render_marked(&self.matcher, input).map(RenderedChat)
    }

    /// The ids of a conversation's prompt. The names of control tokens are these tokens where the template wrote them, and text in
    /// what it was given.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] past [`MAX_TEXT_BYTES`].
    pub fn encode_chat(&self, chat: &RenderedChat) -> Result<Vec<u32>, TokenizerError> {
        let text = &chat.0;
        if text.len() > MAX_TEXT_BYTES {
            let (limit, found) = (MAX_TEXT_BYTES as u64, text.len() as u64);
            return Err(TokenizerError::TooLarge { what: "bytes of text", limit, found });
        }
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        self.matcher.split_marked(text, self.encode_pieces(&mut ids));
        Ok(ids)
    }

    /// Whether the file says how a query and a document are written down to be ranked.
    #[must_use]
    pub fn has_rank_template(&self) -> bool {
        self.rank.is_some()
    }

    /// The ids of a query with a document that is to be ranked for it, as the file says. The names of control tokens in either are text. `None` where
    /// the file says nothing.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] past [`MAX_TEXT_BYTES`].
    pub fn encode_rank(&self, query: &str, document: &str) -> Result<Option<Vec<u32>>, TokenizerError> {
        let rendered = self.rank.as_ref().map(|template| template.render(query, document)).transpose()?;
        rendered.map(|rendered| self.encode_chat(&rendered)).transpose()
    }

    /// Appends the ids of one piece after the other.
    fn encode_pieces(&self, ids: &mut Vec<u32>) -> impl FnMut(Piece<'_>) {
        let mut after_special = true;
        move |piece| match piece {
            Piece::Special(id) => {
                ids.push(id);
                after_special = true;
            }
            Piece::Text(text) => {
                self.encode_text(text, after_special, ids);
                after_special = false;
            }
        }
    }

    fn encode_text(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        match &self.encoder {
            Encoder::Bpe(bpe) => bpe.encode(&self.vocab, self.special.unk, text, ids),
            Encoder::Spm(spm) => {
                let prefix = self.add_space_prefix && after_special;
                spm.encode(&self.vocab, self.special.unk, Text { text, prefix }, ids);
            }
        }
    }

    /// A text as encoding takes it: in Unicode's composed form (NFC) where the vocabulary was made for that, else as it is.
    #[must_use]
    pub fn normalized<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.encoder {
            Encoder::Bpe(bpe) => bpe.normalized(text),
            Encoder::Spm(_) => Cow::Borrowed(text),
        }
    }

    /// ids -> text. `special` shows special tokens by name; ids past the vocabulary have no text.
    ///
    /// Undoes [`encode`](Tokenizer::encode): the space that SentencePiece puts before a text, and before each text after a
    /// special token, is taken away again.
    #[must_use]
    pub fn decode(&self, ids: &[u32], special: bool) -> String {
        let mut decoder = self.decoder(special);
        let mut text = String::new();
        for &id in ids {
            decoder.push_into(id, &mut text);
        }
        text.push_str(&decoder.finish());
        text
    }

    /// Decodes id by id; the joined text equals [`decode`](Tokenizer::decode).
    #[must_use]
    pub fn decoder(&self, special: bool) -> Decoder<'_> {
        Decoder::new(self, special, self.drops_space_after(&[]))
    }

    /// Decodes what follows `before`, usually a prompt: a leading space is part of the text unless a special token stands
    /// before it, so that prompt and answer join as they should.
    #[must_use]
    pub fn decoder_after(&self, before: &[u32], special: bool) -> Decoder<'_> {
        Decoder::new(self, special, self.drops_space_after(before))
    }

    /// Does decoding leave out a space at the start of the token that follows `before`, because encoding put it there? Unused tokens,
    /// which have no text, change nothing.
    #[must_use]
    pub fn drops_space_after(&self, before: &[u32]) -> bool {
        let last = before.iter().rfind(|&&id| !self.is_unused(id));
        self.add_space_prefix && last.is_none_or(|&id| self.is_special(id))
    }

    /// The file's default chat template.
    #[must_use]
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.named_chat_template("default").or_else(|| self.templates.first().map(|(_, template)| template))
    }

    /// A chat template by name, such as `tool_use`; the unnamed one is `default`.
    #[must_use]
    pub fn named_chat_template(&self, name: &str) -> Option<&ChatTemplate> {
        self.templates.iter().find(|(found, _)| found == name).map(|(_, template)| template)
    }

    /// The names of the file's chat templates.
    pub fn chat_template_names(&self) -> impl Iterator<Item = &str> {
        self.templates.iter().map(|(name, _)| name.as_str())
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({}, {} tokens)", self.kind, self.n_vocab())
    }
}
