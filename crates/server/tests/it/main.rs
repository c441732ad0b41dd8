//! The server over a real tokenizer (byte-level BPE, 320 tokens) and an executor that answers by script: bytes in, bytes out.

mod admission;
mod agents;
mod as_llama;
mod chat;
mod clients;
mod completions;
mod crowd;
mod document;
mod doors;
mod faults;
mod grammars;
mod infill;
mod jobs;
mod kv_events;
mod lenient;
mod llama;
mod messages;
mod numbers;
mod receipts;
mod responses;
mod served;
mod slow;
mod text;
mod tls;
mod vectors;
mod without_effect;
