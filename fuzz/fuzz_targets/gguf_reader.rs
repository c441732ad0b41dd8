//! See `crates/fuzzing/src/targets/gguf_reader.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::run("gguf_reader", input));
