//! Which tokenizer does a GGUF file describe?
//!
//! Keys `tokenizer.ggml.{model, pre, tokens, token_type, scores, merges, *_token_id, add_*}`, as ggml's docs/gguf.md names
//! them; where a key is missing llama.cpp's default for the kind of tokenizer holds. What is malformed is a typed error, what is
//! merely doubtful a notice.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;

use gguf::{Array, Metadata};

use crate::bpe::{Bpe, rank_merges};
use crate::chat;
use crate::error::TokenizerError;
use crate::gguf_keys::{Algorithm, algorithm, left_over, roles};
use crate::limits::{MAX_MERGES, MAX_TOKENS};
use crate::rank::RankTemplate;
use crate::special::SpecialMatcher;
use crate::special_tokens::{SpecialTokens, complete, is_end_name};
use crate::spm::Spm;
use crate::tokenizer::{Encoder, Kind, Tokenizer};
use crate::vocab::{Spelling, TokenKind, Vocab};

const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// `beside` is the model file's folder or the path of a tokenizer.json: it is used where the file itself has no vocabulary
    /// of a kind that is supported (see [`Algorithm`]).
    ///
    /// # Errors
    /// [`TokenizerError`]: no usable vocabulary, a malformed one, or one past the bounds in [`crate::limits`].
    pub fn from_gguf(metadata: &Metadata, beside: Option<&Path>) -> Result<Tokenizer, TokenizerError> {
        let mut notices = Vec::new();
        let json =
            beside.map(|path| if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() });
        let mut tokenizer = match algorithm(metadata, &mut notices) {
            Ok(algorithm) => {
                notices.extend(left_over(metadata, algorithm)?);
                match algorithm {
                    Algorithm::Bytes(_) | Algorithm::Characters => merged(metadata, algorithm, notices)?,
                    Algorithm::Pieces => sentence_piece(metadata, notices)?,
                }
            }
            Err(error @ TokenizerError::NoVocabulary { .. }) => match json.filter(|path| path.is_file()) {
                Some(path) => Tokenizer::from_hf_json(&path)?,
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        if tokenizer.kind == Kind::HfJson {
            let ids = roles(metadata, &mut tokenizer.special, tokenizer.vocab.len())?;
            tokenizer.notices.extend(ids);
            tokenizer.ends = complete(&tokenizer.vocab, &mut tokenizer.special);
        }
        let (templates, notices) = chat::templates_of(metadata, &tokenizer.vocab, &tokenizer.special)?;
        if !templates.is_empty() {
            tokenizer.templates = templates;
        }
        tokenizer.notices.extend(notices);
        let (rank, notice) = RankTemplate::read(metadata, &tokenizer.matcher)?;
        tokenizer.rank = rank;
        tokenizer.notices.extend(notice);
        Ok(tokenizer)
    }
}

/// The tokens as the file has them.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<TokenKind>,
    typed_as_text: usize,
}

impl Tokens {
    fn read(metadata: &Metadata) -> Result<Tokens, TokenizerError> {
        let array = metadata
            .array_of(TOKENS)?
            .ok_or(TokenizerError::Missing { key: TOKENS.to_owned(), why: "it is the vocabulary" })?;
        let texts = strings(TOKENS, array, MAX_TOKENS)?;
        if texts.is_empty() {
            return Err(wrong(TOKENS, &"at least one token", &"none"));
        }
        let key = "tokenizer.ggml.token_type";
        let mut kinds: Vec<TokenKind> = match metadata.array_of(key)? {
            None => vec![TokenKind::Normal; texts.len()],
            Some(array) => {
                check_len(key, array, texts.len())?;
                let numbers =
                    array.integers().ok_or_else(|| wrong(key, &"integers", &array.element_type()))?;
                numbers.map(TokenKind::from_number).collect()
            }
        };
        // Published files list tokens such as <|im_end|> as ordinary text now and then; no text spells them by accident.
        let mut typed_as_text = 0;
        for (text, kind) in texts.iter().zip(&mut kinds) {
            if *kind == TokenKind::Normal && is_end_name(text) {
                *kind = TokenKind::Control;
                typed_as_text += 1;
            }
        }
        Ok(Tokens { texts, kinds, typed_as_text })
    }

