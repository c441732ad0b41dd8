//! Any text as a receipt: a typed error, or a receipt that is the same when written and read again.

use worker::receipt::Receipt;

pub(crate) const WORDS: &[&str] = &[
    "version",
    "null",
    "1e999",
    "-1",
    "18446744073709551615",
    "\"ids\":",
    "\"sha256\":",
    "[",
    "{",
    "sampling",
    "\"grammar\":",
];

pub(crate) fn run(input: &[u8]) {
    let Ok(receipt) = Receipt::parse(&String::from_utf8_lossy(input)) else { return };
    let text = serde_json::to_string(&receipt).expect("a receipt can be written");
    assert_eq!(Receipt::parse(&text).expect("what was written can be read"), receipt);
    let _refused = receipt.prompt_ids(None);
    let _refused = receipt.prompt_ids(Some(vec![1, 2, 3]));
}
