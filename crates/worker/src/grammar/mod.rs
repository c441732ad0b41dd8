//! Which tokens may an answer consist of, where its form is given? Grammars over tokens, by the llguidance library.
//!
//! A schema, expression or grammar comes from a client and may be hostile: its size and depth are bounded here, the work of compiling it
//! and of each token by `limits`, and what goes wrong is an error that names the field. Compiling recurses, so it has a thread with
//! a stack that the bounds on the input cannot exhaust.

mod constraint;
mod few;
mod ids;
#[cfg(test)]
mod meaning_tests;
mod names;
mod numbers;
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
use std::thread;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};
use tokenizer::Tokenizer;

use crate::WorkerError;

pub(crate) use constraint::GrammarConstraint;
pub use source::{MAX_GRAMMAR_DEPTH, MAX_SCHEMA_BYTES};
pub(crate) use source::{Source, quoted};
use unique::{Places, Watch};
use vocabulary::{Vocabulary, Words};

/// Virtual size of the compiling thread's stack, bytes; only what is used becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// The most bytes of the library's reason in an error.
const MAX_REASON_BYTES: usize = 300;

/// Bounds on the library's work. Its "fuel" is about 50 a microsecond while compiling and 14 while a mask is computed; a state of
/// the lexer takes one or two kilobytes.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 1_000,
        initial_lexer_fuel: 400_000,
        step_lexer_fuel: 100_000,
        step_max_items: 50_000,
        max_lexer_states: 20_000,
        max_grammar_size: 100_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// Compiles grammars for one vocabulary.
pub(crate) struct Grammars {
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Of the executor, which may have more ids than the tokenizer.
    n_vocab: usize,
    /// Made when the first grammar comes: most workers never see one.
    factory: OnceLock<Result<(ParserFactory, Arc<Words>), String>>,
}

impl Grammars {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, n_vocab: usize) -> Grammars {
        Grammars { tokenizer, n_vocab, factory: OnceLock::new() }
    }

    /// A grammar that is ready for an answer's first token.
    pub(crate) fn compile(&self, source: &Source) -> Result<GrammarConstraint, WorkerError> {
        source.check()?;
        let compiled = thread::scope(|scope| {
            let compile = || self.matcher(source.grammar()?);
            let thread = thread::Builder::new().name("grammar".to_owned()).stack_size(STACK_BYTES);
            let thread = thread.spawn_scoped(scope, compile).map_err(|e| format!("no thread: {e}"))?;
            thread.join().unwrap_or_else(|_| Err("the grammar's compiler failed".to_owned()))
        });
        compiled.map_err(|reason| source.refused(&bounded(&reason)))
    }

    fn matcher(
        &self,
        (grammar, places): (TopLevelGrammar, Option<Places>),
    ) -> Result<GrammarConstraint, String> {
        let (factory, words) = self.factory.get_or_init(|| self.factory()).as_ref().map_err(Clone::clone)?;
        let parser = factory.create_parser(grammar).map_err(|error| error.to_string())?;
        let mut matcher = Matcher::new(Ok(parser));
        // Some of what is wrong with a grammar shows only here.
        match matcher.compute_mask_or_eos() {
            Ok(mask) if !mask.is_zero() => {
                let trie = matcher.tok_env().map_err(|error| error.to_string())?;
                let watch = places.map(|places| Watch::new(trie, Arc::new(places)));
                Ok(GrammarConstraint::new(matcher, Arc::clone(words), watch))
            }
            Err(error) if !error.to_string().contains("NoExtension") => Err(error.to_string()),
            _ => Err("no token can start such an answer".to_owned()),
        }
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
        write!(f, "Grammars(over {} tokens)", self.n_vocab)
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
