//! Guessed tokens: how many steps they save, and what becomes of a request that ends among them.

use device::sampling::philox;

use super::*;

/// Knows what the fake's largest logits are, and lies now and then.
#[derive(Debug, Default)]
struct Seer {
    hash: u64,
    lies: bool,
}

/// Guesses for the fake, a part of them wrong.
pub(super) const SEER: Speculation =
    Speculation { guesser: || Box::new(Seer { lies: true, ..Seer::default() }), extent: Extent::Most };

/// Guesses that are right for greedy requests.
const RIGHT: Speculation = Speculation { guesser: || Box::new(Seer::default()), extent: Extent::Most };

impl Guesser for Seer {
    fn begin(&mut self, prompt: &[u32]) {
        prompt.iter().for_each(|&token| self.push(token));
    }

    fn push(&mut self, token: u32) {
        self.hash = philox::token_bits(self.hash, u64::from(token));
    }

    fn guess(&self, n: usize) -> Vec<Guess> {
        let mut hash = self.hash;
        let next = (0..n).map(|_| {
            let best = (0..LIMITS.n_vocab as u32)
                .min_by_key(|&id| std::cmp::Reverse(philox::token_bits(hash, u64::from(id)) >> 61));
            let best = best.unwrap_or_default();
            // Among the lies are ids that no token has.
            let token = if self.lies && hash.is_multiple_of(3) { (hash >> 40) as u32 % 50 } else { best };
            hash = philox::token_bits(hash, u64::from(token));
            Guess { token, chance: 0.9 }
        });
        next.collect()
    }
}

pub(super) const GUESSING: Limits = Limits { n_guess: 5, ..LIMITS };

fn guessing(limits: Limits, speculation: Speculation) -> Core {
    let options = EngineOptions { speculation: Some(speculation), ..EngineOptions::default() };
    Core::new(Box::new(Fake::new(limits)), options).unwrap()
}

/// The tokens of a request, the steps that they took, and how many of them were guessed and accepted.
fn run(request: EngineRequest, limits: Limits, speculation: Speculation) -> (Vec<u32>, u64, (usize, usize)) {
    let mut core = guessing(limits, speculation);
    let stream = enqueue(&mut core, request);
    run_until_idle(&mut core);
    let events = drain(stream);
    let Some(Event::End { timings, .. }) = events.last() else { panic!("{events:?}") };
    let load = core.counters().load();
    assert_eq!(
        (load.n_draft_token, load.n_accepted_token),
        (timings.n_guessed as u64, timings.n_accepted as u64)
    );
    assert_eq!(core.pool().n_free(), limits.n_page);
    (tokens(&events), load.n_step, (timings.n_guessed, timings.n_accepted))
}

#[test]
fn right_guesses_save_their_steps() {
    let request = EngineRequest::greedy([1, 2, 3], 25);
    let expected = tokens(&alone(&request));
    // The prompt gives one token, each step after it six.
    assert_eq!(run(request.clone(), GUESSING, RIGHT), (expected.clone(), 5, (20, 20)));
    let refusing = EngineRequest { speculate: false, ..request.clone() };
    assert_eq!(run(refusing, GUESSING, RIGHT), (expected.clone(), 25, (0, 0)));
    // An executor that takes none.
    assert_eq!(run(request.clone(), LIMITS, RIGHT), (expected.clone(), 25, (0, 0)));
    // One that is kept a step ahead: the first generated token is under way before the prompt's is known, and is waited for then.
    let ahead = Limits { n_in_flight: 2, ..GUESSING };
    assert_eq!(run(request.clone(), ahead, RIGHT), (expected.clone(), 6, (19, 19)));
    let (found, n_step, (n_guessed, n_accepted)) = run(request, GUESSING, SEER);
    assert_eq!(found, expected);
    assert_eq!(n_step as usize, 25 - n_accepted);
    assert!(0 < n_accepted && n_accepted < n_guessed, "{n_accepted} of {n_guessed}");
}

#[test]
fn a_lookup_finds_what_repeats_itself() {
    // With no penalty but a bias to two tokens, the answer has to repeat itself sooner or later.
    let mut request = EngineRequest::greedy([1, 2, 1, 2, 2, 1, 1, 2, 2, 1], 50);
    request.params.logit_bias =
        (3..40).map(|id| (id, f32::NEG_INFINITY)).chain([(0, f32::NEG_INFINITY)]).collect();
    let (found, n_step, (_, n_accepted)) = run(request.clone(), GUESSING, Speculation::lookup(Extent::Most));
    assert_eq!(found, tokens(&alone(&request)));
    assert_eq!(n_step as usize, 50 - n_accepted);
    assert!(n_accepted > 10, "{n_accepted}");
}

#[test]
fn an_end_among_guesses_ends_the_answer() {
    let free = EngineRequest::greedy([7, 8], 20);
    let answer = tokens(&alone(&free));
    for (end, &id) in answer.iter().enumerate().skip(1) {
        let request = EngineRequest { end_ids: Arc::new([id]), ..free.clone() };
        let (found, ..) = run(request.clone(), GUESSING, RIGHT);
        assert_eq!(found, tokens(&alone(&request)));
        let spared = EngineRequest { min_tokens: end + 2, ..request };
        assert_eq!(run(spared.clone(), GUESSING, SEER).0, tokens(&alone(&spared)));
    }
}

