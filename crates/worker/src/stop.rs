//! Where does an answer stop?
//!
//! A [`StopMatcher`] passes a stream of text on and looks for stop strings in it, wherever the stream is cut. The answer ends at
//! the first position where a stop string is complete; of several that end there the longest counts. Text that may be
//! the start of a stop string is held back until that is decided, so nothing of one is ever passed on.

/// Finds stop strings in a stream.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    /// None is empty.
    stops: Vec<String>,
    /// The longest end of the text that starts a stop string; shorter than the longest of them.
    held: String,
}

/// What a piece of text gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Text to pass on.
    pub text: String,
    /// The stop string that was found; what follows it is dropped and nothing may be pushed any more.
    pub stop: Option<String>,
}

impl StopMatcher {
    /// A matcher for these strings; an empty one would stop everything and is left out.
    #[must_use]
    pub fn new(stops: Vec<String>) -> StopMatcher {
        StopMatcher { stops: stops.into_iter().filter(|s| !s.is_empty()).collect(), held: String::new() }
    }

    /// The next piece of the stream.
    pub fn push(&mut self, text: &str) -> Passed {
        let mut seen = std::mem::take(&mut self.held);
        seen.push_str(text);
        let found = self
            .stops
            .iter()
            .filter_map(|stop| seen.find(stop).map(|start| (start + stop.len(), start, stop)))
            .min_by_key(|&(end, start, _)| (end, start));
        if let Some((_, start, stop)) = found {
            seen.truncate(start);
            return Passed { text: seen, stop: Some(stop.clone()) };
        }
        let n_held = self.stops.iter().map(|stop| n_started(&seen, stop)).max().unwrap_or(0);
        self.held = seen.split_off(seen.len() - n_held);
        Passed { text: seen, stop: None }
    }

    /// What was held back, at the end of the stream.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `seen` that are the start of `stop`, but not all of it.
fn n_started(seen: &str, stop: &str) -> usize {
    stop.char_indices().map(|(n, _)| n).rev().find(|&n| seen.ends_with(&stop[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: the shortest start of the text that ends with a stop string, less the longest such string.
    fn plainly(text: &str, stops: &[String]) -> (String, Option<String>) {
        for (i, c) in text.char_indices() {
            let seen = &text[..i + c.len_utf8()];
            if let Some(stop) = stops.iter().filter(|s| seen.ends_with(*s)).max_by_key(|s| s.len()) {
                return (seen[..seen.len() - stop.len()].to_owned(), Some(stop.clone()));
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #[test]
        fn the_cuts_of_a_stream_do_not_matter(
            pieces in proptest::collection::vec("[abé]{0,4}", 0..12),
            stops in proptest::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let whole = pieces.concat();
            let expected = plainly(&whole, &stops);
            let mut matcher = StopMatcher::new(stops.clone());
            let (mut text, mut stop, mut pushed) = (String::new(), None, String::new());
            for piece in &pieces {
                pushed.push_str(piece);
                let passed = matcher.push(piece);
                text.push_str(&passed.text);
                stop = passed.stop;
                if stop.is_some() {
                    break;
                }
                // Nothing is held back that can no longer become a stop string.
                let held = &pushed[text.len()..];
                prop_assert!(held.is_empty() || stops.iter().any(|s| s.starts_with(held)));
            }
            if stop.is_none() {
                text.push_str(&matcher.finish());
            }
            prop_assert_eq!((text, stop), expected);
        }
    }
}
