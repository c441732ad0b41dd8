//! How much may a vocabulary, a text or a chat template cost? Every bound of this crate, in one place.
//!
//! Each bound is far above what published models need and low enough that a hostile file or request cannot
//! make the process slow or large. Going past one is a typed error.

/// Tokens in a vocabulary. The largest published ones have about 262,000.
pub const MAX_TOKENS: usize = 1 << 22;
/// Bytes of all tokens of a vocabulary together.
pub const MAX_VOCAB_BYTES: usize = 1 << 28;
/// Bytes of one token, so that looking a joined pair up has a bounded cost. The longest published ones have about 1,000.
pub const MAX_TOKEN_BYTES: usize = 1 << 14;
/// Merge rules. The largest published tokenizers have about 515,000.
pub const MAX_MERGES: usize = 1 << 23;
/// Bytes of all special (control and user-defined) tokens together; their automaton costs a few dozen times as much.
pub const MAX_SPECIAL_BYTES: usize = 1 << 20;
/// Bytes of a text to encode. One unbroken word costs about 100 bytes of memory for
/// each of its bytes while it is merged.
pub const MAX_TEXT_BYTES: usize = 1 << 24;
/// Bytes of a tokenizer.json.
pub const MAX_JSON_BYTES: u64 = 1 << 28;

/// Bytes of a chat template's source. The longest published ones have about 20,000.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 18;
/// Bytes of a name in a chat template: of a variable, an attribute, a filter.
pub const MAX_NAME_BYTES: usize = 256;
/// Named templates in a file.
pub const MAX_TEMPLATES: usize = 64;
/// Evaluation steps of one rendering: a node of the template visited, or an element or 64 bytes looked at by a filter.
pub const MAX_RENDER_STEPS: u64 = 20_000_000;
/// Bytes of text a rendering may produce, captured blocks included.
pub const MAX_RENDER_BYTES: usize = 1 << 24;
/// Bytes that all values made by one rendering may take together, freed or not. At most about twice as much is held at
/// any moment, since a value may be copied once after it is counted.
pub const MAX_RENDER_MEMORY: usize = 1 << 27;
/// Nesting of lists and maps, as input, made by a template, or written by one.
pub const MAX_VALUE_DEPTH: usize = 64;
/// Nesting of macro calls, blocks and expressions while rendering.
pub const MAX_RENDER_DEPTH: usize = 200;
/// Elements of one `range`, as in Jinja's own sandbox.
pub const MAX_RANGE: i64 = 100_000;
/// Words and signs in one tag of a template: a chain of operators is as deep as it is long.
pub const MAX_TAG_TOKENS: usize = 2048;
/// `elif` branches in a template.
pub const MAX_TEMPLATE_CHAIN: usize = 200;
