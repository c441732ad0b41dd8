//! How may an engine be told to run?

use std::time::Duration;

use crate::speculate::Speculation;

/// How the engine runs.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// How many requests may wait beyond those that have a slot. While several clients have requests, each has a share of these places and
    /// the slots by its weight, and at least as many as there are slots, even where others have taken all.
    pub n_waiting: usize,
    /// New tokens after which a sequence may be stopped for a client that has none, times its client's weight.
    pub turn: usize,
    /// Whether pages of prompts are kept for later requests of the same [`cache_scope`](crate::EngineRequest::cache_scope). Never on an
    /// executor whose sequences have a state beside their pages and that keeps no snapshots of it.
    pub prefix_cache: bool,
    /// How long one call into the executor or a constraint may last before the engine is given up with [`EngineError::Stalled`](crate::EngineError::Stalled); `None`
    /// to wait for ever.
    pub stall_after: Option<Duration>,
    /// How long one mask of a constraint may be computed before its request ends with [`EngineError::SlowConstraint`](crate::EngineError::SlowConstraint).
    pub mask_within: Duration,
    /// How often the executor is asked for its memory, at most once a millisecond.
    pub memory_every: Duration,
    /// Whether a client that asks for more than its share of the slots yields to the streams of those that do not: its rows and prompts
    /// slow them down little, and it gets on more slowly.
    pub protect_streams: bool,
    /// Whether prompts take so long on this executor that those of one client would hold up another's streams, whatever their shares: then
    /// they take a part of the time beside such streams. Only where streams are protected.
    pub bound_prompts: bool,
    /// How tokens are guessed; `None` to guess none, as on an executor that takes no guesses.
    pub speculation: Option<Speculation>,
    /// About how long a step may last: cancelling is seen between steps. It bounds the prompt rows of a step, not below 64, or 256 where nobody
    /// generates, but for steps that would last for more than ten seconds; `None` for as many as the executor takes.
    pub step_target: Option<Duration>,
}

impl Default for EngineOptions {
    /// 64 may wait, a turn has 64 tokens, pages are kept, streams are protected, prompts are quick, nothing is guessed, a call may last a
    /// minute and a mask 30 seconds, memory is looked at every 10 seconds, steps take about 0.1 seconds.
    fn default() -> Self {
        EngineOptions {
            n_waiting: 64,
            turn: 64,
            prefix_cache: true,
            stall_after: Some(Duration::from_secs(60)),
            mask_within: Duration::from_secs(30),
            memory_every: Duration::from_secs(10),
            protect_streams: true,
            bound_prompts: false,
            speculation: None,
            step_target: Some(Duration::from_millis(100)),
        }
    }
}
