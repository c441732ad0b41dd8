//! How are a step's rows shared out?
//!
//! The schedule is plain data, {sequence: number of tokens}, from a pure function: there is no prefill phase and no decode
//! phase. Generated rows come first, one a sequence, because someone reads along; prompts share the rest, an eighth of the rows at least even when
//! many sequences generate. Clients share by weight, so that no client's prompts are held up by another's many. A client's own go one after the other,
//! the one with the fewest tokens left first: shared out evenly, equal prompts would all end with the last. An eighth of the client's rows is its
//! oldest prompt's, so that none waits for ever for shorter ones.

use std::collections::BTreeMap;

/// What a sequence could use in the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// The sequence; lower ids came first.
    pub(crate) id: u64,
    pub(crate) client: u64,
    pub(crate) weight: u32,
    /// Its kind of row.
    pub(crate) need: Need,
    /// The last step in which it got a row.
    pub(crate) served: u64,
}

/// The rows that a sequence could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// One row.
    Generated,
    /// The tokens of the prompt that are left, at least one.
    Prompt(usize),
}

/// Rows for a sequence, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The sequence.
    pub(crate) id: u64,
    /// How many of its next tokens.
    pub(crate) n_token: usize,
}

/// Shares `n_row` rows out, at most `max_prompt` of them to prompts: all of them, as long as there is demand. Where there are fewer rows than sequences, those longest
/// without a row go first.
pub(crate) fn schedule(demands: &[Demand], n_row: usize, max_prompt: usize) -> Vec<Grant> {
    let mut generated: Vec<&Demand> = demands.iter().filter(|d| d.need == Need::Generated).collect();
    let prompts: Vec<(&Demand, usize)> = demands
        .iter()
        .filter_map(|d| match d.need {
            Need::Prompt(left) => Some((d, left)),
            Need::Generated => None,
        })
        .collect();
    let wanted = prompts.iter().fold(0usize, |sum, &(_, left)| sum.saturating_add(left));
    let reserved = wanted.min((n_row / 8).max(1)).min(max_prompt);
    keep_longest_waiting(&mut generated, n_row.saturating_sub(reserved), |d| (d.served, d.id));
    let rows = (n_row - generated.len().min(n_row)).min(max_prompt);

    let mut grants: Vec<Grant> = generated.iter().map(|d| Grant { id: d.id, n_token: 1 }).collect();
    let mut clients: BTreeMap<u64, Vec<(&Demand, usize)>> = BTreeMap::new();
    for prompt in prompts {
        clients.entry(prompt.0.client).or_default().push(prompt);
    }
    let mut clients: Vec<Vec<(&Demand, usize)>> = clients.into_values().collect();
    keep_longest_waiting(&mut clients, rows, |prompts| {
        let served = prompts.iter().map(|(d, _)| d.served).max().unwrap_or_default();
        (served, prompts.iter().map(|(d, _)| d.id).min().unwrap_or_default())
    });
    let needs = clients.iter().map(|prompts| {
        let need = prompts.iter().fold(0usize, |sum, &(_, left)| sum.saturating_add(left));
        (need, prompts.iter().map(|(d, _)| d.weight.max(1)).max().unwrap_or(1))
    });
    let needs: Vec<(usize, u32)> = needs.collect();
    for (prompts, rows) in clients.into_iter().zip(share(&needs, rows)) {
        grants.extend(shortest_first(prompts, rows));
    }
    grants
}

/// A client's rows for its prompts: an eighth, one at least, to the oldest, the others to the one with the fewest tokens left, the older of equal
/// ones, and so on.
fn shortest_first(mut prompts: Vec<(&Demand, usize)>, mut rows: usize) -> Vec<Grant> {
    prompts.sort_by_key(|&(d, left)| (left, d.id));
    let oldest = prompts.iter().map(|(d, _)| d.id).min();
    let kept = |&(d, left): &(&Demand, usize), rows: usize| match Some(d.id) == oldest {
        true => left.min((rows / 8).max(1)).min(rows),
        false => 0,
    };
    let kept: Vec<usize> = prompts.iter().map(|prompt| kept(prompt, rows)).collect();
    rows -= kept.iter().sum::<usize>();
    let grants = prompts.iter().zip(kept).map(|(&(d, left), kept)| {
        let more = (left - kept).min(rows);
        rows -= more;
        Grant { id: d.id, n_token: kept + more }
    });
    grants.filter(|grant| grant.n_token > 0).collect()
}

