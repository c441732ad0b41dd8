//! Is every well-formed file read as it is, and every other one refused with a reason, within the stated memory?

// check(input, expect![..]) reads best with the expectation by value.
#![allow(clippy::needless_pass_by_value)]

mod hostile;
mod metadata;
mod mutation;
mod python;
mod raw;
mod roundtrip;
mod split;
mod walk;
mod watch;