#[test]
fn a_request_that_is_given_up_or_fails_among_guesses_ends_once() {
    let request = || EngineRequest::greedy([1, 2, 3], 50);
    for early in Early::ALL {
        let mut core = guessing(Limits { n_slot: 2, ..GUESSING }, SEER);
        let stream = enqueue(&mut core, early.request(request()));
        let other = enqueue(&mut core, request());
        (0..3).for_each(|_| core.step().unwrap());
        early.end(&mut core, stream);
        run_until_idle(&mut core);
        assert_eq!(tokens(&drain(other)), tokens(&alone(&request())));
        assert_eq!(core.pool().n_free(), GUESSING.n_page);
    }
    for fault in [Fault::SubmitError(3), Fault::CollectError(3)] {
        let options = EngineOptions { speculation: Some(SEER), ..EngineOptions::default() };
        let mut core = Core::new(Box::new(Fake::new(GUESSING).fault(fault)), options).unwrap();
        let stream = enqueue(&mut core, request());
        let error = (0..9).find_map(|_| core.step().err()).unwrap();
        core.fail(&error);
        assert_eq!(reason(&drain(stream)), Err(error));
        assert_eq!(core.pool().n_free(), GUESSING.n_page);
    }
    // Logits of a guessed step that are not numbers.
    let fake = Fake::new(GUESSING).fault(Fault::Broken(2));
    let options = EngineOptions { speculation: Some(RIGHT), ..EngineOptions::default() };
    let mut core = Core::new(Box::new(fake), options).unwrap();
    let stream = enqueue(&mut core, request());
    run_until_idle(&mut core);
    assert_eq!(reason(&drain(stream)), Err(EngineError::NotNumbers { position: 10 }));
}

#[test]
fn guesses_of_a_constrained_answer_have_their_own_masks() {
    // The likeliest tokens are seldom among those that this constraint allows, so the guesses are its own answer.
    let picky = || Some(Box::new(Picky::new(Flaw::None)) as Box<dyn Constraint>);
    let request = EngineRequest { constraint: picky(), ..EngineRequest::greedy([1, 2, 3], 40) };
    let expected = tokens(&alone(&request));
    let (found, n_step, (n_guessed, n_accepted)) = run(request, GUESSING, CONSTRAINED);
    assert_eq!(found, expected);
    assert_eq!(n_step as usize, 40 - n_accepted);
    assert!(n_accepted > 0 && n_guessed >= n_accepted, "{n_accepted} of {n_guessed}");
    // What goes wrong after a guess that is not taken is nobody's.
    for flaw in [
        Flaw::MaskError(9),
        Flaw::MaskPanic(9),
        Flaw::AcceptError(9),
        Flaw::AcceptPanic(9),
        Flaw::OtherVocabulary(9),
    ] {
        let constraint = Some(Box::new(Picky::new(flaw)) as Box<dyn Constraint>);
        let request = EngineRequest { constraint, ..EngineRequest::greedy([1, 2, 3], 40) };
        let mut core = guessing(GUESSING, CONSTRAINED);
        let stream = enqueue(&mut core, request.clone());
        run_until_idle(&mut core);
        let (found, expected) = (drain(stream), alone(&request));
        assert_eq!((tokens(&found), reason(&found)), (tokens(&expected), reason(&expected)), "{flaw:?}");
    }
}

/// Guesses what a greedy answer under [`Picky`] is, and now and then another token.
#[derive(Debug)]
struct Insider {
    hash: u64,
    picky: Picky,
}

const CONSTRAINED: Speculation = Speculation {
    guesser: || Box::new(Insider { hash: 0, picky: Picky::new(Flaw::None) }),
    extent: Extent::Most,
};

impl Guesser for Insider {
    fn begin(&mut self, prompt: &[u32]) {
        self.hash = prompt.iter().fold(0, |hash, &token| philox::token_bits(hash, u64::from(token)));
    }

    fn push(&mut self, token: u32) {
        self.hash = philox::token_bits(self.hash, u64::from(token));
        self.picky.accept(token).unwrap();
    }

    fn guess(&self, n: usize) -> Vec<Guess> {
        let (mut hash, mut picky) = (self.hash, self.picky.clone());
        let next = (0..n).map(|i| {
            let mask = picky.mask().unwrap();
            let allowed = (0..LIMITS.n_vocab as u32).filter(|&id| mask.allows(id));
            let best =
                allowed.min_by_key(|&id| std::cmp::Reverse(philox::token_bits(hash, u64::from(id)) >> 61));
            let best = best.unwrap_or_default();
            if (hash ^ i as u64).is_multiple_of(5) {
                return Guess { token: (best + 1) % 40, chance: 0.9 };
            }
            hash = philox::token_bits(hash, u64::from(best));
            picky.accept(best).unwrap();
            Guess { token: best, chance: 0.9 }
        });
        next.collect()
    }
}
