//! Do the house rules hold? Each rule reads the tree and reports what breaks it, where, and why it matters.
//!
//! `dependencies` holds the direction between crates, `source` what a Rust file may contain, `words` what no file may
//! mention, `links` that Markdown leads somewhere, `golden` that reference data never changes, `support` that the tables of what is supported are current. `lexer` tells code from
//! comments and strings.

mod dependencies;
mod golden;
mod lexer;
mod links;
mod source;
mod words;

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{output, root};
use crate::support;

/// A rule that is broken somewhere.
#[derive(Debug)]
struct Finding {
    /// Relative to the root.
    path: String,
    /// Counted from 1.
    line: usize,
    /// What was found.
    what: String,
    /// The rule, or what to do.
    why: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.why)
    }
}

/// Checks every rule over the files git knows or would add, and fails with the list of findings.
pub(crate) fn run() -> Result<()> {
    let mut findings = dependencies::check_workspace()?;
    findings.extend(golden::check(&root().join("tests/golden"))?);
    if !support::is_current()? {
        let what = "the tables are not what the code says".to_owned();
        findings.push(Finding {
            path: support::PAGE.to_owned(),
            line: 1,
            what,
            why: "run `cargo xtask support`",
        });
    }
    let listed = output(
        Command::new("git").args(["ls-files", "-co", "--exclude-standard", "-z"]).current_dir(root()),
    )?;
    let mut n_file = 0;
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let full = root().join(path);
        if !full.is_file() {
            continue; // Deleted in the working tree, still in the index.
        }
        let bytes = fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        n_file += 1;
        findings.extend(words::check(path, &text));
        if path.ends_with(".rs") {
            findings.extend(source::check(path, &text));
        }
        if path.ends_with(".md") {
            findings.extend(links::check(root(), path, &text));
        }
    }
    if findings.is_empty() {
        println!("Tidy: the house rules hold in {n_file} text files");
        return Ok(());
    }
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    bail!("{} findings:\n{}", findings.len(), list.join("\n"))
}

/// The findings as text, one a line, for tests.
#[cfg(test)]
fn listed(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}
