//! What must hold for any bytes?
//!
//! Each target is a plain function over bytes that panics where a property does not hold. libFuzzer calls it from `fuzz/`, with a nightly
//! compiler; the program `fuzzing` calls it with mutated seeds under the stable one.

pub mod mutate;
mod targets;

/// One reader of hostile input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its folder of seeds.
    pub name: &'static str,
    /// Panics where a property does not hold.
    pub run: fn(&[u8]),
    /// What its inputs are made of: mutation inserts these whole.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: [Target; 8] = [
    Target { name: "gguf_reader", run: targets::gguf_reader::run, words: targets::gguf_reader::WORDS },
    Target { name: "grammar", run: targets::grammar::run, words: targets::grammar::WORDS },
    Target { name: "http", run: targets::http::run, words: targets::http::WORDS },
    Target { name: "keys", run: targets::keys::run, words: targets::keys::WORDS },
    Target { name: "model", run: targets::model::run, words: targets::model::WORDS },
    Target { name: "receipt", run: targets::receipt::run, words: targets::receipt::WORDS },
    Target { name: "template", run: targets::template::run, words: targets::template::WORDS },
    Target { name: "tokenizer", run: targets::tokenizer::run, words: &["gpt2", "llama"] },
];

/// Runs the target of this name once.
///
/// # Panics
/// Where there is no such target, or a property does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(input);
}
