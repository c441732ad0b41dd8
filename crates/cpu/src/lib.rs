//! The readable executor: the specification the others are checked against; [`simd`] makes it fast.

pub mod simd;
