//! llama-server's own routes, as its clients read them: translations of its JSON to and from the same requests that the other routes make.
//!
//! Slots here are rows of a step and no places with a memory, so `id_slot` is -1 in answers and of no effect in requests, and `GET /slots`
//! counts. No route tells a prompt to anybody but its client. Source: llama.cpp, tools/server/README.md.

mod answer;
mod completion;
mod prompts;
mod request;
mod settings;
mod status;

pub(super) use answer::{Answered, Cut, LlamaAnswer};
pub(crate) use completion::create as completion;
pub(super) use prompts::{Prompts, Written};
pub(crate) use status::{props, slots};
