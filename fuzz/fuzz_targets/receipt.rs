//! See `crates/fuzzing/src/targets/receipt.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("receipt", input));
