//! Do the decoders agree with gguf-py bit by bit, and do they refuse lengths that do not belong together?

mod lengths;
mod numbers;
mod vectors;
