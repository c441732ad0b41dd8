//! See `crates/fuzzing/src/targets/model.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("model", input));
