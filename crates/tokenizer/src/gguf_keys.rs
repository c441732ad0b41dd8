//! Which algorithm and which ids with a role do a GGUF file's keys name, and which keys are left over?

use gguf::Metadata;

use crate::error::TokenizerError;
use crate::pretokenize::{FALLBACK, FALLBACK_NAME, PreTokenizer, UNSUPPORTED};
use crate::special_tokens::SpecialTokens;

/// How text becomes ids.
#[derive(Clone, Copy)]
pub(crate) enum Algorithm {
    /// Merges over bytes, within the words of a recipe.
    Bytes(PreTokenizer),
    /// Merges over characters, with byte tokens for those that have no token: Gemma 4.
    Characters,
    /// SentencePiece.
    Pieces,
}

/// The algorithm that `tokenizer.ggml.model` and `tokenizer.ggml.pre` name.
pub(crate) fn algorithm(metadata: &Metadata, notices: &mut Vec<String>) -> Result<Algorithm, TokenizerError> {
    let refuse = |found: String, expected: &str| {
        let expected = format!("{expected}, or a tokenizer.json beside the model");
        Err(TokenizerError::NoVocabulary { found, expected })
    };
    match metadata.str_of("tokenizer.ggml.model")? {
        Some("llama") => return Ok(Algorithm::Pieces),
        Some("gemma4") => return Ok(Algorithm::Characters),
        Some("gpt2") => {}
        Some(name) => {
            return refuse(format!("tokenizer.ggml.model is {name:?}"), r#""gpt2", "llama" or "gemma4""#);
        }
        None => {
            return refuse(
                "the file has no tokenizer.ggml.model".to_owned(),
                r#""gpt2", "llama" or "gemma4""#,
            );
        }
    }
    let fallback =
        |why: &str| format!("{why}: text is split as for {FALLBACK_NAME:?}, so tokenisation may be wrong");
    let name = match metadata.str_of("tokenizer.ggml.pre")? {
        None => {
            notices.push(fallback("the file has no tokenizer.ggml.pre"));
            return Ok(Algorithm::Bytes(FALLBACK));
        }
        // What converters wrote before they told recipes apart.
        Some("default") => {
            notices.push(fallback("tokenizer.ggml.pre is \"default\", which names no recipe"));
            return Ok(Algorithm::Bytes(FALLBACK));
        }
        Some(name) => name,
    };
    if let Some(pre) = PreTokenizer::by_name(name) {
        return Ok(Algorithm::Bytes(pre));
    }
    let known = UNSUPPORTED.iter().find(|(unsupported, _)| *unsupported == name);
    let why = known.map_or("a name that is not known", |(_, known)| known);
    refuse(format!("tokenizer.ggml.pre is {name:?} ({why})"), "a recipe that is supported")
}

/// Reads the ids with a role; gives notices of those past the vocabulary, which are ignored.
pub(crate) fn roles(
    metadata: &Metadata,
    special: &mut SpecialTokens,
    n_vocab: usize,
) -> Result<Vec<String>, TokenizerError> {
    let mut notices = Vec::new();
    let SpecialTokens {
        bos,
        eos,
        eot,
        eom,
        unk,
        sep,
        pad,
        fim_pre,
        fim_suf,
        fim_mid,
        fim_pad,
        fim_rep,
        fim_sep,
        add_bos,
        add_eos,
    } = special;
    let roles: [(&[&str], &mut Option<u32>); 13] = [
        (&["bos"], bos),
        (&["eos"], eos),
        (&["eot"], eot),
        (&["eom"], eom),
        (&["unknown"], unk),
        (&["seperator", "separator"], sep),
        (&["padding"], pad),
        (&["fim_pre", "prefix"], fim_pre),
        (&["fim_suf", "suffix"], fim_suf),
        (&["fim_mid", "middle"], fim_mid),
        (&["fim_pad"], fim_pad),
        (&["fim_rep"], fim_rep),
        (&["fim_sep"], fim_sep),
    ];
    for (names, role) in roles {
        *role = role.filter(|&id| (id as usize) < n_vocab);
        for name in names {
            let key = format!("tokenizer.ggml.{name}_token_id");
            // Some files write "none" as -1 or as the largest u32.
            match metadata.i64_of(&key)? {
                Some(id) if (0..n_vocab as i64).contains(&id) => *role = u32::try_from(id).ok(),
                Some(id) if id >= 0 && id != i64::from(u32::MAX) => {
                    notices.push(format!("{key} is {id}, past the {n_vocab} tokens: ignored"));
                }
                _ => {}
            }
        }
    }
    *add_bos = metadata.bool_of("tokenizer.ggml.add_bos_token")?.unwrap_or(*add_bos);
    *add_eos = metadata.bool_of("tokenizer.ggml.add_eos_token")?.unwrap_or(*add_eos);
    Ok(notices)
}

/// Keys after `tokenizer.ggml.` that are read, or that say nothing about the ids of one text: roles of tokens that stand between
/// texts or fill batches, and what other kinds of tokenizers need.
const EXPECTED: [&str; 33] = [
    "model",
    "pre",
    "tokens",
    "token_type",
    "token_type_count",
    "scores",
    "merges",
    "bos_token_id",
    "eos_token_id",
    "eot_token_id",
    "eom_token_id",
    "unknown_token_id",
    "seperator_token_id",
    "separator_token_id",
    "padding_token_id",
    "mask_token_id",
    "cls_token_id",
    "fim_pre_token_id",
    "fim_suf_token_id",
    "fim_mid_token_id",
    "fim_pad_token_id",
    "fim_rep_token_id",
    "fim_sep_token_id",
    "prefix_token_id",
    "suffix_token_id",
    "middle_token_id",
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
    "normalizer.lowercase",
    "normalizer.strip_accents",
];

/// Refuses what would change a text and is not done here; gives a notice of each key without an effect.
pub(crate) fn left_over(metadata: &Metadata, algorithm: Algorithm) -> Result<Vec<String>, TokenizerError> {
    for name in ["lowercase", "strip_accents"] {
        let key = format!("tokenizer.ggml.normalizer.{name}");
        if metadata.bool_of(&key)? == Some(true) {
            let expected = "false: text is encoded as it is".to_owned();
            return Err(TokenizerError::Value { key, expected, found: "true".to_owned() });
        }
    }
    let mut notices = Vec::new();
    let pieces = matches!(algorithm, Algorithm::Pieces);
    for (name, why) in [
        ("add_sep_token", Some("no two texts are encoded together")),
        ("add_space_prefix", (!pieces).then_some("it belongs to SentencePiece")),
        ("remove_extra_whitespaces", (!pieces).then_some("it belongs to SentencePiece")),
    ] {
        let key = format!("tokenizer.ggml.{name}");
        if metadata.bool_of(&key)? == Some(true)
            && let Some(why) = why
        {
            notices.push(format!("{key} is true and has no effect: {why}"));
        }
    }
    for (key, _) in metadata.iter() {
        let expected = match (key.strip_prefix("tokenizer.ggml."), key.strip_prefix("tokenizer.")) {
            (Some(name), _) => EXPECTED.contains(&name),
            (None, Some(name)) => name.starts_with("chat_template"),
            (None, None) => true,
        };
        if !expected {
            notices.push(format!("{key} is not read and has no effect"));
        }
    }
    Ok(notices)
}
