//! The tokenizer against published vocabularies, reference implementations and hostile input.

mod fixtures;
mod vectors;
