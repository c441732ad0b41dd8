//! What is left of a run, for others to repeat it? A folder that [`verify`](crate::cmd) reads.
//!
//! | file | content |
//! |---|---|
//! | `README.md` | how to repeat it |
//! | `metadata.json` | program, device, model files with their hashes, command line ([`metadata`]) |
//! | `measurement.json` | of an evaluation or a benchmark: parameters, inputs with their hashes, result ([`record`]) |
//! | `receipt.json`, `transcript.ndjson`, `timings.json` | of an answer; `cmd/run/proof.rs` |

mod folder;
mod measure;
mod metadata;
mod record;
mod repeat;

pub(crate) use self::folder::Folder;
pub(crate) use self::measure::{Input, Measure, Measured, OutputArgs, run};
pub(crate) use self::metadata::Metadata;
pub(crate) use self::record::MEASUREMENT;
pub(crate) use self::repeat::{InputArgs, repeat};
