//! Is each generated expression worth here what it is worth to Jinja 2, or else refused?
//!
//! `data/jinja_cases.json` holds the expressions and Jinja's texts (`data/jinja_cases.py`). JINJA_CASES may name another such file.

use std::collections::BTreeMap;

use tokenizer::{ChatInput, ChatTemplate};

#[test]
fn expressions_are_worth_what_jinja_says_or_refused() {
    let path = std::env::var("JINJA_CASES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jinja_cases.json").to_owned());
    let cases: Vec<(String, Option<String>)> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut equal, mut failed, mut refused) = (0, 0, BTreeMap::new());
    let mut wrong = Vec::new();
    for (source, expected) in &cases {
        let template = if source.contains("{%") { source.clone() } else { format!("{{{{ {source} }}}}") };
        let rendered = ChatTemplate::new(&template, "", "")
            .and_then(|template| template.render(&ChatInput { now: Some(0), ..ChatInput::default() }));
        match (rendered, expected) {
            (Ok(found), Some(expected)) if found == *expected => equal += 1,
            (Err(_), None) => failed += 1,
            (Err(error), Some(_)) => *refused.entry(error.to_string()).or_insert(0) += 1,
            (Ok(found), expected) => wrong.push(format!("{source}\n  jinja {expected:?}\n  here  {found:?}")),
        }
    }
    let total = cases.len();
    let refusals: usize = refused.values().sum();
    let counts =
        format!("{equal} equal, {failed} errors in both, {refusals} refused of {total}\n{refused:#?}");
    assert!(wrong.is_empty(), "{} differ, {counts}\n{}", wrong.len(), wrong.join("\n"));
    // Few may be refused, or else this compares nothing.
    assert!(equal >= 3_580 && refusals * 30 <= total, "{counts}");
}
