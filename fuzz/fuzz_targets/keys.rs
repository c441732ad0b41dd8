//! See `crates/fuzzing/src/targets/keys.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("keys", input));
