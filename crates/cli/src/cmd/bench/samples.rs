//! What do repeated measurements say? The median, and how far the others lie from it.
//!
//! The median and not the mean: on a shared machine a repetition is slowed by others now and then, and never sped up. Rates are in
//! tokens per second.

use serde::Serialize;

/// Rates in tokens per second, one a repetition.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Samples {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The slowest.
    pub(crate) min: f64,
    /// The fastest.
    pub(crate) max: f64,
    /// All, in the order they were taken.
    pub(crate) samples: Vec<f64>,
}

impl Samples {
    /// `None` of no rates.
    pub(crate) fn of(samples: &[f64]) -> Option<Samples> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        };
        Some(Samples { median, min, max, samples: samples.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        let odd = Samples::of(&[9.0, 1.0, 5.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 5.0, 9.0));
        assert_eq!(Samples::of(&[4.0, 1.0, 2.0, 100.0]).unwrap().median, 3.0);
        assert!(Samples::of(&[]).is_none());
    }
}
