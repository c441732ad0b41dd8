//! The fast kernels: the same results as the exact executor within a stated bound, many times sooner.

pub mod isa;
