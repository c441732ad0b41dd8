//! Which models are in the cache, and which have short names?
//!
//! The cache is the one that all programs of the hub share, so what others fetched is listed, too. The first column is a name that every
//! command takes.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use hub::{Cached, NAMES, Named};
use serde::Serialize;

use crate::cmd;
use crate::fetch;
use crate::units::Bytes;

/// `worker-orcd models`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  worker-orcd models\n  worker-orcd models --names\n\n\
    pull fetches a model, show describes it, rm removes it. HF_HUB_CACHE names the cache.")]
pub(crate) struct Args {
    /// List the short names instead: what they mean, the size of the file and the licence of the weights
    #[arg(long)]
    names: bool,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.names {
        return cmd::print_report(&Names(NAMES.iter().map(NameRow::of).collect()), args.json);
    }
    let models = fetch::hub(fetch::FetchArgs::offline())?.inventory()?;
    cmd::print_report(&Models(models.iter().map(Row::of).collect()), args.json)
}

/// `models --json`.
#[derive(Serialize)]
struct Models(Vec<Row>);

#[derive(Serialize)]
struct Row {
    name: String,
    repository: String,
    commit: String,
    file: String,
    bytes: u64,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
}

impl Row {
    fn of(model: &Cached) -> Row {
        let used = model.used.and_then(|used| used.duration_since(UNIX_EPOCH).ok());
        Row {
            name: model.name(),
            repository: model.file.repo().to_owned(),
            commit: model.commit.clone(),
            file: model.file.path().to_owned(),
            bytes: model.n_bytes,
            used: used.map(|used| used.as_secs()),
        }
    }
}

impl fmt::Display for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(
                "no models in the cache; `worker-orcd models --names` lists what can be fetched\n",
            );
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let used = |row: &Row| row.used.map_or_else(String::new, |used| ago(now.saturating_sub(used)));
        let width = self.0.iter().map(|row| row.name.len()).max().unwrap_or(0);
        for row in &self.0 {
            let size = Bytes(row.bytes).to_string();
            writeln!(f, "{:<width$}  {size:>10}  {:<14}  {}", row.name, used(row), row.file)?;
        }
        Ok(())
    }
}

/// `models --names --json`.
#[derive(Serialize)]
struct Names(Vec<NameRow>);

#[derive(Serialize)]
struct NameRow {
    name: &'static str,
    repository: &'static str,
    quantization: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    licence: &'static str,
}

impl NameRow {
    fn of(named: &Named) -> NameRow {
        let Named { name, repo, quantization, n_bytes, licence } = *named;
        NameRow { name, repository: repo, quantization, bytes: n_bytes, licence }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.0 {
            let size = row.bytes.map(|n| Bytes(n).to_string()).unwrap_or_default();
            let NameRow { name, repository, quantization, licence, .. } = row;
            writeln!(f, "{name:<14}  {quantization:<7} {size:>10}  {licence:<18}  {repository}")?;
        }
        Ok(())
    }
}

/// A time that has passed, in its largest whole unit.
fn ago(seconds: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let Some((n, unit)) = units.iter().map(|(size, unit)| (seconds / size, unit)).find(|(n, _)| *n > 0)
    else {
        return "just now".to_owned();
    };
    format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::ago;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let told = [0, 59, 60, 7199, 7200, 86_400, 864_000].map(ago);
        let expected =
            ["just now", "just now", "1 minute ago", "1 hour ago", "2 hours ago", "1 day ago", "10 days ago"];
        assert_eq!(told, expected);
    }
}