/// Shares rows among needs by their weights: from the smallest need for its weight up, each gets its part of what is left, or less if it needs
/// less.
fn share(needs: &[(usize, u32)], mut rows: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    let per_weight = |&i: &usize, other: &usize| needs[i].0 as u128 * u128::from(needs[*other].1);
    order.sort_by(|a, b| per_weight(a, b).cmp(&per_weight(b, a)).then(a.cmp(b)));
    let mut weights: u128 = needs.iter().map(|&(_, weight)| u128::from(weight)).sum();
    let mut shares = vec![0; needs.len()];
    for (n_done, i) in order.into_iter().enumerate() {
        let (need, weight) = (needs[i].0, u128::from(needs[i].1));
        let part = (rows as u128 * weight).checked_div(weights).unwrap_or_default();
        // Each has a row at least, as long as there are any.
        let n_after = needs.len() - n_done - 1;
        let part = usize::try_from(part).unwrap_or(rows).clamp(1, rows.saturating_sub(n_after).max(1));
        shares[i] = need.min(part).min(rows);
        rows -= shares[i];
        weights -= weight;
    }
    shares
}

/// Keeps the first n by when they had a row last, and the older of those where that is the same.
fn keep_longest_waiting<T>(list: &mut Vec<T>, n: usize, served: impl Fn(&T) -> (u64, u64)) {
    if list.len() > n {
        list.sort_by_key(served);
        list.truncate(n);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(demands: &[(u64, Need, u64)], (n_row, max_prompt): (usize, usize), expected: &Expect) {
        let demands: Vec<Demand> = demands
            .iter()
            .map(|&(id, need, served)| Demand { id, client: id / 10, weight: 1, need, served })
            .collect();
        let grants = schedule(&demands, n_row, max_prompt);
        expected.assert_eq(
            &grants.iter().map(|g| format!("{}:{}", g.id, g.n_token)).collect::<Vec<_>>().join(" "),
        );
    }

    #[test]
    fn rows_are_shared_out() {
        use Need::{Generated as G, Prompt as P};
        check(&[], (8, 8), &expect![""]);
        // Generated rows first; a short prompt is not held up by a long one.
        check(&[(1, P(1000), 0), (2, G, 0), (3, P(5), 0), (4, G, 0)], (32, 32), &expect!["2:1 4:1 3:5 1:25"]);
        // The first of equal ones first.
        check(&[(1, P(100), 0), (2, P(100), 0), (3, P(100), 0)], (32, 32), &expect!["1:32"]);
        check(&[(1, P(20), 0), (2, P(20), 0), (3, P(20), 0)], (32, 32), &expect!["1:20 2:12"]);
        // An eighth for the oldest, however short the others are, and no more than it needs.
        check(&[(1, P(1000), 0), (2, P(40), 0), (3, P(50), 0)], (32, 32), &expect!["2:28 1:4"]);
        check(&[(1, P(1000), 0), (2, P(10), 0), (3, P(10), 0)], (32, 32), &expect!["2:10 3:10 1:12"]);
        // No more to prompts than a step should have of them.
        check(&[(1, P(100), 0), (2, G, 0), (3, P(3), 0), (4, G, 0)], (32, 8), &expect!["2:1 4:1 3:3 1:5"]);
        // More sequences than rows: those longest without one.
        check(&[(1, G, 9), (2, G, 7), (3, G, 8), (4, G, 9)], (2, 2), &expect!["2:1 3:1"]);
        // Prompts are not starved by generated rows, nor the other way round.
        check(&[(1, G, 1), (2, G, 1), (3, P(9), 5), (4, P(2), 0)], (2, 2), &expect!["1:1 3:1"]);
        check(&[(1, G, 1), (2, P(9), 0)], (1, 1), &expect!["2:1"]);
        // A client has half however many prompts another has, and what it does not need is the other's.
        check(
            &[(1, P(99), 0), (2, P(99), 0), (3, P(99), 0), (11, P(99), 0)],
            (24, 24),
            &expect!["1:12 11:12"],
        );
        check(&[(1, P(99), 0), (2, P(99), 0), (11, P(4), 0)], (24, 24), &expect!["1:20 11:4"]);
        // More clients than rows: those longest without one.
        check(&[(1, P(9), 0), (2, P(9), 6), (11, P(9), 5), (21, P(9), 4)], (2, 2), &expect!["21:1 11:1"]);
    }

    #[test]
    fn nobody_waits_for_ever_for_shorter_prompts() {
        // A short prompt of the same client comes with every step and takes all that it may.
        let mut left = 1000;
        let mut n_step = 0;
        while left > 0 {
            n_step += 1;
            let demand = |id, left| Demand { id, client: 0, weight: 1, need: Need::Prompt(left), served: 0 };
            for grant in schedule(&[demand(1, left), demand(1 + n_step, 32)], 32, 32) {
                left -= if grant.id == 1 { grant.n_token } else { 0 };
            }
        }
        assert_eq!(n_step, 243);
    }

    #[test]
    fn parts_follow_weights_and_nothing_is_left_over() {
        assert_eq!(share(&[(99, 3), (99, 1)], 24), [18, 6]);
        assert_eq!(share(&[(2, 3), (99, 1)], 24), [2, 22]);
        assert_eq!(share(&[(99, 1000), (99, 1), (99, 1)], 3), [1, 1, 1]);
        assert_eq!(share(&[(5, 1), (5, 1)], 24), [5, 5]);
        assert_eq!(share(&[(5, 1), (5, 1)], 0), [0, 0]);
    }
}
