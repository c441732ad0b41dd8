//! Whose streams are not slowed down by whom?
//!
//! A step takes as long as all of its rows together, so a client with many requests slows everybody's streams down, and each prompt that starts
//! holds them up for a step: on a CPU, where a row has its price and a few rows of a prompt cost as much as many. Fair slots do not help against that. So
//! while a client asks for more than its share of the slots, by weight, and another that does not is generating,
//!
//! - the first one's generated rows are so few that the step takes at most [`SLOWER`] times as long as without them, in turn; where one alone
//!   costs much, as on a CPU, it is in so few steps that they last [`DEAR`] times as long on the whole;
//! - its prompts are computed in at most one step of [`PATIENCE`], or beside prompts of those that are within their share;
//! - its masks are waited for by no step, and computed by threads that yield more.
//!
//! Where prompts take long, those of a client within its share do not hold another's streams up much either ([`prompts`]).
//!
//! What a row computes does not depend on when, so no byte changes. Where one client is alone, or none asks for too much and prompts are quick,
//! nothing changes.

mod prompts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) use self::prompts::Kind;
use self::prompts::Prompts;
use crate::scheduler::{Demand, Need};
use crate::speculate::RowCost;

/// What others may add to a step. Well below the 1.5 that is wanted of 99 in 100 tokens: what rows cost is an estimate, and steps are not all
/// that a flood costs.
const SLOWER: f64 = 1.25;

/// The most that a dear row owes: as much as its step. One in so many steps has one, whatever was measured.
const MOST_OWED: f64 = 1.0;

/// What rows of others may add where one of them is dear, on the mean of the steps: there the cores have other work besides, and what a step
/// lasts varies most.
const DEAR: f64 = 1.05;

/// So many steps in a row more rows must be cheap before there are more: twice as many as before. Where a row costs much, and steps are held up by
/// other work as well, what it costs is often told wrong for some steps; about as many are what it is told from.
const SURE: usize = 48;

/// Steps from one with prompts of a client that asks for too much to the next: few enough that, of the one in a hundred tokens that may take
/// longer, three quarters are left to what else goes on.
const PATIENCE: usize = 384;

/// Who waits for whom, from step to step.
#[derive(Debug)]
pub(crate) struct Protect {
    /// Steps with protected streams since others' prompts were computed, up to [`PATIENCE`].
    n_since: usize,
    /// The clients that ask for more than their share.
    over: BTreeSet<u64>,
    /// Whether somebody is protected in this step.
    is_on: bool,
    beside: Beside,
    /// Where prompts take long: what they owe to streams.
    prompts: Option<Prompts>,
}

impl Protect {
    /// Whether prompts take long, so that those of any client hold up another's streams.
    pub(crate) fn new(are_prompts_slow: bool) -> Protect {
        let prompts = are_prompts_slow.then(Prompts::default);
        Protect { n_since: PATIENCE, over: BTreeSet::new(), is_on: false, beside: Beside::default(), prompts }
    }

