//! Are tokens guessed ahead? The flag, and what this model and device make of it.

use clap::ValueEnum;
use device::Limits;
use engine::{Extent, Speculation};

use crate::exit::Failure;

/// The flag of commands that generate.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct SpeculateArgs {
    /// Guess tokens ahead from what stood in prompt and answer before; no answer changes by it. auto: as many as pay; lookup: as many as there are, for measurements
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Speculate::Off)]
    speculate: Speculate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Speculate {
    Off,
    Auto,
    Lookup,
}

impl SpeculateArgs {
    /// What the engine is told, on an executor of these limits. Where it takes no guesses, `auto` says why and makes none.
    pub(crate) fn speculation(self, limits: &Limits) -> Result<Option<Speculation>, Failure> {
        let extent = match self.speculate {
            Speculate::Off => return Ok(None),
            Speculate::Auto => Extent::Paying,
            Speculate::Lookup => Extent::Most,
        };
        let Some(why) = refusal(limits) else { return Ok(Some(Speculation::lookup(extent))) };
        if self.speculate == Speculate::Lookup {
            return Err(Failure::Usage(format!("--speculate lookup: no token can be guessed here: {why}")));
        }
        tracing::info!("--speculate auto: no token is guessed: {why}");
        Ok(None)
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
        match (SpeculateArgs { speculate }).speculation(&limits) {
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
        }
        assert!(refusal(&recurrent).unwrap().contains("recurrent"));
    }
}
