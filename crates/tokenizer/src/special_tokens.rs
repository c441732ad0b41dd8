//! Which ids begin and end a text, and which end a generation?
//!
//! GGUF names them (`tokenizer.ggml.bos_token_id` and so on), but published files leave many out, so that the tokens that models
//! are known to end with are also recognised by name.

use crate::vocab::{TokenKind, Vocab};

/// The ids with a role, as the file or the tokens' names say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// End of a message that awaits a tool.
    pub eom: Option<u32>,
    /// Stands for what cannot be encoded.
    pub unk: Option<u32>,
    /// Separates texts.
    pub sep: Option<u32>,
    /// Fills batches.
    pub pad: Option<u32>,
    /// Fill in the middle: before the prefix.
    pub fim_pre: Option<u32>,
    /// Fill in the middle: before the suffix.
    pub fim_suf: Option<u32>,
    /// Fill in the middle: before what is to be filled in.
    pub fim_mid: Option<u32>,
    /// Does encoding put BOS first?
    pub add_bos: bool,
    /// Does encoding put EOS last?
    pub add_eos: bool,
}

/// Names of tokens that published models end a turn or a text with.
const END_NAMES: [&str; 23] = [
    "<|eot_id|>",
    "<|eot|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|eom|>",
    "<turn|>",
    "<|tool_response>",
    "<|observation|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "[e~[",
];

/// Which of [`END_NAMES`] end a turn rather than a text.
const TURN_NAMES: [&str; 9] = [
    "<|eot_id|>",
    "<|eot|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<turn|>",
    "<EOT>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
];

/// Which of [`END_NAMES`] end a message that awaits a tool.
const EOM_NAMES: [&str; 3] = ["<|eom_id|>", "<|eom|>", OBSERVATION];

/// Begins the user's turn, which ends a generation in vocabularies that also have [`OBSERVATION`] (GLM's): no token closes a
/// turn there.
const USER: &str = "<|user|>";
/// Begins the result of a tool.
const OBSERVATION: &str = "<|observation|>";

/// Is a token of this name control, whatever the file says?
pub(crate) fn is_end_name(name: &str) -> bool {
    END_NAMES.contains(&name)
}

/// Completes `special` from the tokens' names and lists the ids that end a generation, ascending.
pub(crate) fn complete(vocab: &Vocab, special: &mut SpecialTokens) -> Vec<u32> {
    let mut named: Vec<(u32, &str)> = Vec::new();
    for id in 0..vocab.len() as u32 {
        if vocab.kind(id).is_some_and(|kind| matches!(kind, TokenKind::Control | TokenKind::UserDefined))
            && let Some(Ok(name)) = vocab.bytes_of(id).map(std::str::from_utf8)
            && (is_end_name(name) || name == USER)
        {
            named.push((id, name));
        }
    }
    if !named.iter().any(|(_, name)| *name == OBSERVATION) {
        named.retain(|(_, name)| *name != USER);
    }
    let find = |wanted: &str| named.iter().find(|(_, name)| *name == wanted).map(|(id, _)| *id);
    // In gpt-oss's format <|end|> closes one message of several; only these two hand over to the other side.
    let harmony = match (find("<|return|>"), find("<|call|>")) {
        (Some(result), Some(call)) => Some([result, call]),
        _ => None,
    };
    if special.eot.is_none() && harmony.is_none() {
        special.eot = TURN_NAMES.iter().find_map(|name| find(name));
    }
    special.eom = special.eom.or_else(|| EOM_NAMES.iter().find_map(|name| find(name)));
    let mut ends: Vec<u32> = match harmony {
        Some(ends) => ends.to_vec(),
        None => {
            let known = [special.eos, special.eot, special.eom];
            named.iter().map(|(id, _)| *id).chain(known.into_iter().flatten()).collect()
        }
    };
    ends.sort_unstable();
    ends.dedup();
    ends
}
