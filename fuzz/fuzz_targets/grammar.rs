//! See `crates/fuzzing/src/targets/grammar.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("grammar", input));
