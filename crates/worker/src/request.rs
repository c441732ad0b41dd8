//! From what a client says to what the engine can run.
//!
//! [`Request`] is raw: any value may stand in any field. [`ValidRequest`] can only be made by checking one, so whoever holds it need
//! not check again. Messages about a field never repeat the client's text.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use device::SamplingParams;
use engine::{Constraint, EngineRequest};
use serde_json::Value;
use tokenizer::{EncodeOptions, Tokenizer};

use crate::chat::{self, Chat, ChatForm, Reading, ThinkStart};
use crate::grammar::Source;
use crate::stop::StopMatcher;
use crate::{Work, Worker, WorkerError};

/// The most stop strings of a request.
pub const MAX_STOP_STRINGS: usize = 16;

/// The most bytes of a stop string.
pub const MAX_STOP_BYTES: usize = 256;

/// The most stop ids of a request.
pub const MAX_STOP_TOKEN_IDS: usize = 64;

/// What is to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Put BOS first, where the vocabulary says so.
        add_special: bool,
        /// Read the names of control tokens as these tokens; not for text of strangers.
        parse_special: bool,
    },
    /// Ids, as they are.
    Tokens(Vec<u32>),
    /// A conversation, written down as the model's chat template says.
    Chat(Chat),
}

/// What an answer's text must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema accepts.
    JsonSchema(Value),
    /// Text that this regular expression accepts as a whole.
    Regex(String),
    /// Text of this grammar, in llguidance's dialect of Lark.
    Grammar(String),
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is to be continued.
    pub prompt: Prompt,
    /// The most tokens of the answer; what the context cannot hold is cut off.
    pub max_tokens: Option<usize>,
    /// The answer does not end by an end token before it has this many tokens.
    pub min_tokens: usize,
    /// How tokens are chosen. Its seed is not used: see `seed`.
    pub sampling: SamplingParams,
    /// With the same seed and the same request comes the same answer. Drawn, and reported, where absent.
    pub seed: Option<u64>,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// The answer ends at one of these ids as at the model's own end tokens.
    pub stop_token_ids: Vec<u32>,
    /// Never choose the model's own end tokens.
    pub ignore_eos: bool,
    /// Show special tokens in the text by name.
    pub show_special: bool,
    /// Give up after this time from the check on, waiting included.
    pub timeout: Option<Duration>,
    /// What the answer's text must be; in a chat its content.
    pub format: Option<Format>,
    /// The field that the format stands in, for errors; by its kind where `None`.
    pub format_field: Option<&'static str>,
    /// Who asks: clients share the engine.
    pub client: u64,
    /// How large the client's share is beside others'; 0 counts as 1.
    pub weight: u32,
    /// Requests of one scope share the computation of prompts that start alike; without one nothing is shared.
    pub cache_scope: Option<u64>,
    /// Tell how likely the prompt's tokens are, beside `sampling.n_alternatives` others. The computation of such a prompt is not shared.
    pub scores_prompt: bool,
    /// Whether tokens may be guessed before they are chosen, where the engine does that. It changes no token.
    pub speculate: bool,
}

/// A format, and the field that it stands in.
pub(crate) type Asked<'a> = (&'a Format, Option<&'static str>);

impl Request {
    /// What the answer's text must be.
    pub(crate) fn asked(&self) -> Option<Asked<'_>> {
        self.format.as_ref().map(|format| (format, self.format_field))
    }

    /// A request for this prompt with nothing else said.
    #[must_use]
    pub fn new(prompt: Prompt) -> Request {
        Request {
            prompt,
            max_tokens: None,
            min_tokens: 0,
            sampling: SamplingParams::default(),
            seed: None,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            show_special: false,
            timeout: None,
            format: None,
            format_field: None,
            client: 0,
            weight: 1,
            cache_scope: None,
            scores_prompt: false,
            speculate: true,
        }
    }
}

/// A request that was checked against this worker's limits.
#[derive(Clone, Debug)]
pub struct ValidRequest {
    pub(crate) engine: EngineRequest,
    pub(crate) stop: StopMatcher,
    pub(crate) show_special: bool,
    pub(crate) reading: Reading,
    pub(crate) terms: Arc<Terms>,
}

/// What decides an answer, as it stood before it was put in the engine's terms. A receipt says it.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) sampling: SamplingParams,
    pub(crate) stop: Vec<String>,
    pub(crate) stop_token_ids: Vec<u32>,
    pub(crate) ignore_eos: bool,
    pub(crate) form: Form,
}

