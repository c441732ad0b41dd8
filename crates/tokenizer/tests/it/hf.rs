//! Does a tokenizer.json give the ids that Hugging Face's own library gives?
//!
//! `data/hf_vectors.txt` has hashes of the ids of 1,000 random texts for each of four published tokenizers and for Gemma 4's; `data/hf_vectors.py`
//! made it with Hugging Face's `tokenizers` and says what is in it. Texts mix scripts, contractions, digits, white space, marks
//! and emoji.

use tokenizer::{EncodeOptions, Kind, Tokenizer};

use crate::fixtures;

/// HF_VECTORS may name another such file.
fn vectors() -> String {
    let path = std::env::var("HF_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hf_vectors.txt").to_owned());
    std::fs::read_to_string(path).unwrap()
}

/// xorshift64*, the high 32 bits.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % n
    }
}

fn fnv(ids: &[u32]) -> u32 {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    bytes.fold(0x811c_9dc5, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn line(name: &str) -> String {
    let vectors = vectors();
    vectors.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap().to_owned()
}

fn texts(count: usize) -> Vec<String> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let piece = |hex: &str| String::from_utf8(hex.as_bytes().chunks(2).map(byte).collect()).unwrap();
    let pieces: Vec<String> = line("pieces").split(' ').map(piece).collect();
    let mut random = Random(88_172_645_463_325_252);
    let mut text = || {
        let n_pieces = 1 + random.below(24);
        (0..n_pieces).map(|_| pieces[random.below(pieces.len())].as_str()).collect()
    };
    (0..count).map(|_| text()).collect()
}

fn check(name: &str) {
    let Some(path) = fixtures::path(&format!("tokenizers/{name}/tokenizer.json")) else { return };
    let tokenizer = Tokenizer::from_hf_json(&path).unwrap();
    assert_eq!(tokenizer.kind(), Kind::HfJson);
    check_ids(name, &tokenizer);
}

fn check_ids(name: &str, tokenizer: &Tokenizer) {
    let expected = line(name);
    let texts = texts(expected.len() / 8);
    assert!(texts.len() >= 1000);
    let mut wrong = Vec::new();
    for (text, expected) in texts.iter().zip(expected.as_bytes().chunks(8)) {
        let ids = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: true }).unwrap();
        if format!("{:08x}", fnv(&ids)).as_bytes() != expected {
            wrong.push(format!("{text:?} {ids:?}"));
        }
    }
    assert!(wrong.is_empty(), "{name}: {} of {} differ\n{}", wrong.len(), texts.len(), wrong.join("\n"));
}

#[test]
fn gpt_oss() {
    check("gptoss");
    let Some(path) = fixtures::path("tokenizers/gptoss/tokenizer.json") else { return };
    let tokenizer = Tokenizer::from_hf_json(&path).unwrap();
    assert_eq!(tokenizer.n_vocab(), 200_019);
    assert_eq!(tokenizer.ends(), [200_002, 200_012]);
    assert!(tokenizer.is_end(200_002) && tokenizer.is_end(200_012));
    assert!(!tokenizer.is_end(tokenizer.special_id("<|end|>").unwrap()));
    let plain = tokenizer.encode("<|return|>", EncodeOptions::default()).unwrap();
    assert!(plain.len() > 1 && plain.iter().all(|&id| !tokenizer.is_special(id)), "{plain:?}");
}

#[test]
fn qwen2_5() {
    check("qwen2_5");
}

#[test]
fn llama3() {
    check("llama3");
}

#[test]
fn gpt2() {
    check("gpt2");
}

#[test]
fn gemma_4() {
    let Some(tokenizer) = fixtures::vocab("gemma-4") else { return };
    check_ids("gemma-4", &tokenizer);
    let name = |&id: &u32| std::str::from_utf8(tokenizer.token_bytes(id).unwrap()).unwrap().to_owned();
    let ends: Vec<String> = tokenizer.ends().iter().map(name).collect();
    assert_eq!(ends, ["<eos>", "<|tool_response>", "<turn|>"]);
}