    /// Ids by spelling; no spelling may stand for two.
    fn by_spelling(&self) -> Result<HashMap<&str, u32>, TokenizerError> {
        let mut ids = HashMap::with_capacity(self.texts.len());
        for (id, text) in (0..).zip(&self.texts) {
            if let Some(first) = ids.insert(text.as_str(), id)
                && !text.is_empty()
            {
                return Err(wrong(
                    &format!("{TOKENS}[{id}]"),
                    &"a token of its own",
                    &format!("{text:?} again, which is also token {first}"),
                ));
            }
        }
        Ok(ids)
    }

    fn notice(&self) -> Option<String> {
        (self.typed_as_text > 0).then(|| {
            format!(
                "{} tokens that end a generation are typed as ordinary text in the file and are treated as control \
                 tokens",
                self.typed_as_text
            )
        })
    }
}

/// A BPE whose rules are merges.
fn merged(
    metadata: &Metadata,
    algorithm: Algorithm,
    mut notices: Vec<String>,
) -> Result<Tokenizer, TokenizerError> {
    let tokens = Tokens::read(metadata)?;
    notices.extend(tokens.notice());
    let array = metadata
        .array_of(MERGES)?
        .ok_or(TokenizerError::Missing { key: MERGES.to_owned(), why: "a BPE has no other rules" })?;
    let merges = strings(MERGES, array, MAX_MERGES)?;
    let spellings = tokens.by_spelling()?;
    // A merge's own left token may be a space-like character but never begins with the separating space.
    let pairs = merges.iter().map(|merge| match merge.get(1..).and_then(|rest| rest.find(' ')) {
        Some(place) => (&merge[..=place], &merge[place + 2..]),
        None => merge.split_once(' ').unwrap_or((merge.as_str(), "")),
    });
    let ranked = rank_merges(MERGES, pairs, |text| {
        // No text makes an unused, a control or an unknown token, whatever a merge says.
        let is_apart = |id: u32| {
            matches!(
                tokens.kinds.get(id as usize),
                Some(TokenKind::Unused | TokenKind::Control | TokenKind::Unknown)
            )
        };
        spellings.get(text).copied().filter(|&id| !is_apart(id))
    })?;
    if ranked.unreachable > 0 {
        notices.push(format!("{} merges name tokens that are not in the vocabulary", ranked.unreachable));
    }
    drop(spellings);
    let (spelling, add_bos) = match algorithm {
        Algorithm::Bytes(pre) => (Spelling::ByteLevel, pre.add_bos),
        Algorithm::Characters | Algorithm::Pieces => (Spelling::SentencePiece, true),
    };
    let vocab = Vocab::new(&tokens.texts, tokens.kinds, spelling)?;
    let mut special = SpecialTokens { add_bos, ..SpecialTokens::default() };
    notices.extend(roles(metadata, &mut special, vocab.len())?);
    if matches!(algorithm, Algorithm::Characters) && !special.add_bos {
        // Converters wrote false for a while; the published tokenizer always adds it.
        notices.push(
            "tokenizer.ggml.add_bos_token is false: BOS is added all the same, as Gemma 4 needs it"
                .to_owned(),
        );
        special.add_bos = true;
    }
    let missing = (0..=0xf4u8)
        .filter(|byte| !matches!(byte, 0xc0 | 0xc1))
        .filter(|&byte| vocab.id_of_byte(byte).is_none())
        .count();
    if missing > 0 && special.unk.is_none() {
        notices.push(format!("{missing} bytes of UTF-8 have no token: text with them loses them"));
    }
    let ends = complete(&vocab, &mut special);
    let strips = metadata_strips(metadata, false)?;
    let matcher = SpecialMatcher::new(&vocab, |id| strips && strips_after(&vocab, id))?;
    let encoder = Encoder::Bpe(match algorithm {
        Algorithm::Bytes(pre) => Bpe::over_bytes(&vocab, pre, ranked),
        Algorithm::Characters | Algorithm::Pieces => Bpe::over_characters(&vocab, ranked),
    });
    Ok(Tokenizer {
        kind: Kind::GgufBpe,
        vocab,
        encoder,
        matcher,
        special,
        ends,
        add_space_prefix: false,
        templates: Vec::new(),
        rank: None,
        notices,
    })
}

