//! The tokenizer against published vocabularies, reference implementations and hostile input.

mod chat;
mod fixtures;
mod hf;
mod vectors;
