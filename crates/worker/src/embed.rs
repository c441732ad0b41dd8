//! Text in, a vector out; and how well a document fits a query.
//!
//! Which hidden rows make a vector is what the model's file says ([`model::Pooling`]); a file that says nothing is an answering model's, and gets the
//! last row, as in vLLM. Vectors have the length 1.

use std::time::Instant;

use engine::{EndReason, EngineError, EngineRequest, Event, Pooling, Stream, Usage};
use model::Classifier;
use tokenizer::Stopped;

use crate::request::tokenise;
use crate::{Prompt, Work, Worker, WorkerError};

/// What makes vectors and ranks of a model's hidden rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedder {
    pooling: Option<model::Pooling>,
    is_of_file: bool,
    classifier: Option<Classifier>,
}

/// Who asks for a vector.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Clients share the engine.
    pub client: u64,
    /// How large the client's share is beside others'; 0 counts as 1.
    pub weight: u32,
    /// Requests of one scope share the computation of texts that start alike; without one nothing is shared.
    pub cache_scope: Option<u64>,
}

/// A text whose vector or rank can be computed.
#[derive(Clone, Debug)]
pub struct ValidText {
    engine: EngineRequest,
}

/// The computation of one vector. Dropping it cancels it.
#[derive(Debug)]
pub struct Embedding {
    stream: Stream,
}

impl Embedder {
    /// As a model's file has it.
    #[must_use]
    pub fn new(model: &model::Model) -> Embedder {
        let is_of_file = model.pooling.is_some();
        Embedder { pooling: model.pooling, is_of_file, classifier: model.classifier.clone() }
    }

    /// The same with vectors that are made another way than its file says.
    #[must_use]
    pub fn with_pooling(self, pooling: model::Pooling) -> Embedder {
        Embedder { pooling: Some(pooling), is_of_file: false, ..self }
    }

    /// What makes a vector, `last` where the file says nothing.
    #[must_use]
    pub fn pooling(&self) -> model::Pooling {
        self.pooling.unwrap_or(model::Pooling::Last)
    }

    /// Whether the file says what makes a vector.
    #[must_use]
    pub fn is_of_file(&self) -> bool {
        self.is_of_file
    }

    /// Whether there are vectors of texts.
    ///
    /// # Errors
    /// [`WorkerError::Unfit`] says why not.
    pub fn embeds(&self) -> Result<(), WorkerError> {
        self.rows().map(drop)
    }

    /// Which rows make a vector.
    fn rows(&self) -> Result<Pooling, WorkerError> {
        let unfit = |why| Err(WorkerError::Unfit { what: "embeddings", why });
        match self.pooling() {
            model::Pooling::Mean => Ok(Pooling::Mean),
            model::Pooling::First => Ok(Pooling::First),
            model::Pooling::Last => Ok(Pooling::Last),
            model::Pooling::None => {
                unfit("its file gives each token a vector of its own (pooling_type none)")
            }
            model::Pooling::Rank => unfit("it ranks documents (pooling_type rank): use POST /v1/rerank"),
        }
    }

    /// The classifier of a model that ranks.
    fn ranking(&self) -> Result<&Classifier, &'static str> {
        if self.pooling != Some(model::Pooling::Rank) {
            return Err("its file is not one that ranks (pooling_type is not rank)");
        }
        self.classifier.as_ref().ok_or("its file has no classifier (cls.output.weight)")
    }
}

impl ValidText {
    /// How many tokens it has.
    #[must_use]
    pub fn n_token(&self) -> usize {
        self.engine.prompt.len()
    }

    /// That its time is over, if it is.
    #[must_use]
    pub fn overdue(&self) -> Option<Stopped> {
        self.engine.deadline.is_some_and(|deadline| Instant::now() >= deadline).then_some(Stopped::Deadline)
    }
}

impl Embedding {
    /// Waits for the vector, `[n_embd]`, not normalised, and what it took.
    ///
    /// # Errors
    /// [`WorkerError::Stopped`] where its time is over or it was cancelled; [`WorkerError::Engine`].
    pub async fn finish(mut self) -> Result<(Vec<f32>, Usage), WorkerError> {
        let mut vector = None;
        loop {
            if let Some(done) = hear(self.stream.recv().await, &mut vector) {
                return done;
            }
        }
    }

    /// The same on this thread, which must not be one that runs async tasks.
    ///
    /// # Errors
    /// Those of [`Embedding::finish`].
    pub fn wait(mut self) -> Result<(Vec<f32>, Usage), WorkerError> {
        let mut vector = None;
        loop {
            if let Some(done) = hear(self.stream.next_blocking(), &mut vector) {
                return done;
            }
        }
    }
}

/// Keeps the vector that comes; at the end, what the text gave.
fn hear(
    event: Option<Event>,
    vector: &mut Option<Vec<f32>>,
) -> Option<Result<(Vec<f32>, Usage), WorkerError>> {
    Some(match event {
        Some(Event::Embedding(found)) => {
            *vector = Some(found);
            return None;
        }
        Some(Event::End { reason: EndReason::Cancelled, .. }) => {
            Err(WorkerError::Stopped(Stopped::Cancelled))
        }
        Some(Event::End { reason: EndReason::Deadline, .. }) => Err(WorkerError::Stopped(Stopped::Deadline)),
        Some(Event::End { usage, .. }) => {
            let lacks = || EngineError::Failed("a text ended without its vector".to_owned()).into();
            vector.take().map(|vector| (vector, usage)).ok_or_else(lacks)
        }
        Some(Event::Error(error)) => Err(error.into()),
        None => Err(EngineError::Stopped.into()),
        Some(_) => return None,
    })
}

