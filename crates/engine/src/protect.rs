//! Whose streams are not slowed down by whom?
//!
//! A step takes as long as all of its rows together, so a client with many requests slows everybody's streams down, and each prompt that starts
//! holds them up for a step: on a CPU, where a row has its price and a few rows of a prompt cost as much as many. Fair slots do not help against that. So
//! while a client asks for more than its share of the slots, by weight, and another that does not is generating,
//!
//! - the first one's generated rows are so few that the step takes at most [`SLOWER`] times as long as without them, but one at least, in
//!   turn;
//! - its prompts are computed in at most one step of [`PATIENCE`], or beside prompts of those that are within their share;
//! - its masks are waited for by no step, and computed by threads that yield more.
//!
//! What a row computes does not depend on when, so no byte changes. Where all clients are within their shares, or one is alone, nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::scheduler::{Demand, Need};
use crate::speculate::RowCost;

/// What others may add to a step. Well below the 1.5 that is wanted of 99 in 100 tokens: what rows cost is an estimate, and steps are not all
/// that a flood costs.
const SLOWER: f64 = 1.25;

/// Steps from one with prompts of a client that asks for too much to the next: few enough that, of the one in a hundred tokens that may take
/// longer, half are left to what else goes on.
const PATIENCE: usize = 192;

/// Who waits for whom, from step to step.
#[derive(Debug)]
pub(crate) struct Protect {
    /// Steps with protected streams since others' prompts were computed, up to [`PATIENCE`].
    n_since: usize,
    /// The clients that ask for more than their share.
    over: BTreeSet<u64>,
    /// Whether somebody is protected in this step.
    is_on: bool,
}

impl Default for Protect {
    fn default() -> Self {
        Protect { n_since: PATIENCE, over: BTreeSet::new(), is_on: false }
    }
}

impl Protect {
    /// Takes out of a step's demands what would slow others down too much. `asked` has each client's unfinished requests and weight, and `cost`
    /// says what a step's generated rows take.
    pub(crate) fn filter(
        &mut self,
        demands: &mut Vec<Demand>,
        (asked, n_slot): (&BTreeMap<u64, (usize, u32)>, usize),
        cost: Option<&RowCost>,
    ) {
        self.over = over(asked, n_slot);
        let is_within = |demand: &&Demand| !self.over.contains(&demand.client);
        let n_protected = demands.iter().filter(is_within).filter(|d| d.need == Need::Generated).count();
        self.is_on = n_protected > 0 && !self.over.is_empty();
        if !self.is_on {
            return;
        }
        let has_prompt = demands.iter().filter(is_within).any(|d| d.need != Need::Generated);
        let may_prompt = has_prompt || self.n_since >= PATIENCE;
        let prompts = |demand: &&Demand| !is_within(demand) && demand.need != Need::Generated;
        self.n_since = match may_prompt && demands.iter().any(|demand| prompts(&demand)) {
            true => 0,
            false => (self.n_since + 1).min(PATIENCE),
        };
        let mut others: Vec<(u64, u64)> = demands
            .iter()
            .filter(|demand| !is_within(demand) && demand.need == Need::Generated)
            .map(|demand| (demand.served, demand.id))
            .collect();
        others.sort_unstable();
        others.truncate(n_beside(n_protected, cost));
        demands.retain(|demand| match demand.need {
            _ if !self.over.contains(&demand.client) => true,
            Need::Generated => others.contains(&(demand.served, demand.id)),
            Need::Prompt(_) => may_prompt,
        });
    }

    /// Whether what is done for a client would slow others down.
    pub(crate) fn yields(&self, client: u64) -> bool {
        self.is_on && self.over.contains(&client)
    }
}

/// The clients with more unfinished requests than their share of the slots.
fn over(asked: &BTreeMap<u64, (usize, u32)>, n_slot: usize) -> BTreeSet<u64> {
    let all: u128 = asked.values().map(|&(_, weight)| u128::from(weight.max(1))).sum();
    let is_over =
        |&(n, weight): &(usize, u32)| n > 1 && n as u128 * all > n_slot as u128 * u128::from(weight.max(1));
    asked.iter().filter(|(_, asked)| is_over(asked)).map(|(&client, _)| client).collect()
}

/// How many rows of others a step may have beside so many.
fn n_beside(n_protected: usize, cost: Option<&RowCost>) -> usize {
    let Some(cost) = cost else { return 1 };
    let room = (SLOWER - 1.0) * cost.of(n_protected);
    // A quotient past the largest becomes that.
    ((room / cost.of_row().max(1e-9)) as usize).max(1)
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
        check(&mut Protect::default(), &many, &[(0, 1), (1, 9)], &expect!["1 15"]);
        // Within its share, or alone, or beside another that asks for too much, nobody is held up.
        check(&mut Protect::default(), &many, &[(0, 1), (1, 4)], &expect!["1 11 12 13 14 15"]);
        check(&mut Protect::default(), &many[1..], &[(1, 300)], &expect!["11 12 13 14 15"]);
        check(&mut Protect::default(), &many, &[(0, 9), (1, 9)], &expect!["1 11 12 13 14 15"]);
    }

    #[test]
    fn its_prompts_wait_but_not_for_ever() {
        let (stream, prompts) = ((1, G), [(11, P(9)), (12, P(9))]);
        let asked = [(0, 1), (1, 9)];
        let mut protect = Protect::default();
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
    fn one_row_at_least_and_all_where_rows_cost_nothing() {
        assert_eq!([1, 4].map(|n| n_beside(n, None)), [1, 1]);
        assert_eq!(n_beside(1, Some(&cost(0, 20))), 1);
        assert!(n_beside(1, Some(&cost(20, 0))) > 100);
    }
}
