//! The tokenizer against published vocabularies, reference implementations and hostile input.

mod chat;
mod differential;
mod fim;
mod fixtures;
mod forged;
mod hf;
mod hostile;
mod jinja;
mod properties;
mod same;
mod smollm2;
mod vectors;
