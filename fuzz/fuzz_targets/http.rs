//! See `crates/fuzzing/src/targets/http.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("http", input));
