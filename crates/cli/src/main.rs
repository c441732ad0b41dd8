//! The binary `worker-orcd`.
fn main() {}
