//! Which recipe does a name mean?
//!
//! The names are those that llama.cpp's converter writes to `tokenizer.ggml.pre`. A recipe is here only if its cuts were compared
//! with those of the published regular expressions (`tests.rs`); of the other names it is said what is missing.

use super::runs::{self, Run};
use super::scan::{Lines, TAIL_NEWLINES, TAIL_NEWLINES_AND_SLASHES, Words};
use super::{PreTokenizer, Stage};

const LLAMA3: Words = Words {
    cased: false,
    marks: false,
    han_apart: false,
    contractions: true,
    digits: 3,
    tail: TAIL_NEWLINES,
};
const QWEN2: Words = Words { digits: 1, ..LLAMA3 };
const GPT4O: Words = Words { cased: true, tail: TAIL_NEWLINES_AND_SLASHES, ..LLAMA3 };

const DIGIT: Stage = isolate(runs::is_number, 1);
const NUMBER: Stage = isolate(runs::is_number, usize::MAX);
const THREE_NUMBERS: Stage = isolate(runs::is_number, 3);
const NEWLINE: Stage = isolate(runs::is_newline, 1);
const HAN_OR_KANA: Stage = isolate(runs::is_han_or_kana, usize::MAX);
const EAST_ASIAN: Stage = isolate(runs::is_deepseek_east_asian, usize::MAX);
/// ` ?[^(\s|[.,!?…。，、।۔،])]+`.
const BLOOM: Stage =
    Stage::Isolate(Run { member: runs::is_bloom_word, before: |c| c == ' ', longest: usize::MAX });

const fn isolate(member: fn(char) -> bool, longest: usize) -> Stage {
    Stage::Isolate(Run { member, before: |_| false, longest })
}

/// `\s?X+`.
const fn after_space(member: fn(char) -> bool) -> Stage {
    Stage::Isolate(Run { member, before: char::is_whitespace, longest: usize::MAX })
}

const fn plain(stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { stages, nfc: false, ignore_merges: false, add_bos: false }
}

const fn composed(stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { nfc: true, ..plain(stages) }
}

const fn whole_words(stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { ignore_merges: true, ..plain(stages) }
}

const fn whole_words_after_bos(stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { add_bos: true, ..whole_words(stages) }
}

/// The recipe that stands in where a file names none: GPT-2's.
pub(crate) const FALLBACK: PreTokenizer = plain(&[Stage::Gpt2]);
/// The name of [`FALLBACK`].
pub(crate) const FALLBACK_NAME: &str = "gpt-2";

type Named = (&'static [&'static str], PreTokenizer);

/// Every recipe with its names, the one in the recorded vectors first.
#[rustfmt::skip]
pub(super) const RECIPES: [Named; 26] = [
    (&["gpt-2", "gpt2", "phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "roberta-bpe",
       "gigachat", "a.x-4.0", "mellum", "jais", "exaone4", "trillion", "granite-docling"], FALLBACK),
    (&["mpt", "olmo", "modern-bert"], composed(&[Stage::Gpt2])),
    (&["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
     plain(&[DIGIT, Stage::Gpt2])),
    (&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
     whole_words_after_bos(&[Stage::Words(LLAMA3)])),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], plain(&[Stage::Words(LLAMA3)])),
    (&["glm4", "glm5"], whole_words(&[Stage::Words(LLAMA3)])),
    (&["minicpm5"], whole_words(&[THREE_NUMBERS, Stage::Words(Words { digits: usize::MAX, ..LLAMA3 })])),
    (&["qwen2", "qwen2.5", "qwen3"], composed(&[Stage::Words(QWEN2)])),
    (&["qwen35"], plain(&[Stage::Words(Words { marks: true, ..QWEN2 })])),
    (&["deepseek-r1-qwen", "stablelm2", "hunyuan", "solar-open", "megrez", "grok-2", "kormo", "f2llmv2", "bailingmoe",
       "bailingmoe2", "llada-moe"], plain(&[Stage::Words(QWEN2)])),
    (&["laguna"], plain(&[isolate(runs::is_line_feed, usize::MAX), Stage::Words(QWEN2)])),
    (&["ufakzeka"], plain(&[Stage::Words(Words { contractions: false, ..QWEN2 })])),
    (&["seed-coder"], plain(&[Stage::Words(Words { tail: 0, ..QWEN2 })])),
    (&["gpt-4o", "o200k", "llama4", "kanana2", "talkie", "minimax-m2"], plain(&[Stage::Words(GPT4O)])),
    (&["granite-embed-multi-97m"], whole_words(&[Stage::Words(GPT4O)])),
    (&["youtu"], whole_words(&[Stage::IsolateAny(&runs::YOUTU), Stage::Words(Words { digits: 1, ..GPT4O })])),
    (&["kimi-k2"], whole_words(&[Stage::Words(Words { han_apart: true, tail: TAIL_NEWLINES, ..GPT4O })])),
    (&["tekken"], whole_words_after_bos(&[Stage::Words(Words { contractions: false, digits: 1, ..GPT4O })])),
    (&["deepseek-llm"], plain(&[NEWLINE, after_space(runs::is_deepseek_letter), after_space(runs::is_deepseek_punctuation),
        Stage::TrailingSpace, EAST_ASIAN, NUMBER])),
    (&["deepseek-coder"],
     plain(&[NEWLINE, after_space(runs::is_letter), after_space(runs::is_punctuation), EAST_ASIAN, DIGIT])),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
     plain(&[THREE_NUMBERS, HAN_OR_KANA, Stage::Deepseek(Lines::Joined)])),
    (&["spark2_5"], plain(&[THREE_NUMBERS, HAN_OR_KANA, Stage::Deepseek(Lines::Single), DIGIT])),
    (&["falcon"], plain(&[isolate(runs::is_falcon_punctuation, usize::MAX), Stage::Gpt2, Stage::ThreeDigits])),
    (&["superbpe"], plain(&[NUMBER, Stage::Thousands])),
    (&["bloom", "gpt3-finnish", "poro-chat"], plain(&[BLOOM])),
    (&["viking"], plain(&[BLOOM, DIGIT])),
];

/// Names that llama.cpp knows and that are refused, each with what is known of it.
pub(crate) const UNSUPPORTED: [(&str, &str); 9] = [
    (
        "afmoe",
        "digits in groups of three counted from the end, then East Asian scripts, then words as in deepseek-v3",
    ),
    ("chameleon", "image tokens and single punctuation marks first, then words as in gpt-2"),
    ("cohere2moe", "digits in groups of three counted from the end, then words as in gpt-4o"),
    ("exaone-moe", "words that may hold spaces"),
    ("granite-embed-multi-311m", "an embedding model that merges characters, as gemma4 does"),
    ("jais-2", "as llama-bpe, but white space in runs of powers of two"),
    ("sarvam-moe", "merges of characters over text whose spaces are U+2581, as in gemma4"),
    ("tiny_aya", "digits in groups of three counted from the end, then words as in gpt-4o"),
    ("whitespace", "an embedding model that cuts at white space and merges characters"),
];
