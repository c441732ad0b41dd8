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
    /// Fill in the middle: fills batches.
    pub fim_pad: Option<u32>,
    /// Fill in the middle: before a repository's name.
    pub fim_rep: Option<u32>,
    /// Fill in the middle: before each file of a repository.
    pub fim_sep: Option<u32>,
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

/// Names of tokens that published models have before what comes before the gap.
const FIM_PRE_NAMES: [&str; 8] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    // CodeLlama's, whose vocabulary writes a space as U+2581.
    " <PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];

/// Before what comes after the gap.
const FIM_SUF_NAMES: [&str; 8] = [
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    " <SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];

/// Before what fills the gap.
const FIM_MID_NAMES: [&str; 8] = [
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    " <MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// What fills batches of such texts.
const FIM_PAD_NAMES: [&str; 5] = ["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];

/// Before a repository's name.
const FIM_REP_NAMES: [&str; 5] = ["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];

/// Before a file of a repository.
const FIM_SEP_NAMES: [&str; 1] = ["<|file_sep|>"];

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
    complete_fim(vocab, special);
    let mut ends: Vec<u32> = match harmony {
        Some(ends) => ends.to_vec(),
        None => {
            // What follows a filled gap is another file, as far as such models know.
            let SpecialTokens { eos, eot, eom, fim_pad, fim_rep, fim_sep, .. } = *special;
            let known = [eos, eot, eom, fim_pad, fim_rep, fim_sep];
            named.iter().map(|(id, _)| *id).chain(known.into_iter().flatten()).collect()
        }
    };
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// Finds the tokens to fill in the middle by name, as llama.cpp does (`llama-vocab.cpp`), where the file has no keys for them. Those that
/// end an answer are looked for among tokens about text alone: a text may spell an ordinary `[PAD]`.
fn complete_fim(vocab: &Vocab, special: &mut SpecialTokens) {
    let SpecialTokens { fim_pre, fim_suf, fim_mid, fim_pad, fim_rep, fim_sep, .. } = special;
    let mut roles: [(&mut Option<u32>, &[&str], bool); 6] = [
        (fim_pre, &FIM_PRE_NAMES, true),
        (fim_suf, &FIM_SUF_NAMES, true),
        (fim_mid, &FIM_MID_NAMES, true),
        (fim_pad, &FIM_PAD_NAMES, false),
        (fim_rep, &FIM_REP_NAMES, false),
        (fim_sep, &FIM_SEP_NAMES, false),
    ];
    // The place of the name that was found for each role: earlier names win.
    let mut found = [(usize::MAX, 0); 6];
    for id in 0..vocab.len() as u32 {
        let Some(Ok(name)) = vocab.bytes_of(id).map(std::str::from_utf8) else { continue };
        if !name.ends_with(['>', ']']) {
            continue;
        }
        let is_about_text = matches!(vocab.kind(id), Some(TokenKind::Control | TokenKind::UserDefined));
        let is_text = vocab.kind(id) == Some(TokenKind::Normal);
        for ((_, names, may_be_text), found) in roles.iter().zip(&mut found) {
            let place = names.iter().position(|known| *known == name);
            if let Some(place) =
                place.filter(|&place| place < found.0 && (is_about_text || is_text && *may_be_text))
            {
                *found = (place, id);
            }
        }
    }
    for ((role, _, _), (place, id)) in roles.iter_mut().zip(found) {
        if role.is_none() && place != usize::MAX {
            **role = Some(id);
        }
    }
}
