//! Any text as a key file: keys, or a typed error.

use server::Keys;

pub(crate) const WORDS: &[&str] = &[":", "\n", "\r\n", "#", "me:", " ", "admin", "metrics"];

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Keys::parse(&text) {
        Ok(keys) => {
            assert!(keys.n_short() <= keys.len());
            assert!(keys.len() <= text.lines().count());
        }
        Err(error) => assert!(error.to_string().len() < 1000, "an error is bounded"),
    }
}
