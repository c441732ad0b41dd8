//! What the CUDA crate does on a real GPU. Without one every test skips and says why.

#![allow(clippy::print_stdout, clippy::print_stderr)] // Why a test skips, and what it measured.

mod columns;
mod conformance;
mod driver;
mod few_bits;
mod golden;
mod gpu;
mod groups;
mod guesses;
mod heads;
mod hidden;
mod invariance;
mod loading;
mod memory;
mod models;
mod packed;
mod recurrence;
mod routing;
mod sampling;
mod scales;
mod upload;
mod windows;