    /// Takes out of a step's demands what would slow others down too much. `asked` has each client's unfinished requests and weight, and `cost`
    /// says what a step's generated rows take.
    pub(crate) fn filter(
        &mut self,
        demands: &mut Vec<Demand>,
        (asked, n_slot): (&BTreeMap<u64, (usize, u32)>, usize),
        cost: Option<&RowCost>,
    ) -> Kind {
        self.over = over(asked, n_slot);
        let is_within = |demand: &&Demand| !self.over.contains(&demand.client);
        let streams = || demands.iter().filter(is_within).filter(|d| d.need == Need::Generated);
        let n_protected = streams().count();
        let clients: BTreeSet<u64> = streams().map(|demand| demand.client).collect();
        self.is_on = n_protected > 0 && !self.over.is_empty();
        if n_protected == 0 {
            return Kind::Free;
        }
        // Whether it is a prompt that holds another's stream up.
        let is_beside = |demand: &Demand| {
            demand.need != Need::Generated && clients.iter().any(|&client| client != demand.client)
        };
        let has = |is_within: bool, is_beside_any: bool| {
            let of_kind = |d: &&Demand| is_within != self.over.contains(&d.client);
            let is_prompt = |d: &&Demand| d.need != Need::Generated && is_beside(d) == is_beside_any;
            demands.iter().filter(of_kind).any(|demand| is_prompt(&demand))
        };
        let (has_own, has_others, has_over) = (has(true, false), has(true, true), has(false, true));
        let mut may_others = has_own || self.prompts.as_ref().is_none_or(Prompts::may_run);
        let may_over = has_own || has_others && may_others || self.n_since >= PATIENCE;
        // A step with prompts of those that ask for too much may have anybody's.
        may_others |= has_over && may_over;
        if self.is_on {
            self.n_since = if may_over && has_over { 0 } else { (self.n_since + 1).min(PATIENCE) };
        }
        let mut rows: Vec<(u64, u64)> = demands
            .iter()
            .filter(|demand| !is_within(demand) && demand.need == Need::Generated)
            .map(|demand| (demand.served, demand.id))
            .collect();
        rows.sort_unstable();
        rows.truncate(self.beside.next(n_protected, cost));
        let may_run = |demand: &Demand| match (is_within(&demand), demand.need) {
            (true, Need::Prompt(_)) => may_others || !is_beside(demand),
            (true, Need::Generated) => true,
            (false, Need::Prompt(_)) => may_over,
            (false, Need::Generated) => rows.contains(&(demand.served, demand.id)),
        };
        let may_run: Vec<bool> = demands.iter().map(may_run).collect();
        let mut may_run = may_run.into_iter();
        demands.retain(|_| may_run.next().unwrap_or(true));
        match has_own {
            true => Kind::Free,
            false if has_others && may_others || has_over && may_over => Kind::Prompts,
            false => Kind::Streams,
        }
    }

    /// Such a step is under way.
    pub(crate) fn submitted(&mut self, kind: Kind) {
        self.prompts.iter_mut().for_each(|prompts| prompts.submitted(kind));
    }

    /// A step of so many generated rows took so long.
    pub(crate) fn measured(&mut self, kind: Kind, step: (usize, Duration), cost: Option<&RowCost>) {
        self.prompts.iter_mut().for_each(|prompts| prompts.measured(kind, step, cost));
    }

    /// Whether what is done for a client would slow others down.
    pub(crate) fn yields(&self, client: u64) -> bool {
        self.is_on && self.over.contains(&client)
    }
}

/// How many rows of clients that ask for too much are computed beside others'.
#[derive(Debug)]
struct Beside {
    /// The most rows that a step may have before more of them were cheap for [`SURE`] steps, and for how many they were.
    most: usize,
    n_cheap: usize,
    /// What dear rows added to their steps, as a part of one, less what all steps have paid back.
    owed: f64,
}

impl Default for Beside {
    fn default() -> Beside {
        Beside { most: 1, n_cheap: 0, owed: 0.0 }
    }
}

impl Beside {
    /// As many as are cheap, but for what was not for long.
    fn sure(&mut self, n: usize) -> usize {
        if n <= self.most {
            (self.most, self.n_cheap) = (n.max(1), 0);
            return n;
        }
        self.n_cheap += 1;
        if self.n_cheap == SURE {
            (self.most, self.n_cheap) = (self.most.saturating_mul(2), 0);
        }
        self.most
    }

    /// How many rows of others the next step may have beside so many.
    fn next(&mut self, n_protected: usize, cost: Option<&RowCost>) -> usize {
        let Some(cost) = cost else { return 1 };
        let part = cost.of_row() / cost.of(n_protected).max(1e-9);
        // A quotient past the largest becomes that.
        let n = self.sure(((SLOWER - 1.0) / part.max(1e-9)) as usize);
        if n > 1 {
            return n;
        }
        if self.owed > 0.0 {
            self.owed -= DEAR - 1.0;
            return 0;
        }
        // The step that has the row pays as well. However much it costs, its turn comes.
        self.owed += part.min(MOST_OWED) - (DEAR - 1.0);
        1
    }
}

