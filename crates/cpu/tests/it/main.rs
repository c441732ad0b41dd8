//! The executors against the golden models, stage by stage against each other, and a sequence against itself in company.

#![allow(clippy::print_stdout)] // The errors reached, and why a case was skipped, for whoever asks with --nocapture.

mod conformance;
mod few_bits;
mod golden;
mod guesses;
mod hidden;
mod hostile;
mod invariance;
mod latent;
mod mixtures;
mod scales;
mod support;
mod windows;
