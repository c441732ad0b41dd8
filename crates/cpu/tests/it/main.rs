//! The executors against the golden models, stage by stage against each other, and a sequence against itself in company.

mod golden;
mod invariance;
mod support;
