//! How the next token is chosen from the logits.

use std::fmt;

/// The sampling parameters of a request. The default is plain sampling from the softmax.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 is greedy: the largest logit, the lowest id among equals.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest whose probabilities add up to this; 1 keeps all (Holtzman et al., arXiv 1904.09751).
    pub top_p: f32,
    /// Drop what is less likely than this times the likeliest; 0 drops none (arXiv 2407.01082).
    pub min_p: f32,
    /// Keep the locally typical mass; 1 keeps all (Meister et al., arXiv 2202.00666).
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt or answer; 1 is none (arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each token already in the answer.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each time it stands in the answer.
    pub frequency_penalty: f32,
    /// Added to the logits of these ids.
    pub logit_bias: Vec<(u32, f32)>,
    /// With the token's position this alone decides the random number.
    pub seed: u64,
    /// How many alternatives to report.
    pub n_alternatives: u32,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            n_alternatives: 0,
        }
    }
}

/// The set of tokens that may be chosen: one bit an id.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    len: usize,
}

impl TokenMask {
    /// A mask over `n_vocab` ids that allows none.
    #[must_use]
    pub fn none(n_vocab: usize) -> TokenMask {
        TokenMask { words: vec![0; n_vocab.div_ceil(32)], len: n_vocab }
    }

    /// Allows an id; one at or past the end of the vocabulary is not there to allow.
    pub fn allow(&mut self, id: u32) {
        if (id as usize) < self.len {
            self.words[id as usize / 32] |= 1 << (id % 32);
        }
    }

    /// Whether an id may be chosen.
    #[must_use]
    pub fn allows(&self, id: u32) -> bool {
        (id as usize) < self.len && self.words[id as usize / 32] >> (id % 32) & 1 == 1
    }
}

impl fmt::Debug for TokenMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed: u32 = self.words.iter().map(|w| w.count_ones()).sum();
        write!(f, "TokenMask({allowed} of {})", self.len)
    }
}
