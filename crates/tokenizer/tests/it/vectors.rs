//! Do the published vocabularies give the published ids?
//!
//! llama.cpp's models/ggml-vocab-NAME.gguf with NAME.gguf.inp (texts) and NAME.gguf.out (their ids), which were made with the
//! models' own Hugging Face tokenizers.

use tokenizer::EncodeOptions;
use unicode_normalization::UnicodeNormalization;

use crate::fixtures;

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

fn check(name: &str) {
    let Some(tokenizer) = fixtures::vocab(name) else { return };
    let unsure = tokenizer.notices().iter().any(|notice| notice.contains("tokenizer.ggml.pre"));
    assert!(!unsure, "{:?}", tokenizer.notices());
    let read = |end: &str| {
        let path = fixtures::path(&format!("vocabs/ggml-vocab-{name}.gguf.{end}")).unwrap();
        std::fs::read_to_string(path).unwrap()
    };
    let (texts, ids) = (read("inp"), read("out"));
    let (texts, ids): (Vec<&str>, Vec<&str>) = (texts.split(SEPARATOR).collect(), ids.lines().collect());
    assert!(texts.len() >= ids.len() && ids.len() > 40, "{} texts, {} lines of ids", texts.len(), ids.len());
    let mut wrong = Vec::new();
    for (text, line) in texts.iter().zip(&ids) {
        let expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let found = tokenizer.encode(text, EncodeOptions::default()).unwrap();
        if found != expected {
            wrong.push(format!("{text:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
        // Qwen 2's tokenizer composes characters first, so that is what comes back.
        let back = if name == "qwen2" { text.nfc().collect() } else { (*text).to_owned() };
        assert_eq!(tokenizer.decode(&found, true), back);
    }
    assert!(wrong.is_empty(), "{name}: {} differ\n{}", wrong.len(), wrong.join("\n"));
}

macro_rules! vectors {
    ($($test:ident: $name:literal;)*) => {$(
        #[test]
        fn $test() {
            check($name);
        }
    )*};
}

vectors! {
    llama_spm: "llama-spm";
    phi_3: "phi-3";
    gemma_4: "gemma-4";
    gpt_2: "gpt-2";
    llama_bpe: "llama-bpe";
    qwen2: "qwen2";
    qwen35: "qwen35";
    deepseek_llm: "deepseek-llm";
    deepseek_coder: "deepseek-coder";
    falcon: "falcon";
    starcoder: "starcoder";
    refact: "refact";
    command_r: "command-r";
    mpt: "mpt";
}
