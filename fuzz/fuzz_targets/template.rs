//! See `crates/fuzzing/src/targets/template.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("template", input));
