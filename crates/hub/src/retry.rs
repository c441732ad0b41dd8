//! How often is it tried again, and how long is waited before?
//!
//! Waiting doubles from try to try. A server that names a time (`Retry-After`) is obeyed, up to a bound. Bytes that arrived make all
//! tries before them forgotten, but not without end: a server may hand out a file one byte at a time.

use std::time::Duration;

/// How long to wait for servers.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the next bytes come.
    pub read: Duration,
    /// Before the second try; twice as long before each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// Tries in a row that bring nothing.
    pub tries: u32,
    /// Tries in all, whatever they bring.
    pub tries_in_all: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(120),
            tries: 6,
            tries_in_all: 200,
        }
    }
}

/// The tries of one thing.
#[derive(Debug)]
pub(crate) struct Tries {
    patience: Patience,
    in_a_row: u32,
    in_all: u32,
}

impl Tries {
    pub(crate) fn new(patience: Patience) -> Tries {
        Tries { patience, in_a_row: 0, in_all: 0 }
    }

    /// A try failed, after it brought something or not. How long to wait before the next; `None` where it is enough.
    pub(crate) fn failed(&mut self, progressed: bool, retry_after: Option<Duration>) -> Option<Duration> {
        self.in_all += 1;
        self.in_a_row = if progressed { 1 } else { self.in_a_row + 1 };
        let Patience { first_wait, longest_wait, tries, tries_in_all, .. } = self.patience;
        if self.in_a_row >= tries || self.in_all >= tries_in_all {
            return None;
        }
        let doubled = first_wait.saturating_mul(1 << (self.in_a_row - 1).min(16)).min(longest_wait);
        match retry_after {
            Some(asked) if asked > longest_wait => None,
            asked => Some(asked.unwrap_or(doubled)),
        }
    }

    /// How often it was tried.
    pub(crate) fn n(&self) -> u32 {
        self.in_all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_and_ends() {
        let seconds = |tries: &mut Tries, progressed, asked: Option<u64>| {
            tries.failed(progressed, asked.map(Duration::from_secs)).map(|wait| wait.as_secs())
        };
        let patience = Patience { tries: 4, tries_in_all: 8, ..Patience::default() };
        let mut tries = Tries::new(patience);
        let waits =
            [false, false, true, false, false].map(|progressed| seconds(&mut tries, progressed, None));
        assert_eq!(waits, [Some(1), Some(2), Some(1), Some(2), Some(4)]);
        assert_eq!(seconds(&mut tries, false, None), None);
        assert_eq!((seconds(&mut tries, true, Some(9)), seconds(&mut tries, true, None)), (Some(9), None));
        assert_eq!((seconds(&mut Tries::new(patience), false, Some(121)), tries.n()), (None, 8));
    }
}
