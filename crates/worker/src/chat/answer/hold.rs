//! Holds white space and the start of a marker, until it is the marker or something else.

/// Looks for any of some markers, with white space before it. The first characters of all of them are nowhere else in any.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    markers: &'static [&'static str],
    held: String,
}

/// What a character gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Still undecided.
    Yes,
    /// The marker, with the white space before it.
    Marker(String),
    /// This text is no marker; more may be held.
    No(String),
}

impl Hold {
    pub(super) fn new(markers: &'static [&'static str]) -> Hold {
        Hold { markers, held: String::new() }
    }

    pub(super) fn push(&mut self, c: char) -> Held {
        self.held.push(c);
        if self.may_be_marker() {
            if self.markers.contains(&self.held.trim_start()) {
                return Held::Marker(std::mem::take(&mut self.held));
            }
            return Held::Yes;
        }
        // Only at this character could another marker start.
        let kept = self.held.split_off(self.held.len() - c.len_utf8());
        let mut text = std::mem::replace(&mut self.held, kept);
        if !self.may_be_marker() {
            text.push_str(&std::mem::take(&mut self.held));
        }
        if text.is_empty() { Held::Yes } else { Held::No(text) }
    }

    fn may_be_marker(&self) -> bool {
        let held = self.held.trim_start();
        self.markers.iter().any(|marker| marker.starts_with(held))
    }

    /// What is held.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}