fn sentence_piece(metadata: &Metadata, mut notices: Vec<String>) -> Result<Tokenizer, TokenizerError> {
    let tokens = Tokens::read(metadata)?;
    notices.extend(tokens.notice());
    tokens.by_spelling()?;
    let key = "tokenizer.ggml.scores";
    let array = metadata
        .array_of(key)?
        .ok_or(TokenizerError::Missing { key: key.to_owned(), why: "SentencePiece has no other rules" })?;
    check_len(key, array, tokens.texts.len())?;
    let scores: Vec<f32> = match (array.f32s(), array.integers()) {
        (Some(scores), _) => scores.collect(),
        (None, Some(scores)) => scores.map(|score| score as f32).collect(),
        (None, None) => return Err(wrong(key, &"f32 or integers", &array.element_type())),
    };
    let vocab = Vocab::new(&tokens.texts, tokens.kinds, Spelling::SentencePiece)?;
    let mut special =
        SpecialTokens { bos: Some(1), eos: Some(2), unk: Some(0), add_bos: true, ..SpecialTokens::default() };
    notices.extend(roles(metadata, &mut special, vocab.len())?);
    let ends = complete(&vocab, &mut special);
    let strips = metadata_strips(metadata, true)?;
    let matcher = SpecialMatcher::new(&vocab, |id| strips && strips_after(&vocab, id))?;
    let extra = metadata.bool_of("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false);
    let encoder = Encoder::Spm(Spm::new(&vocab, &scores, extra)?);
    Ok(Tokenizer {
        kind: Kind::GgufSpm,
        vocab,
        encoder,
        matcher,
        special,
        ends,
        add_space_prefix: metadata.bool_of("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        templates: Vec::new(),
        rank: None,
        notices,
    })
}

/// Phi-3's published tokenizer drops white space after its special tokens; GGUF has no key for it, so the model's name has to do.
fn metadata_strips(metadata: &Metadata, sentence_piece: bool) -> Result<bool, TokenizerError> {
    let name = metadata.str_of("general.name")?.unwrap_or_default().to_lowercase();
    let architecture = metadata.str_of("general.architecture")?.unwrap_or_default();
    Ok(name.contains("phi-3") || name.contains("phi3") || (sentence_piece && architecture == "phi3"))
}

fn strips_after(vocab: &Vocab, id: u32) -> bool {
    !matches!(vocab.bytes_of(id), Some(b"<unk>" | b"<s>" | b"<|endoftext|>"))
}

fn strings(key: &str, array: &Array, limit: usize) -> Result<Vec<String>, TokenizerError> {
    if array.len() > limit {
        let what = if key == MERGES { "merges" } else { "tokens" };
        return Err(TokenizerError::TooLarge { what, limit: limit as u64, found: array.len() as u64 });
    }
    let strings = array.strings().ok_or_else(|| wrong(key, &"strings", &array.element_type()))?;
    let mut texts = Vec::with_capacity(strings.len());
    for (i, bytes) in strings.iter().enumerate() {
        let text = std::str::from_utf8(bytes).map_err(|_| {
            wrong(&format!("{key}[{i}]"), &"UTF-8", &format!("{:?}", String::from_utf8_lossy(bytes)))
        })?;
        texts.push(text.to_owned());
    }
    Ok(texts)
}

fn check_len(key: &str, array: &Array, n_tokens: usize) -> Result<(), TokenizerError> {
    if array.len() == n_tokens {
        return Ok(());
    }
    Err(wrong(key, &format!("{n_tokens} entries, one a token"), &format!("{} entries", array.len())))
}

fn wrong(key: &str, expected: &dyn Display, found: &dyn Display) -> TokenizerError {
    let shorten = |text: String| match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    TokenizerError::Value {
        key: key.to_owned(),
        expected: expected.to_string(),
        found: shorten(found.to_string()),
    }
}
