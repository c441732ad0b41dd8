//! Does the binary do what it says? Black-box tests: a real process, its stdout, stderr and exit code.
//!
//! Models are the golden files of `tests/golden` at the root of the repository: tiny random transformers of every architecture, with
//! the logits that the reference implementation computes from them. The tests in `smollm2` use a downloaded fixture.

mod bench;
mod completions;
mod defaults;
mod deploy;
mod embed;
mod eval;
mod evaluations;
mod files;
mod gpu;
mod hub;
mod inspect;
mod lenient;
mod log;
mod model_file;
mod names;
mod open_files;
mod otlp;
mod program;
mod proofs;
mod pull;
mod receipts;
mod refusals;
mod run;
mod secrets;
mod serve;
mod slips;
mod smollm2;
mod talk;
mod tokenize;
mod unsound;
mod vectors;
mod verify;