impl Worker {
    /// What makes vectors and ranks here.
    #[must_use]
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    /// Whether there are vectors.
    ///
    /// # Errors
    /// [`WorkerError::Unfit`] says why not.
    pub fn embeds(&self) -> Result<(), WorkerError> {
        self.gives_hidden("embeddings")?;
        self.embedder.embeds()
    }

    /// Whether documents are ranked.
    ///
    /// # Errors
    /// [`WorkerError::Unfit`] says why not.
    pub fn ranks(&self) -> Result<(), WorkerError> {
        let unfit = |why| WorkerError::Unfit { what: "ranks", why };
        self.gives_hidden("ranks")?;
        self.embedder.ranking().map_err(unfit)?;
        let why = "its file does not say how a query and a document are written down (tokenizer.chat_template.rerank)";
        self.tokenizer.has_rank_template().then_some(()).ok_or_else(|| unfit(why))
    }

    fn gives_hidden(&self, what: &'static str) -> Result<(), WorkerError> {
        match self.engine.limits().n_embd {
            0 => Err(WorkerError::Unfit { what, why: "the device that it is on gives no hidden rows" }),
            _ => Ok(()),
        }
    }

    /// Checks and tokenises a text whose vector is wanted.
    ///
    /// # Errors
    /// [`WorkerError::Unfit`] where there are no vectors; those of [`Worker::tokenize_within`]; [`WorkerError::Invalid`] and
    /// [`WorkerError::TooLong`] for the number of tokens.
    pub fn check_text(&self, text: &Prompt, asker: Asker, work: &Work) -> Result<ValidText, WorkerError> {
        self.embeds()?;
        let pooling = self.embedder.rows()?;
        self.valid_text(tokenise(&self.tokenizer, text, work)?, pooling, (asker, work))
    }

    /// The same for a document that is to be ranked for a query.
    ///
    /// # Errors
    /// [`WorkerError::Unfit`] where nothing is ranked; as above.
    pub fn check_document(
        &self,
        query: &str,
        document: &str,
        asker: Asker,
        work: &Work,
    ) -> Result<ValidText, WorkerError> {
        self.ranks()?;
        let ids = self.tokenizer.encode_rank(query, document)?.unwrap_or_default();
        self.valid_text(ids, Pooling::Last, (asker, work))
    }

    fn valid_text(
        &self,
        ids: Vec<u32>,
        pooling: Pooling,
        (asker, work): (Asker, &Work),
    ) -> Result<ValidText, WorkerError> {
        let (n_prompt, longest) = (ids.len(), self.engine.longest_embedded());
        let n_vocab = self.engine.limits().n_vocab;
        let invalid = |expected, found| Err(WorkerError::Invalid { field: "prompt", expected, found });
        if n_prompt == 0 {
            return invalid(format!("1 to {longest} tokens"), "0".to_owned());
        }
        if n_prompt > longest {
            return Err(WorkerError::TooLong { n_prompt, longest, n_ctx: self.engine.capacity() });
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= n_vocab) {
            return invalid(format!("ids below {n_vocab}"), id.to_string());
        }
        Ok(ValidText {
            engine: EngineRequest {
                deadline: work.deadline(),
                client: asker.client,
                weight: asker.weight,
                cache_scope: asker.cache_scope,
                ..EngineRequest::embedding(ids, pooling)
            },
        })
    }

    /// Starts the computation of a text's vector.
    ///
    /// # Errors
    /// [`WorkerError::Engine`], where the engine takes no more at present, or ever.
    pub fn embed(&self, text: ValidText) -> Result<Embedding, WorkerError> {
        Ok(Embedding { stream: self.engine.submit(text.engine)? })
    }

    /// How probable it is that the document fits the query, from the vector of both: 0 to 1.
    #[must_use]
    pub fn rank(&self, vector: &[f32]) -> f64 {
        self.embedder.ranking().map_or(f64::NAN, |classifier| classifier.probability(vector))
    }
}

/// The first `n` values, made a vector of the length 1; one of zeros stays what it is. Lengths are summed in float64.
pub fn shorten(vector: &mut Vec<f32>, n: usize) {
    vector.truncate(n);
    let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn a_shortened_vector_has_the_length_one() {
        let mut vector = vec![3.0, 4.0, 12.0];
        shorten(&mut vector, 2);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zeros = vec![0.0; 3];
        shorten(&mut zeros, 3);
        assert_eq!(zeros, [0.0; 3]);
        // Values whose squares no float32 holds.
        let mut large = vec![3e30, 4e30];
        shorten(&mut large, 2);
        assert!((large[0] - 0.6).abs() < 1e-6 && (large[1] - 0.8).abs() < 1e-6, "{large:?}");
    }
}
