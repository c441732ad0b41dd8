//! Who runs next?
//!
//! The engine owns an [`device::Executor`] on a thread of its own and runs many requests on it at once (continuous batching:
//! Yu et al., "Orca", OSDI'22; paged KV cache: Kwon et al., arXiv 2309.06180). Requests go in as token ids and come back as
//! a [`Stream`] of events. It knows no text, no files and no network.
//!
//! What always holds:
//! - Every accepted request gets exactly one terminal event ([`Event::End`] or [`Event::Error`]), whatever happens, and its pages
//!   are back before that event is sent (unless the engine's thread hangs: [`EngineError::Stalled`]).
//! - A running request has all the pages it can need, so it is never dropped for want of memory. It may be stopped for another client's,
//!   and then goes on later as if it had not been.
//! - Clients share slots and pages by weight; a client's own requests start in the order in which they came.
//! - At most `n_slot + n_waiting` requests are accepted and unfinished, and `n_slot` for each client beyond; what comes on top is refused at once.
//!
//! - Where a prompt's own tokens are scored, the logits of its rows ([`device::Want::Logits`]) come to the host, one sequence's in a step
//!   and 32 MiB at most; the stream carries the log probabilities alone.
//!
//! - Where a prompt's vector is wanted instead of an answer ([`EngineRequest::embeds`]), its rows come to the host after the last norm
//!   ([`device::Want::Hidden`]) and are pooled there; such a request is scheduled as any other, and computes its prompt alone.
//!
//! An evaluation that needs every row's logits runs alone and drives the executor itself: rows of `n_vocab` floats have no place in a
//! stream of tokens.

mod cache_events;
mod constraint;
mod draft;
mod engine;
mod error;
mod handle;
mod load;
mod masks;
mod pace;
mod pages;
mod places;
mod pooling;
mod prefix_cache;
pub mod priority;
mod protect;
mod queue;
mod request;
mod scheduler;
mod sequence;
mod shares;
mod snapshots;
mod speculate;
mod stall;
mod stream;
#[cfg(test)]
mod tests;
mod waiting;

pub use cache_events::{CacheBatch, CacheEvent, CacheListener};
pub use constraint::{Constraint, Interrupt};
pub use engine::EngineOptions;
pub use error::EngineError;
pub use handle::{Engine, EngineHandle, Health, Shutdown};
pub use load::{Drafts, Load};
pub use pooling::Pooling;
pub use request::EngineRequest;
pub use speculate::{Extent, Guess, Guesser, Lookup, Speculation};
pub use stream::{Canceller, EndReason, Event, Scored, Stream, Timings, Usage};