/// The clients with more unfinished requests than their share of the slots.
fn over(asked: &BTreeMap<u64, (usize, u32)>, n_slot: usize) -> BTreeSet<u64> {
    let all: u128 = asked.values().map(|&(_, weight)| u128::from(weight.max(1))).sum();
    let is_over =
        |&(n, weight): &(usize, u32)| n > 1 && n as u128 * all > n_slot as u128 * u128::from(weight.max(1));
    asked.iter().filter(|(_, asked)| is_over(asked)).map(|(&client, _)| client).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use Need::{Generated as G, Prompt as P};
    use expect_test::{Expect, expect};

    use super::*;

    /// A step's milliseconds, and those of each row.
    fn cost(step: u64, row: u64) -> RowCost {
        let mut cost = RowCost::default();
        (0..200)
            .for_each(|i| cost.measured(1 + i % 8, Duration::from_millis(step + row * (1 + i as u64 % 8))));
        cost
    }

    /// Sequences of the tens' client that are left of some, where each client asks for so many requests on 8 slots.
    fn check(protect: &mut Protect, demands: &[(u64, Need)], asked: &[(u64, usize)], expected: &Expect) {
        let mut demands: Vec<Demand> = demands
            .iter()
            .map(|&(id, need)| Demand { id, client: id / 10, weight: 1, need, served: 100 - id })
            .collect();
        let asked = asked.iter().map(|&(client, n)| (client, (n, 1))).collect();
        protect.filter(&mut demands, (&asked, 8), Some(&cost(25, 5)));
        let left: Vec<String> = demands.iter().map(|demand| demand.id.to_string()).collect();
        expected.assert_eq(&left.join(" "));
    }

    #[test]
    fn who_asks_for_too_much_has_few_rows_beside_a_stream() {
        let many = [(1, G), (11, G), (12, G), (13, G), (14, G), (15, G)];
        // A step of one row takes 30 ms, of two 35: the one longest without a row.
        check(&mut Protect::new(false), &many, &[(0, 1), (1, 9)], &expect!["1 15"]);
        // Within its share, or alone, or beside another that asks for too much, nobody is held up.
        check(&mut Protect::new(false), &many, &[(0, 1), (1, 4)], &expect!["1 11 12 13 14 15"]);
        check(&mut Protect::new(false), &many[1..], &[(1, 300)], &expect!["11 12 13 14 15"]);
        check(&mut Protect::new(false), &many, &[(0, 9), (1, 9)], &expect!["1 11 12 13 14 15"]);
    }

    #[test]
    fn its_prompts_wait_but_not_for_ever() {
        let (stream, prompts) = ((1, G), [(11, P(9)), (12, P(9))]);
        let asked = [(0, 1), (1, 9)];
        let mut protect = Protect::new(false);
        let all = [stream, prompts[0], prompts[1]];
        check(&mut protect, &all, &asked, &expect!["1 11 12"]);
        for _ in 0..PATIENCE {
            check(&mut protect, &all, &asked, &expect!["1"]);
        }
        check(&mut protect, &all, &asked, &expect!["1 11 12"]);
        check(&mut protect, &all, &asked, &expect!["1"]);
        // Beside another's prompt they cost little, and nobody's stream waits where there is none.
        check(&mut protect, &[all[0], all[1], (2, P(9))], &asked, &expect!["1 11 2"]);
        check(&mut protect, &[(2, P(9)), all[1]], &asked, &expect!["2 11"]);
        check(&mut protect, &all, &asked, &expect!["1"]);
    }

    #[test]
    fn where_prompts_take_long_those_within_their_share_wait_for_streams_as_well() {
        let asked = [(0, 2), (1, 2)];
        let mut protect = Protect::new(true);
        let took = |protect: &mut Protect, kind, milliseconds| {
            protect.submitted(kind);
            protect.measured(kind, (1, Duration::from_millis(milliseconds)), Some(&cost(25, 5)));
        };
        let both = [(1, G), (11, P(9))];
        check(&mut protect, &both, &asked, &expect!["1 11"]);
        // 90 ms more than the stream's row alone, of which each step without prompts pays back 12.
        took(&mut protect, Kind::Prompts, 120);
        for _ in 0..8 {
            check(&mut protect, &both, &asked, &expect!["1"]);
            took(&mut protect, Kind::Streams, 30);
        }
        check(&mut protect, &both, &asked, &expect!["1 11"]);
        took(&mut protect, Kind::Prompts, 120);
        // Its client's own prompt holds a stream up as it likes, and then others' may come along; without a stream there is nothing to wait for.
        check(&mut protect, &[(1, G), (2, P(9)), (11, P(9))], &asked, &expect!["1 2 11"]);
        check(&mut protect, &[(2, P(9)), (11, P(9))], &asked, &expect!["2 11"]);
        // Each waits for the other's stream, and a client that asks for too much is no stream to wait for.
        check(&mut protect, &[(1, G), (2, P(9)), (11, G), (12, P(9))], &asked, &expect!["1 11"]);
        check(&mut protect, &[(1, P(9)), (11, G)], &[(0, 1), (1, 9)], &expect!["1 11"]);
        // When the turn of one that asks for too much has come, nobody else waits.
        protect.n_since = PATIENCE;
        check(
            &mut protect,
            &[(1, G), (11, P(9)), (21, P(9))],
            &[(0, 1), (1, 1), (2, 9)],
            &expect!["1 11 21"],
        );
        check(&mut protect, &[(1, G), (11, P(9)), (21, P(9))], &[(0, 1), (1, 1), (2, 9)], &expect!["1"]);
    }

    #[test]
    fn a_share_of_the_slots_is_by_weight_and_one_request_at_least() {
        let over_of = |asked: &[(usize, u32)], n_slot| {
            let asked = (0..).zip(asked.iter().copied()).collect();
            over(&asked, n_slot).into_iter().collect::<Vec<u64>>()
        };
        assert_eq!(over_of(&[(4, 1), (5, 1)], 8), [1]);
        assert_eq!(over_of(&[(3, 1), (6, 3)], 8), [0]);
        assert_eq!(over_of(&[(1, 1); 20], 8), [0u64; 0]);
        assert_eq!(over_of(&[(1, 1000), (1, 1)], 1), [0u64; 0]);
    }

    #[test]
    fn a_dear_row_is_in_few_steps_and_all_are_where_rows_cost_nothing() {
        let n_beside = |n: usize, cost: Option<&RowCost>, n_step: usize| {
            let mut beside = Beside::default();
            (0..n_step).map(|_| beside.next(n, cost)).sum::<usize>()
        };
        assert_eq!([1, 4].map(|n| n_beside(n, None, 1)), [1, 1]);
        // One, two, four and so on, each for some steps.
        assert_eq!(n_beside(1, Some(&cost(20, 0)), 3 * SURE), SURE - 1 + 2 * SURE + 4 * SURE + 8);
        // A sixth of the step, a quarter, and as much as the step.
        assert_eq!(n_beside(1, Some(&cost(25, 5)), 50), 15);
        assert_eq!(n_beside(4, Some(&cost(0, 20)), 50), 10);
        assert_eq!(n_beside(1, Some(&cost(0, 20)), 50), 3);
    }

    #[test]
    fn a_dear_row_that_seems_cheap_for_a_while_stays_in_few_steps() {
        // A step of 4.2 ms and a sixth more for each row beside the first; one in eight is held up, for up to 5 ms.
        let (mut beside, mut cost, mut random) = (Beside::default(), RowCost::default(), 1u32);
        let mut counts = [0; 3];
        for _ in 0..20_000 {
            let n = beside.next(1, cost.is_known().then_some(&cost)).min(7);
            counts[n.min(2)] += 1;
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let held_up = if random >> 29 == 0 { u64::from(random >> 16) % 5000 } else { 0 };
            cost.measured(1 + n, Duration::from_micros(4200 + 700 * n as u64 + held_up));
        }
        let [_, one, more] = counts;
        assert!(one > 3000, "{counts:?}");
        assert!(more < 400, "{counts:?}");
    }
}
