//! Are tokens guessed ahead? The flags, and what this model and device make of them.

use clap::ValueEnum;
use device::{Executor, Limits};
use engine::{Engine, EngineHandle, EngineOptions, Extent, Speculation};
use hub::ModelRef;
use tokenizer::Tokenizer;

use crate::device::{Draft, ModelArgs};
use crate::exit::Failure;
use crate::fetch;
use crate::log::LogArgs;

/// The flags of commands that generate.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SpeculateArgs {
    /// Speculative decoding, which changes no answer. auto: guesses from n-grams of prompt and answer and from --draft-model, as many as save time; draft: from the draft
    /// model alone; lookup: from n-grams alone, as many as there are, for measurements
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Speculate::Off)]
    speculate: Speculate,
    /// A smaller model with the same vocabulary, on the same device, for --speculate draft or auto
    #[arg(long, value_name = "MODEL", value_parser = fetch::reference())]
    draft_model: Option<ModelRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Speculate {
    Off,
    Auto,
    Lookup,
    Draft,
}

impl SpeculateArgs {
    /// Whether no token is guessed.
    pub(crate) fn is_off(&self) -> bool {
        self.speculate == Speculate::Off
    }

    /// The flag's value.
    pub(crate) fn name(&self) -> &'static str {
        match self.speculate {
            Speculate::Off => "off",
            Speculate::Auto => "auto",
            Speculate::Lookup => "lookup",
            Speculate::Draft => "draft",
        }
    }

    /// The draft model that was asked for.
    pub(crate) fn draft_model(&self) -> Option<&ModelRef> {
        self.draft_model.as_ref()
    }

    /// Refuses flags that contradict each other.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match (self.speculate, &self.draft_model) {
            (Speculate::Draft, None) => {
                Err(Failure::Usage("--speculate draft needs a --draft-model".to_owned()))
            }
            (Speculate::Off | Speculate::Lookup, Some(_)) => {
                Err(Failure::Usage("--draft-model needs --speculate draft or auto".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Opens the draft model, if there is to be one, for a model with this vocabulary.
    pub(crate) fn open_draft(
        &self,
        model: &ModelArgs,
        tokenizer: &Tokenizer,
        log: &LogArgs,
    ) -> anyhow::Result<Option<Draft>> {
        let open = |draft: &ModelRef| Draft::open(draft, tokenizer, model.fetch, log);
        self.draft_model.as_ref().map(open).transpose()
    }

    /// What the engine is told, on an executor of these limits. Where it takes no guesses, `auto` says why and makes none.
    pub(crate) fn speculation(&self, limits: &Limits) -> Result<Option<Speculation>, Failure> {
        let speculation = match self.speculate {
            Speculate::Off => return Ok(None),
            Speculate::Auto => Speculation::lookup(Extent::Paying),
            Speculate::Lookup => Speculation::lookup(Extent::Most),
            Speculate::Draft => Speculation::draft(Extent::Paying),
        };
        let Some(why) = refusal(limits) else { return Ok(Some(speculation)) };
        if self.speculate != Speculate::Auto {
            let name = self.name();
            return Err(Failure::Usage(format!("--speculate {name}: no token can be guessed here: {why}")));
        }
        tracing::info!("--speculate auto: no token is guessed: {why}");
        Ok(None)
    }
}

/// Starts an engine, with a draft model if there is one.
pub(crate) fn start(
    executor: Box<dyn Executor>,
    draft: Option<Box<dyn Executor>>,
    options: EngineOptions,
) -> std::io::Result<EngineHandle> {
    match draft {
        Some(draft) => Engine::spawn_with_draft(executor, draft, options),
        None => Engine::spawn(executor, options),
    }
}

/// Why an executor takes no guesses, if so.
fn refusal(limits: &Limits) -> Option<&'static str> {
    match limits {
        Limits { n_guess: 1.., .. } => None,
        Limits { n_snapshot: Some(_), .. } => {
            Some("the model's recurrent layers keep a state that a wrong guess would change")
        }
        _ => {
            Some("with this KV cache, or as many slots, the device computes one row of a sequence in a step")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        page_size: 32,
        n_page: 1,
        window: None,
        n_slot: 1,
        n_row: 8,
        n_ctx: 32,
        n_vocab: 8,
        n_embd: 0,
        n_snapshot: None,
        n_guess: 4,
        n_in_flight: 1,
    };

    fn check(speculate: Speculate, limits: Limits) -> String {
        match (SpeculateArgs { speculate, draft_model: None }).speculation(&limits) {
            Ok(None) => "none".to_owned(),
            Ok(Some(speculation)) => format!("{:?}", speculation.extent),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_cannot_be_guessed_is_refused_by_name_or_left_out() {
        assert_eq!(check(Speculate::Off, LIMITS), "none");
        assert_eq!(check(Speculate::Auto, LIMITS), "Paying");
        assert_eq!(check(Speculate::Lookup, LIMITS), "Most");
        let recurrent = Limits { n_snapshot: Some(2), n_guess: 0, ..LIMITS };
        let device = Limits { n_guess: 0, ..LIMITS };
        for limits in [recurrent, device] {
            assert_eq!(check(Speculate::Auto, limits), "none");
            let refused = check(Speculate::Lookup, limits);
            let why = refusal(&limits).unwrap();
            assert_eq!(refused, format!("--speculate lookup: no token can be guessed here: {why}"));
            let refused = check(Speculate::Draft, limits);
            assert_eq!(refused, format!("--speculate draft: no token can be guessed here: {why}"));
        }
        assert!(refusal(&recurrent).unwrap().contains("recurrent"));
    }

    #[test]
    fn a_draft_model_and_what_it_is_for_come_together() {
        let model = Some(ModelRef::Path("m.gguf".into()));
        let check = |speculate, draft_model: &Option<ModelRef>| {
            let args = SpeculateArgs { speculate, draft_model: draft_model.clone() };
            args.check().err().map_or_else(String::new, |error| error.to_string())
        };
        for speculate in [Speculate::Draft, Speculate::Auto] {
            assert_eq!(check(speculate, &model), "");
        }
        assert_eq!(check(Speculate::Draft, &None), "--speculate draft needs a --draft-model");
        for speculate in [Speculate::Off, Speculate::Lookup] {
            assert_eq!(check(speculate, &None), "");
            assert_eq!(check(speculate, &model), "--draft-model needs --speculate draft or auto");
        }
    }
}
