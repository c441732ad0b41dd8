//! Which tokens may an answer consist of, where its form is given? Grammars over tokens, by the llguidance library.
//!
//! A schema, expression or grammar comes from a client and may be hostile: its size and depth are bounded here, the work of compiling it
//! and of each token by `limits`, and what goes wrong is an error that names the field. Compiling recurses, so it has a thread with
//! a stack that the bounds on the input cannot exhaust.

mod constraint;
mod cost;
mod few;
mod finite;
mod gbnf;
#[cfg(test)]
mod gbnf_tests;
mod ids;
#[cfg(test)]
mod meaning_tests;
mod names;
mod numbers;
mod pool;
#[cfg(test)]
mod pool_tests;
mod prepare;
mod refs;
mod source;
#[cfg(test)]
mod start_tests;
#[cfg(test)]
mod tests;
mod unique;
mod vocabulary;

use std::fmt;
use std::sync::{Arc, OnceLock};

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::InferenceCapabilities;
use tokenizer::Tokenizer;

use crate::{Work, WorkerError, priority};

pub(crate) use constraint::GrammarConstraint;
use constraint::{Compiled, MAX_SHARED, Spent};
pub use pool::GrammarLoad;
use pool::{Pool, Wanted};
pub use source::{MAX_GRAMMAR_DEPTH, MAX_SCHEMA_BYTES};
pub(crate) use source::{Source, quoted};
use unique::Watch;
use vocabulary::{Vocabulary, Words};

/// The most bytes of the library's reason in an error.
const MAX_REASON_BYTES: usize = 300;

/// The most of the library's "fuel" that an answer's lexer may spend on one mask.
const STEP_FUEL: u64 = 200_000;

/// The most states of a lexer.
const MAX_STATES: usize = 20_000;

/// Bounds on the library's work. Its "fuel" is about 50 a microsecond while compiling and 14 while a mask is computed; a state of
/// the lexer takes one or two kilobytes.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 1_000,
        initial_lexer_fuel: 400_000,
        step_lexer_fuel: STEP_FUEL,
        step_max_items: 50_000,
        max_lexer_states: MAX_STATES,
        max_grammar_size: 100_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// Grammars over one vocabulary.
pub(crate) struct Grammars {
    pub(crate) compiler: Arc<Compiler>,
    pool: Arc<Pool>,
}

impl Grammars {
    /// `n_vocab` is the executor's, which may have more ids than the tokenizer.
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, n_vocab: usize) -> Grammars {
        let compiler = Compiler { tokenizer, n_vocab, shared: MAX_SHARED, factory: OnceLock::new() };
        Grammars { compiler: Arc::new(compiler), pool: Arc::default() }
    }

    /// A grammar that is ready for an answer's first token.
    pub(crate) fn compile(&self, source: &Source, work: &Work) -> Result<GrammarConstraint, WorkerError> {
        source.check()?;
        let compiler = Arc::clone(&self.compiler);
        let compiled = self.pool.get(source, work, move |source, wanted| compiler.compile(source, wanted))?;
        Ok(GrammarConstraint::new(compiled))
    }

    /// What compiling takes and keeps.
    pub(crate) fn load(&self) -> GrammarLoad {
        self.pool.load()
    }
}

/// Compiles grammars for one vocabulary.
pub(crate) struct Compiler {
    pub(crate) tokenizer: Arc<Tokenizer>,
    n_vocab: usize,
    /// What a lexer that answers share may spend.
    shared: Spent,
    /// Made when the first grammar comes: most workers never see one.
    factory: OnceLock<Result<(ParserFactory, Arc<Words>), String>>,
}

impl Compiler {
    fn compile(&self, source: &Source, wanted: &Wanted) -> Result<Compiled, String> {
        let (factory, words) = self.factory.get_or_init(|| self.factory()).as_ref().map_err(Clone::clone)?;
        // What all grammars share is made once, and no client can make it take long. From here on one can.
        priority::yields(None, priority::MOST);
        wanted.check()?;
        let (grammar, places) = source.grammar()?;
        wanted.check()?;
        let mut parser = factory.create_parser(grammar).map_err(|error| error.to_string())?;
        wanted.check()?;
        parser.start_without_prompt();
        wanted.check()?;
        let watch = places.map(|places| Watch::new(parser.token_env.clone(), Arc::new(places)));
        Compiled::new(parser, (Arc::clone(words), watch), self.shared)
    }

    fn factory(&self) -> Result<(ParserFactory, Arc<Words>), String> {
        let Vocabulary { trie, words } = vocabulary::of(&self.tokenizer, self.n_vocab)?;
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&trie, InferenceCapabilities::default(), &slices)
            .map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok((factory, words))
    }
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grammars(over {} tokens)", self.compiler.n_vocab)
    }
}

/// The reason on one line: what follows in the library's messages are excerpts and traces.
fn bounded(reason: &str) -> String {
    // Its advice is a setting that no client can reach.
    if reason.contains("coerce_one_of") {
        return "oneOf whose schemas may hold at once: use anyOf".to_owned();
    }
    let mut lines = reason.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next().unwrap_or("no reason given");
    // What is wrong with an expression stands below an excerpt of it.
    let detail = lines.find_map(|line| line.strip_prefix("error: "));
    let line = match detail.filter(|_| line.ends_with("regex parse error:")) {
        Some(detail) => format!("invalid regex: {detail}"),
        None => line.to_owned(),
    };
    let mut end = line.len().min(MAX_REASON_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    if end < line.len() { format!("{}…", &line[..end]) } else { line }
}