/// What an answer must be, and how it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pub(crate) grammar: Option<Source>,
    /// In a conversation.
    pub(crate) chat: Option<ChatForm>,
}

impl ValidRequest {
    /// The prompt's ids.
    #[must_use]
    pub fn prompt(&self) -> &Arc<[u32]> {
        &self.engine.prompt
    }

    /// The seed that was given or drawn.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.engine.params.seed
    }

    /// How tokens are chosen: as asked for, with the seed, and without the model's end tokens where they are never to be chosen.
    #[must_use]
    pub fn params(&self) -> &SamplingParams {
        &self.engine.params
    }

    /// The most tokens of the answer; `usize::MAX` where only the context bounds it.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.engine.max_tokens
    }

    /// The answer ends before the first of these.
    #[must_use]
    pub fn stop(&self) -> &[String] {
        &self.terms.stop
    }

    /// Whether the model's own end tokens are never chosen.
    #[must_use]
    pub fn ignore_eos(&self) -> bool {
        self.terms.ignore_eos
    }

    /// The same request with another seed: another of several answers.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> ValidRequest {
        let mut other = self.clone();
        other.engine.params.seed = seed;
        other
    }
}

pub(crate) fn check(worker: &Worker, request: Request, work: &Work) -> Result<ValidRequest, WorkerError> {
    check_sampling(worker, &request)?;
    let work = work.within(request.timeout);
    let (prompt, form) = tokenised(&worker.tokenizer, &request, &work)?;
    checked(worker, (request, &work), prompt, form)
}

/// Checks a request whose prompt is ids, and whose answer has a form that was found before.
pub(crate) fn check_as(
    worker: &Worker,
    request: Request,
    prompt: Vec<u32>,
    form: Form,
) -> Result<ValidRequest, WorkerError> {
    check_sampling(worker, &request)?;
    let work = Work::default().within(request.timeout);
    checked(worker, (request, &work), prompt, form)
}

fn check_sampling(worker: &Worker, request: &Request) -> Result<(), WorkerError> {
    let n_vocab = worker.engine.limits().n_vocab;
    request.sampling.validate(n_vocab).map_err(|e| WorkerError::Invalid {
        field: e.field,
        expected: e.expected,
        found: e.found,
    })?;
    check_stops(request, n_vocab)
}

fn checked(
    worker: &Worker,
    (request, work): (Request, &Work),
    prompt: Vec<u32>,
    form: Form,
) -> Result<ValidRequest, WorkerError> {
    let n_vocab = worker.engine.limits().n_vocab;
    let n_prompt = prompt.len();
    let longest = worker.engine.capacity().saturating_sub(1);
    if n_prompt == 0 {
        return Err(invalid("prompt", format!("1 to {longest} tokens"), n_prompt));
    }
    if n_prompt > longest {
        return Err(WorkerError::TooLong { n_prompt, longest, n_ctx: longest + 1 });
    }
    if let Some(id) = prompt.iter().find(|&&id| id as usize >= n_vocab) {
        return Err(invalid("prompt", format!("ids below {n_vocab}"), id));
    }
    let max_tokens = request.max_tokens.or(worker.options.default_max_tokens).unwrap_or(usize::MAX);
    if request.min_tokens > max_tokens {
        return Err(invalid("min_tokens", format!("at most max_tokens, {max_tokens}"), request.min_tokens));
    }

    if request.ignore_eos && form.grammar.is_some() {
        return Err(invalid("ignore_eos", "false where the answer's form says where it ends", true));
    }
    let constraint = match &form.grammar {
        Some(source) => {
            let drops_space = worker.tokenizer.drops_space_after(&prompt);
            let thinking = form.chat.as_ref().map_or(ThinkStart::None, |chat| chat.thinking);
            let constraint = worker.grammars.compile(source, work)?.starting(drops_space).thinking(thinking);
            Some(Box::new(constraint) as Box<dyn Constraint>)
        }
        None => None,
    };
    let reading = match &form.chat {
        Some(chat) => chat.reading(&worker.tokenizer)?,
        None => Reading::plain(),
    };
    let terms = Terms {
        sampling: request.sampling.clone(),
        stop: request.stop.clone(),
        stop_token_ids: request.stop_token_ids.clone(),
        ignore_eos: request.ignore_eos,
        form,
    };

    let mut params = request.sampling;
    params.seed = request.seed.unwrap_or_else(draw_seed);
    let mut end_ids = request.stop_token_ids;
    let model_ends = worker.tokenizer.ends().iter().copied();
    if request.ignore_eos {
        params.logit_bias.extend(model_ends.map(|id| (id, f32::NEG_INFINITY)));
    } else {
        end_ids.extend(model_ends);
    }
    Ok(ValidRequest {
        engine: EngineRequest {
            prompt: prompt.into(),
            max_tokens,
            min_tokens: request.min_tokens,
            end_ids: end_ids.into(),
            params,
            deadline: work.deadline(),
            client: request.client,
            weight: request.weight,
            cache_scope: request.cache_scope,
            scores_prompt: request.scores_prompt,
            embeds: None,
            speculate: request.speculate,
            constraint,
        },
        stop: StopMatcher::new(request.stop),
        show_special: request.show_special,
        reading,
        terms: terms.into(),
    })
}

