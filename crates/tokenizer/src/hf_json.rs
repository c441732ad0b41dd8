//! Which tokenizer does a tokenizer.json describe?
//!
//! Hugging Face's format, as far as byte-level BPE goes: the models this project runs that publish such a file all use it. It is
//! read into the same vocabulary and merges as a GGUF file, so that encoding has the same bounds; a pre-tokeniser, normaliser
//! or decoder that is not known is an error, never an approximation. A tokenizer_config.json beside it gives the chat template and
//! the tokens with a role.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::bpe::{Bpe, rank_merges};
use crate::chat::ChatTemplate;
use crate::error::TokenizerError;
use crate::limits::{MAX_JSON_BYTES, MAX_TEMPLATES, MAX_TOKENS};
use crate::pretokenize::PreTokenizer;
use crate::special::SpecialMatcher;
use crate::special_tokens::{SpecialTokens, complete};
use crate::tokenizer::{Encoder, Kind, Tokenizer};
use crate::vocab::{Spelling, TokenKind, Vocab};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
    #[serde(default)]
    post_processor: Json,
    #[serde(default)]
    decoder: Json,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

impl Merge {
    fn parts(&self) -> (&str, &str) {
        match self {
            Merge::Joined(text) => text.split_once(' ').unwrap_or((text, "")),
            Merge::Pair(left, right) => (left, right),
        }
    }
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    chat_template: Json,
    #[serde(default)]
    bos_token: Json,
    #[serde(default)]
    eos_token: Json,
    #[serde(default)]
    add_bos_token: Option<bool>,
    #[serde(default)]
    add_eos_token: Option<bool>,
}

impl Tokenizer {
    /// The tokenizer of a tokenizer.json, with what a tokenizer_config.json in the same folder adds.
    ///
    /// # Errors
    /// [`TokenizerError::Json`] where it cannot be read or is of a kind that is not supported; as [`Tokenizer::from_gguf`].
    pub fn from_hf_json(path: &Path) -> Result<Tokenizer, TokenizerError> {
        let document: Document = read(path)?;
        let beside = path.with_file_name("tokenizer_config.json");
        let config: Config = if beside.is_file() { read(&beside)? } else { Config::default() };
        build(&document, &config).map_err(|error| match error {
            TokenizerError::Json { why, .. } => {
                TokenizerError::Json { path: path.display().to_string(), why }
            }
            other => other,
        })
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, TokenizerError> {
    Err(TokenizerError::Json { path: String::new(), why: why.into() })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, TokenizerError> {
    let fail = |why: String| TokenizerError::Json { path: path.display().to_string(), why };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    file.take(MAX_JSON_BYTES + 1).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        let found = bytes.len() as u64;
        return Err(TokenizerError::TooLarge {
            what: "bytes of a tokenizer.json",
            limit: MAX_JSON_BYTES,
            found,
        });
    }
    serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))
}

fn build(document: &Document, config: &Config) -> Result<Tokenizer, TokenizerError> {
    let model = &document.model;
    if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return refuse(format!("model.type: expected \"BPE\", found {:?}", model.kind));
    }
    let affix = |affix: &Option<String>| affix.as_deref().is_some_and(|text| !text.is_empty());
    if model.byte_fallback || affix(&model.continuing_subword_prefix) || affix(&model.end_of_word_suffix) {
        return refuse(
            "model: only byte-level BPE is supported, without byte_fallback, prefixes and suffixes",
        );
    }
    if type_of(&document.decoder) != Some("ByteLevel") {
        return refuse(format!("decoder: expected ByteLevel, found {}", brief(&document.decoder)));
    }
    let mut pre = pre_tokenizer(&document.pre_tokenizer)?;
    pre.nfc = normalizer(&document.normalizer)?;
    pre.ignore_merges = model.ignore_merges;

    let (texts, kinds) = tokens(document)?;
    let key = "model.merges";
    let ranked =
        rank_merges(key, model.merges.iter().map(Merge::parts), |text| model.vocab.get(text).copied())?;
    let mut notices = Vec::new();
    if ranked.unreachable > 0 {
        notices.push(format!("{} merges name tokens that are not in the vocabulary", ranked.unreachable));
    }
    let vocab = Vocab::new(&texts, kinds, Spelling::ByteLevel)?;
    let id_of = |name: &str| {
        let added = document.added_tokens.iter().find(|token| token.content == name).map(|token| token.id);
        added.or_else(|| model.vocab.get(name).copied())
    };
    let mut special =
        SpecialTokens { unk: model.unk_token.as_deref().and_then(id_of), ..SpecialTokens::default() };
    special.bos = token_name(&config.bos_token).and_then(id_of);
    special.eos = token_name(&config.eos_token).and_then(id_of);
    let (first, last) = added_around(&document.post_processor);
    special.bos = special.bos.or_else(|| first.and_then(id_of));
    special.eos = special.eos.or_else(|| last.and_then(id_of));
    special.add_bos = config.add_bos_token.unwrap_or(first.is_some());
    special.add_eos = config.add_eos_token.unwrap_or(last.is_some());
    let ends = complete(&vocab, &mut special);
    let strips = |id: u32| document.added_tokens.iter().any(|token| token.id == id && token.rstrip);
    let matcher = SpecialMatcher::new(&vocab, strips)?;
    let templates = templates(config, &mut notices)?;
    Ok(Tokenizer {
        kind: Kind::HfJson,
        encoder: Encoder::Bpe(Bpe::over_bytes(&vocab, pre, ranked)),
        vocab,
        matcher,
        special,
        ends,
        add_space_prefix: false,
        templates,
        rank: None,
        notices,
    })
}

