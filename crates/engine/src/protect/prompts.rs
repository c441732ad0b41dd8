//! How long may others' prompts hold streams up, where prompts take long? For a part of the time.
//!
//! A step with prompt rows lasts several times as long as one without, and how much longer hardly depends on how few the rows are. So what is
//! bounded is how often there is such a step: the time that they take beyond what the streams' own rows would have is owed, and paid back by steps
//! without prompts, of which a part counts.

use std::time::Duration;

use crate::speculate::RowCost;

/// What others' prompts may add to the time between the tokens of a stream, as a part of it. Below the half that is promised: the steps without
/// prompts take longer where the cores have other work.
const PART: f64 = 0.4;

/// The most seconds that are owed: a step that was held up by something else delays prompts for a bounded time.
const MOST: f64 = 5.0;

/// What a step is to streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There are none, or the prompts in it are their own client's.
    #[default]
    Free,
    /// They are alone in it.
    Streams,
    /// Others' prompts are in it.
    Prompts,
}

/// What prompts owe to streams.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    seconds: f64,
    /// Steps with prompts that were not measured yet.
    n_under_way: usize,
}

impl Prompts {
    /// Whether a step with streams may have others' prompts.
    pub(super) fn may_run(&self) -> bool {
        self.n_under_way == 0 && self.seconds <= 0.0
    }

    pub(super) fn submitted(&mut self, kind: Kind) {
        self.n_under_way += usize::from(kind == Kind::Prompts);
    }

    /// A step of so many generated rows took so long.
    pub(super) fn measured(
        &mut self,
        kind: Kind,
        (n_generated, took): (usize, Duration),
        cost: Option<&RowCost>,
    ) {
        let took = took.as_secs_f64();
        match kind {
            Kind::Prompts => {
                self.n_under_way = self.n_under_way.saturating_sub(1);
                self.seconds += (took - cost.map_or(0.0, |cost| cost.of(n_generated))).max(0.0);
            }
            Kind::Streams => self.seconds -= PART * took,
            Kind::Free => self.seconds -= took,
        }
        self.seconds = self.seconds.clamp(0.0, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long streams take with prompts that never end, as a multiple of without, where steps with and without take so many milliseconds.
    fn slower(with: u64, without: u64) -> f64 {
        let mut cost = RowCost::default();
        (0..100).for_each(|_| cost.measured(1, Duration::from_millis(without)));
        let (mut prompts, mut sum, mut n_prompt) = (Prompts::default(), 0, 0);
        let n = 10_000;
        for _ in 0..n {
            let (kind, took) = match prompts.may_run() {
                true => (Kind::Prompts, with),
                false => (Kind::Streams, without),
            };
            prompts.submitted(kind);
            prompts.measured(kind, (1, Duration::from_millis(took)), Some(&cost));
            sum += took;
            n_prompt += u64::from(kind == Kind::Prompts);
        }
        // Nor do they wait for much longer than that.
        assert!(n_prompt * (with - without) * 10 > n * without * 2, "{n_prompt} steps with prompts");
        sum as f64 / (n * without) as f64
    }

    #[test]
    fn prompts_take_a_part_of_the_time_however_long_their_steps_are() {
        for (with, without) in [(100, 10), (200, 2), (3000, 200), (20, 10)] {
            let slower = slower(with, without);
            assert!((1.2..1.02 + PART).contains(&slower), "{with} and {without}: {slower}");
        }
    }

    #[test]
    fn steps_that_are_under_way_count_and_the_debt_is_bounded() {
        let mut prompts = Prompts::default();
        prompts.submitted(Kind::Prompts);
        assert!(!prompts.may_run());
        prompts.measured(Kind::Prompts, (1, Duration::from_secs(60)), None);
        assert!(!prompts.may_run());
        // Where there are no streams all of the time counts.
        prompts.measured(Kind::Free, (0, Duration::from_secs(5)), None);
        assert!(prompts.may_run());
    }
}
