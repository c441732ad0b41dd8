//! How are numbers read that flags take?

use std::num::NonZeroUsize;
use std::str::FromStr;

/// The most threads: more than any machine has processors. Each takes memory of its own.
const MAX_THREADS: usize = 4096;

/// The most tokens of an answer that ends where the context does.
pub(crate) const NO_LIMIT: usize = usize::MAX;

/// Reads a count for a flag.
pub(crate) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a whole number of at least 1".to_owned())
}

/// Reads the most tokens of an answer. As in the API, -1 is no limit but the context's.
pub(crate) fn most_tokens(text: &str) -> Result<usize, String> {
    if text == "-1" {
        return Ok(NO_LIMIT);
    }
    text.parse().map_err(|_| "expected a whole number, or -1 for what the context holds".to_owned())
}

/// Reads how many of the likeliest tokens are kept. As in the API, -1 keeps all, as 0 does.
pub(crate) fn top_k(text: &str) -> Result<u32, String> {
    if text == "-1" {
        return Ok(0);
    }
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}, or -1 to keep all", u32::MAX))
}

/// A seed as it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(
    /// None where it is to be drawn.
    pub(crate) Option<u64>,
);

impl FromStr for Seed {
    type Err = String;

    /// As in the API, -1 draws one, and any other negative number is the one with the same bits.
    fn from_str(text: &str) -> Result<Seed, String> {
        if text == "-1" {
            return Ok(Seed(None));
        }
        let seed = text.parse().ok().or_else(|| text.parse().ok().map(i64::cast_unsigned));
        let expected = || format!("expected a whole number from {} to {}; -1 draws one", i64::MIN, u64::MAX);
        seed.map(|seed| Seed(Some(seed))).ok_or_else(expected)
    }
}

/// Reads a number of threads for a flag.
pub(crate) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    at_least_one(text)
        .ok()
        .filter(|n| n.get() <= MAX_THREADS)
        .ok_or_else(|| format!("expected a whole number from 1 to {MAX_THREADS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_means_what_it_means_in_the_api() {
        assert_eq!((most_tokens("-1"), top_k("-1"), "-1".parse()), (Ok(usize::MAX), Ok(0), Ok(Seed(None))));
        assert_eq!((most_tokens("7"), top_k("7"), "7".parse()), (Ok(7), Ok(7), Ok(Seed(Some(7)))));
        for (text, seed) in
            [("-2", u64::MAX - 1), ("-9223372036854775808", 1 << 63), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(text.parse(), Ok(Seed(Some(seed))), "{text}");
        }
        for text in ["", "x", "-", "1.5", "--1"] {
            assert!(
                most_tokens(text).is_err() && top_k(text).is_err() && text.parse::<Seed>().is_err(),
                "{text}"
            );
        }
        assert!(most_tokens("-2").is_err() && top_k("-2").is_err() && top_k("4294967296").is_err());
        assert!(
            "-9223372036854775809".parse::<Seed>().is_err()
                && "18446744073709551616".parse::<Seed>().is_err()
        );
    }
}
