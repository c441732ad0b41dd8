//! See `crates/fuzzing/src/targets/tokenizer.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("tokenizer", input));