fn check_stops(request: &Request, n_vocab: usize) -> Result<(), WorkerError> {
    if request.stop.len() > MAX_STOP_STRINGS {
        return Err(invalid("stop", format!("at most {MAX_STOP_STRINGS} strings"), request.stop.len()));
    }
    if let Some(stop) = request.stop.iter().find(|s| s.is_empty() || s.len() > MAX_STOP_BYTES) {
        return Err(invalid("stop", format!("strings of 1 to {MAX_STOP_BYTES} bytes"), stop.len()));
    }
    let ids = &request.stop_token_ids;
    if ids.len() > MAX_STOP_TOKEN_IDS {
        return Err(invalid("stop_token_ids", format!("at most {MAX_STOP_TOKEN_IDS} ids"), ids.len()));
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= n_vocab) {
        return Err(invalid("stop_token_ids", format!("ids below {n_vocab}"), id));
    }
    Ok(())
}

/// A prompt's ids, and what its answer is to be.
fn tokenised(tokenizer: &Tokenizer, request: &Request, work: &Work) -> Result<(Vec<u32>, Form), WorkerError> {
    let Prompt::Chat(chat) = &request.prompt else {
        let grammar = request.asked().map(Source::of_asked).transpose()?;
        return Ok((tokenise(tokenizer, &request.prompt, work)?, Form { grammar, chat: None }));
    };
    let written = chat::render(tokenizer, chat, work)?;
    let grammar = chat::grammar(tokenizer, chat, request.asked(), (&written.family, &written.text))?;
    let form = Form { grammar, chat: Some(written.family.answer(&written.text, chat)) };
    Ok((tokenizer.encode_chat(&written.rendered)?, form))
}

/// The ids of a prompt; of a conversation as its template writes it.
pub(crate) fn tokenise(tokenizer: &Tokenizer, prompt: &Prompt, work: &Work) -> Result<Vec<u32>, WorkerError> {
    match prompt {
        Prompt::Tokens(ids) => Ok(ids.clone()),
        &Prompt::Text { ref text, add_special, parse_special } => {
            Ok(tokenizer.encode(text, EncodeOptions { add_special, parse_special })?)
        }
        // A template writes BOS itself where its model wants one, as transformers' apply_chat_template has it.
        Prompt::Chat(chat) => Ok(tokenizer.encode_chat(&chat::render(tokenizer, chat, work)?.rendered)?),
    }
}

fn invalid(field: &'static str, expected: impl Into<String>, found: impl ToString + Copy) -> WorkerError {
    WorkerError::Invalid { field, expected: expected.into(), found: found.to_string() }
}

/// The standard library seeds a [`RandomState`] from the operating system. 52 bits: programs that hold numbers as doubles keep 53, and the
/// further answers of a request have the numbers that follow.
fn draw_seed() -> u64 {
    RandomState::new().hash_one(()) >> 12
}

#[cfg(test)]
mod tests {
    use super::draw_seed;

    #[test]
    fn a_drawn_seed_and_those_after_it_fit_a_double() {
        let seeds: Vec<u64> = (0..1000).map(|_| draw_seed()).collect();
        assert!(seeds.iter().all(|seed| seed + 128 < 1 << 53));
        assert!(seeds.iter().any(|&seed| seed >= 1 << 51), "bits of use are left out");
    }
}
