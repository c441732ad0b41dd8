//! What is asked of the engine, and whether this executor can ever do it.

use std::sync::Arc;
use std::time::Instant;

use device::sampling::{MAX_LOGIT_BIAS, ParamError};
use device::{Limits, SamplingParams};

use crate::{Constraint, EngineError, Pooling};

/// A prompt to continue.
#[derive(Clone, Debug)]
pub struct EngineRequest {
    /// At least one id, and shorter than the context.
    pub prompt: Arc<[u32]>,
    /// The most tokens of the answer; what the context cannot hold is cut off. With 0 the prompt is computed, so that its pages are there for
    /// later requests, and nothing is answered.
    pub max_tokens: usize,
    /// Until this many tokens are sampled, `end_ids` cannot be chosen (their logits are −∞), unless the constraint allows nothing else.
    pub min_tokens: usize,
    /// Sampling one of these ends the answer. The id itself is counted and named in the end's reason, not sent as a token.
    pub end_ids: Arc<[u32]>,
    /// How tokens are chosen; checked with [`SamplingParams::validate`].
    pub params: SamplingParams,
    /// When to give up, whether it waits or runs.
    pub deadline: Option<Instant>,
    /// Who asks: clients share slots, pages and places, see [`crate::EngineOptions`].
    pub client: u64,
    /// How large the client's share is beside others'; 0 counts as 1.
    pub weight: u32,
    /// Computed pages of the prompt are shared among requests of the same scope; without one they are neither read nor kept.
    pub cache_scope: Option<u64>,
    /// Tell how likely each token of the prompt is after those before it, beside `params.n_alternatives` others, before the answer. All
    /// rows of the prompt are computed for that: pages of other requests are not read, nor are this one's kept, whatever the scope. A prompt of two
    /// tokens or more may then be scored alone, with 0 as `max_tokens`.
    pub scores_prompt: bool,
    /// Give one vector of the prompt instead of an answer: `max_tokens` must be 0. Unless it is the last row, all rows are computed for that, and
    /// pages are shared with no other request, whatever the scope.
    pub embeds: Option<Pooling>,
    /// Whether tokens may be guessed, where the engine guesses any. That changes no token.
    pub speculate: bool,
    /// What restricts the answer, such as a grammar. `end_ids` that it does not allow end nothing.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl EngineRequest {
    /// A greedy continuation of `prompt` by at most `max_tokens`, to be changed with struct update syntax.
    #[must_use]
    pub fn greedy(prompt: impl Into<Arc<[u32]>>, max_tokens: usize) -> EngineRequest {
        EngineRequest {
            prompt: prompt.into(),
            max_tokens,
            min_tokens: 0,
            end_ids: Arc::new([]),
            params: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
            deadline: None,
            client: 0,
            weight: 1,
            cache_scope: None,
            scores_prompt: false,
            embeds: None,
            speculate: true,
            constraint: None,
        }
    }

    /// The vector of `prompt`.
    #[must_use]
    pub fn embedding(prompt: impl Into<Arc<[u32]>>, pooling: Pooling) -> EngineRequest {
        EngineRequest { embeds: Some(pooling), ..EngineRequest::greedy(prompt, 0) }
    }

    /// Tokens that a prompt without an answer can have.
    pub(crate) fn longest_embedded(limits: &Limits) -> usize {
        limits.n_ctx.min(limits.n_page.saturating_mul(limits.page_size))
    }

    /// Tokens a sequence can have, prompt and answer together: the context, or what all pages hold if that is less. The last
    /// token sampled is never computed, so it needs no place in a page.
    pub(crate) fn capacity(limits: &Limits) -> usize {
        limits.n_ctx.min(limits.n_page.saturating_mul(limits.page_size).saturating_add(1))
    }

    /// Checks what no waiting can change, and cuts `max_tokens` to what the context holds.
    pub(crate) fn check(mut self, limits: &Limits) -> Result<EngineRequest, EngineError> {
        let capacity = EngineRequest::capacity(limits);
        let error = |field, expected, found: usize| EngineError::Request {
            field,
            expected,
            found: found.to_string(),
        };
        let n_prompt = self.prompt.len();
        let longest = match self.embeds {
            Some(_) => EngineRequest::longest_embedded(limits),
            None => capacity.saturating_sub(1),
        };
        if n_prompt == 0 || n_prompt > longest {
            let expected = format!("1 to {longest} tokens");
            return Err(error("prompt", expected, n_prompt));
        }
        if let Some(&id) = self.prompt.iter().find(|&&id| id as usize >= limits.n_vocab) {
            return Err(error("prompt", format!("ids below {}", limits.n_vocab), id as usize));
        }
        if self.embeds.is_some() {
            return self.check_embedding(limits);
        }
        self.params.validate(limits.n_vocab).map_err(|ParamError { field, expected, found }| {
            EngineError::Request { field, expected, found }
        })?;
        // Ids that no token has end nothing, and cannot be banned either.
        if self.end_ids.iter().any(|&id| id as usize >= limits.n_vocab) {
            self.end_ids =
                self.end_ids.iter().copied().filter(|&id| (id as usize) < limits.n_vocab).collect();
        }
        let n_bias = self.params_before_min().map_or(0, |params| params.logit_bias.len());
        if n_bias > MAX_LOGIT_BIAS {
            let expected =
                format!("at most {MAX_LOGIT_BIAS} entries, one an end id among them where min_tokens is set");
            return Err(error("logit_bias", expected, n_bias));
        }
        self.max_tokens = self.max_tokens.min(capacity - n_prompt);
        self.cache_scope = self.cache_scope.filter(|_| !self.scores_prompt);
        Ok(self)
    }

    /// The same for a request without an answer.
    fn check_embedding(mut self, limits: &Limits) -> Result<EngineRequest, EngineError> {
        let error = |field, expected: &str, found: &str| EngineError::Request {
            field,
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        if limits.n_embd == 0 {
            return Err(error("embeds", "none: this device gives no hidden rows", "some"));
        }
        if self.max_tokens > 0 || self.scores_prompt || self.constraint.is_some() {
            return Err(error("embeds", "no answer, scores or constraint beside it", "one of them"));
        }
        self.cache_scope = self.cache_scope.filter(|_| self.embeds.is_some_and(Pooling::reads_cache));
        Ok(self)
    }

    /// Pages for every position that can be computed: all but that of an answer's last token, and all where there is no answer but a vector.
    pub(crate) fn n_page(&self, limits: &Limits) -> usize {
        let n_uncomputed = usize::from(self.embeds.is_none());
        (self.prompt.len() + self.n_to_ask() - n_uncomputed).div_ceil(limits.page_size)
    }

    /// Samples that it needs. Without an answer it takes one, which nobody sees, to know that its prompt is computed, unless the prompt's scores
    /// or vector say so.
    pub(crate) fn n_to_ask(&self) -> usize {
        let is_told = self.embeds.is_some() || self.scores_prompt && self.prompt.len() > 1;
        self.max_tokens.max(usize::from(!is_told))
    }

    /// The parameters with every end id banned, where there are tokens that may not end the answer.
    pub(crate) fn params_before_min(&self) -> Option<Arc<SamplingParams>> {
        (self.min_tokens > 0 && !self.end_ids.is_empty()).then(|| {
            let mut params = self.params.clone();
            params.logit_bias.extend(self.end_ids.iter().map(|&id| (id, f32::NEG_INFINITY)));
            Arc::new(params)
        })
    }
}