/// Spellings and kinds by id; ids that no token has are unused.
fn tokens(document: &Document) -> Result<(Vec<String>, Vec<TokenKind>), TokenizerError> {
    let ids = document.model.vocab.values().copied();
    let count =
        ids.chain(document.added_tokens.iter().map(|token| token.id)).max().map_or(0, |id| id as usize + 1);
    if count > MAX_TOKENS {
        let (limit, found) = (MAX_TOKENS as u64, count as u64);
        return Err(TokenizerError::TooLarge { what: "tokens in the vocabulary", limit, found });
    }
    if count == 0 {
        return refuse("model.vocab: expected at least one token, found none");
    }
    let mut texts = vec![String::new(); count];
    let mut kinds = vec![TokenKind::Unused; count];
    let vocab = document.model.vocab.iter().map(|(text, &id)| (text, id, TokenKind::Normal));
    let added = document.added_tokens.iter().map(|token| {
        let kind = if token.special { TokenKind::Control } else { TokenKind::UserDefined };
        (&token.content, token.id, kind)
    });
    for (text, id, kind) in vocab.chain(added) {
        let (Some(place), Some(old)) = (texts.get_mut(id as usize), kinds.get_mut(id as usize)) else {
            continue;
        };
        if !place.is_empty() && place != text {
            return refuse(format!("token {id}: both {place:?} and {text:?}"));
        }
        place.clone_from(text);
        *old = kind;
    }
    Ok((texts, kinds))
}

fn type_of(json: &Json) -> Option<&str> {
    json.get("type")?.as_str()
}

fn brief(json: &Json) -> String {
    json.to_string().chars().take(300).collect()
}

/// The parts of a `Sequence`, or the one part.
fn parts<'a>(json: &'a Json, list: &str) -> Vec<&'a Json> {
    match (json, type_of(json)) {
        (Json::Null, _) => Vec::new(),
        (_, Some("Sequence")) => json.get(list).and_then(Json::as_array).into_iter().flatten().collect(),
        _ => vec![json],
    }
}

fn normalizer(json: &Json) -> Result<bool, TokenizerError> {
    match parts(json, "normalizers").as_slice() {
        [] => Ok(false),
        [one] if type_of(one) == Some("NFC") => Ok(true),
        _ => refuse(format!("normalizer: expected none or NFC, found {}", brief(json))),
    }
}

fn pre_tokenizer(json: &Json) -> Result<PreTokenizer, TokenizerError> {
    let parts = parts(json, "pretokenizers");
    let is = |json: &Json, name: &str, flag: &str| {
        type_of(json) == Some(name) && json.get(flag).and_then(Json::as_bool).unwrap_or(true)
    };
    let plain = |json: &Json| json.get("add_prefix_space").and_then(Json::as_bool) != Some(true);
    let known = match parts.as_slice() {
        [level] if is(level, "ByteLevel", "use_regex") && plain(level) => PreTokenizer::by_name("gpt-2"),
        [digits, level]
            if is(digits, "Digits", "individual_digits")
                && is(level, "ByteLevel", "use_regex")
                && plain(level) =>
        {
            PreTokenizer::by_name("smollm")
        }
        [split, level]
            if type_of(split) == Some("Split")
                && split.get("behavior").and_then(Json::as_str) == Some("Isolated")
                && split.get("invert").and_then(Json::as_bool) != Some(true)
                && type_of(level) == Some("ByteLevel")
                && !is(level, "ByteLevel", "use_regex")
                && plain(level) =>
        {
            let pattern =
                split.get("pattern").and_then(|pattern| pattern.get("Regex")).and_then(Json::as_str);
            pattern.and_then(PreTokenizer::by_regex)
        }
        _ => None,
    };
    match known {
        Some(pre) => Ok(pre),
        None => refuse(format!("pre_tokenizer: not one of the known recipes: {}", brief(json))),
    }
}

/// The names of the tokens that a `TemplateProcessing` puts before and after a text.
fn added_around(json: &Json) -> (Option<&str>, Option<&str>) {
    for processor in parts(json, "processors") {
        if type_of(processor) == Some("TemplateProcessing")
            && let Some(single) = processor.get("single").and_then(Json::as_array)
        {
            let at = |place: usize| single.get(place)?.get("SpecialToken")?.get("id")?.as_str();
            let first = at(0);
            let last = if single.len() > 1 { at(single.len() - 1) } else { None };
            return (first, last);
        }
    }
    (None, None)
}

/// `"<s>"` or `{"content": "<s>"}`.
fn token_name(json: &Json) -> Option<&str> {
    json.as_str().or_else(|| json.get("content")?.as_str())
}

fn templates(
    config: &Config,
    notices: &mut Vec<String>,
) -> Result<Vec<(String, ChatTemplate)>, TokenizerError> {
    let named: Vec<(&str, &str)> = match &config.chat_template {
        Json::String(source) => vec![("default", source)],
        Json::Array(list) => list
            .iter()
            .filter_map(|entry| Some((entry.get("name")?.as_str()?, entry.get("template")?.as_str()?)))
            .collect(),
        _ => Vec::new(),
    };
    if named.len() > MAX_TEMPLATES {
        let (limit, found) = (MAX_TEMPLATES as u64, named.len() as u64);
        return Err(TokenizerError::TooLarge { what: "chat templates", limit, found });
    }
    let (bos, eos) = (token_name(&config.bos_token), token_name(&config.eos_token));
    let mut templates = Vec::new();
    for (name, source) in named {
        match ChatTemplate::new(source, bos.unwrap_or_default(), eos.unwrap_or_default()) {
            Ok(template) => templates.push((name.to_owned(), template)),
            Err(error) => notices.push(format!("chat template {name:?} cannot be used: {error}")),
        }
    }
    Ok(templates)
}
