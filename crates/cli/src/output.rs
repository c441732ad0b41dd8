//! How does a result come to stdout?

use std::fmt;
use std::io::Write;

use anyhow::Context;
use serde::Serialize;

/// Writes a result to stdout.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("stdout")
}

/// Writes a result to stdout as indented JSON.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes what was found to stdout, for people or as JSON.
pub(crate) fn print_report(report: &(impl Serialize + fmt::Display), json: bool) -> anyhow::Result<()> {
    if json { print_json(report) } else { print(&report.to_string()) }
}
