//! Any vocabulary, any text: a typed error, or ids below the vocabulary whose stream is their decoding.

use tokenizer::{EncodeOptions, Tokenizer};

const PRE: [&str; 13] = [
    "gpt-2",
    "llama-bpe",
    "qwen2",
    "gpt-4o",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "falcon",
    "tekken",
    "kimi-k2",
    "superbpe",
    "youtu",
    "bloom",
];

/// Two bytes choose the kinds, then fields between zero bytes: template of texts, tokens with a leading type digit, the rest.
pub(crate) fn run(data: &[u8]) {
    let [how, pre, rest @ ..] = data else { return };
    let fields: Vec<String> =
        rest.split(|&byte| byte == 0).map(|field| String::from_utf8_lossy(field).into_owned()).collect();
    let Some((text, tokens)) = fields.split_first() else { return };
    let mut spellings: Vec<String> = Vec::new();
    let mut types: Vec<i32> = Vec::new();
    if how & 1 == 0 {
        // Every byte, so that texts come back whole.
        let shown = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let mut next = 0x100;
        for byte in 0..=255u8 {
            if how & 2 == 0 {
                let code = if shown(byte) { u32::from(byte) } else { next };
                next += u32::from(!shown(byte));
                spellings.extend(char::from_u32(code).map(String::from));
                types.push(1);
            } else {
                spellings.push(format!("<0x{byte:02X}>"));
                types.push(6);
            }
        }
    }
    for token in tokens {
        let kind = token.bytes().next().map_or(1, |byte| i32::from(byte % 8));
        spellings.push(token.get(1..).unwrap_or_default().to_owned());
        types.push(kind);
    }
    if how & 4 == 0 {
        let mut seen = std::collections::HashSet::new();
        let kept: Vec<bool> = spellings.iter().map(|token| seen.insert(token.clone())).collect();
        let mut keep = kept.iter();
        spellings.retain(|_| keep.next() == Some(&true));
        let mut keep = kept.iter();
        types.retain(|_| keep.next() == Some(&true));
    }
    let merges: Vec<String> = tokens
        .iter()
        .filter_map(|token| token.get(1..))
        .flat_map(|token| {
            token
                .char_indices()
                .skip(1)
                .map(move |(place, _)| format!("{} {}", &token[..place], &token[place..]))
        })
        .take(256)
        .collect();
    let scores: Vec<f32> = (0..spellings.len()).map(|i| -((i * 7919 % 101) as f32)).collect();
    let model = match (how & 2 == 0, how & 16 == 0) {
        (true, _) => "gpt2",
        (false, true) => "llama",
        (false, false) => "gemma4",
    };
    let byte_complete = how & 1 == 0;
    let metadata = gguf::Metadata::from_pairs([
        ("tokenizer.ggml.model", gguf::Value::from(model)),
        ("tokenizer.ggml.pre", PRE[usize::from(*pre) % PRE.len()].into()),
        ("tokenizer.ggml.tokens", spellings.into()),
        ("tokenizer.ggml.token_type", types.into()),
        ("tokenizer.ggml.scores", scores.into()),
        ("tokenizer.ggml.merges", merges.into()),
        ("tokenizer.ggml.add_bos_token", gguf::Value::Bool(how & 8 != 0)),
    ])
    .expect("the keys are distinct");
    let Ok(tokenizer) = Tokenizer::from_gguf(&metadata, None) else { return };
    for parse_special in [false, true] {
        let options = EncodeOptions { add_special: false, parse_special };
        let ids = tokenizer.encode(text, options).expect("the text is short");
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
        if !parse_special {
            assert!(ids.iter().all(|&id| !tokenizer.is_special(id) || Some(id) == tokenizer.special().unk));
        }
        for special in [false, true] {
            let mut decoder = tokenizer.decoder(special);
            let mut joined: String = ids.iter().map(|&id| decoder.push(id)).collect();
            joined.push_str(&decoder.finish());
            assert_eq!(joined, tokenizer.decode(&ids, special));
            if byte_complete && how & 2 == 0 && special && PRE[usize::from(*pre) % PRE.len()] != "qwen2" {
                assert_eq!(&joined, text);
            }
        }
    }
}
