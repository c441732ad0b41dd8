//! How fast is encoding? Prints MB/s on one thread: the median of 7 runs.
//!
//! cargo bench -p tokenizer -- TOKENIZER TEXT, where TOKENIZER is a GGUF file or a tokenizer.json. `encode.py` beside this file
//! does the same with Hugging Face's `tokenizers`.

#![expect(clippy::print_stdout, reason = "the figures are for the terminal")]

use std::path::Path;
use std::time::Instant;

use tokenizer::{EncodeOptions, Tokenizer};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [tokenizer, text] = args.as_slice() else {
        println!("usage: cargo bench -p tokenizer -- TOKENIZER TEXT");
        return;
    };
    let text = std::fs::read_to_string(text).unwrap();
    let tokenizer = if tokenizer.ends_with(".json") {
        Tokenizer::from_hf_json(Path::new(tokenizer)).unwrap()
    } else {
        let file = gguf::Gguf::open(Path::new(tokenizer)).unwrap();
        Tokenizer::from_gguf(file.metadata(), None).unwrap()
    };
    let mut seconds = Vec::new();
    let mut n_ids = 0;
    for _ in 0..7 {
        let start = Instant::now();
        n_ids = tokenizer.encode(&text, EncodeOptions::default()).unwrap().len();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    println!("{}: {n_ids} ids, {:.1} MB/s", tokenizer.kind(), text.len() as f64 / 1e6 / seconds[3]);
}
