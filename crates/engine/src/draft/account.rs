//! How much time may a draft model take?
//!
//! Its time is bounded by what it gave: tokens that it saved are credit, its steps and the rows of its guesses are spent. What is known of costs and
//! chances decides whether a step of it is likely to pay; where that is wrong, the credit is what can be lost. Where it does not pay, a hundredth of the time goes into
//! trying, so that it is noticed when that changes.

/// Credit at the beginning and at most, in steps of the model itself.
const FIRST_STEPS: f64 = 32.0;
const MOST_STEPS: f64 = 64.0;

/// The part of the time that goes into trying.
const TRIAL_PART: f64 = 0.01;

/// Seconds that may be spent.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// None until a step of the model was measured.
    credit: Option<f64>,
    /// Seconds of the model's steps since the draft model was last tried.
    since_trial: f64,
}

impl Account {
    /// A step of the model took so long; one of a single row takes `of_one`.
    pub(super) fn passed(&mut self, seconds: f64, of_one: f64) {
        self.since_trial += seconds;
        let credit = self.credit.get_or_insert(FIRST_STEPS * of_one);
        *credit = (*credit + TRIAL_PART * seconds).min(MOST_STEPS * of_one);
    }

    /// The draft model took so long.
    pub(super) fn spent(&mut self, seconds: f64) {
        self.since_trial = 0.0;
        self.credit = self.credit.map(|credit| credit - seconds);
    }

    /// Guesses of it saved so many seconds, less what their rows took.
    pub(super) fn saved(&mut self, seconds: f64) {
        self.credit = self.credit.map(|credit| credit + seconds);
    }

    /// Whether so many seconds may be spent on what is likely to pay, or is not.
    pub(super) fn allows(&self, seconds: f64, pays: bool) -> bool {
        let Some(credit) = self.credit else { return false };
        credit > seconds && (pays || TRIAL_PART * self.since_trial >= seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_pays_takes_little_more_than_a_hundredth() {
        let (mut account, mut spent) = (Account::default(), 0.0);
        assert!(!account.allows(0.0, true));
        // Ten thousand steps of 10 ms, and a draft of 4 ms whenever it is allowed: it is always thought to pay.
        for _ in 0..10_000 {
            account.passed(0.01, 0.01);
            if account.allows(0.004, true) {
                account.spent(0.004);
                spent += 0.004;
            }
        }
        assert!((1.25..1.40).contains(&spent), "{spent}");
    }

    #[test]
    fn what_does_not_pay_is_tried_now_and_then() {
        let mut account = Account::default();
        let mut n = 0;
        for _ in 0..1000 {
            account.passed(0.01, 0.01);
            if account.allows(0.005, false) {
                account.spent(0.005);
                n += 1;
            }
        }
        assert_eq!(n, 20);
    }

    #[test]
    fn what_pays_is_bounded_by_nothing_but_what_it_gives() {
        let mut account = Account::default();
        for _ in 0..10_000 {
            account.passed(0.012, 0.01);
            assert!(account.allows(0.004, true));
            account.spent(0.004);
            account.saved(0.008);
        }
        // And then at most what was put by.
        let mut n = 0;
        while account.allows(0.004, true) {
            account.spent(0.004);
            n += 1;
        }
        assert!((100..=165).contains(&n), "{n}");
    }
}
