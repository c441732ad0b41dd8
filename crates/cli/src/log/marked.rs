//! Lines for programs, each with the worker and the device that it is about: where the logs of several workers come together, a line that does
//! not name its own is of little use.

use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use serde_json::json;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// `--worker-id`, where it was given.
pub(super) static WORKER: OnceLock<String> = OnceLock::new();
/// `cpu` or `cuda:N`, once it is chosen.
pub(super) static DEVICE: OnceLock<String> = OnceLock::new();

/// A format whose lines are JSON objects, which get these members first.
pub(super) struct Marked<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Marked<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        writer.write_str(&marked(&line, &members()))
    }
}

fn members() -> Vec<(&'static str, &'static str)> {
    let member = |name, value: &'static OnceLock<String>| value.get().map(|value| (name, value.as_str()));
    [member("worker_id", &WORKER), member("device", &DEVICE)].into_iter().flatten().collect()
}

/// The line with more members; one that an event has of its own stays alone.
fn marked(line: &str, members: &[(&str, &str)]) -> String {
    let Some(rest) = line.strip_prefix('{') else { return line.to_owned() };
    let mut text = String::from("{");
    for (name, value) in members {
        if !rest.contains(&format!("\"{name}\":")) {
            let _ = write!(text, "\"{name}\":{},", json!(value));
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_first_and_once() {
        let both = [("worker_id", "a:1"), ("device", "cuda:0")];
        let check = |line: &str, members: &[(&str, &str)], expected: &str| {
            assert_eq!(marked(line, members), expected);
        };
        check(
            "{\"level\":\"INFO\"}\n",
            &both,
            "{\"worker_id\":\"a:1\",\"device\":\"cuda:0\",\"level\":\"INFO\"}\n",
        );
        check("{\"device\":\"cpu\"}\n", &both, "{\"worker_id\":\"a:1\",\"device\":\"cpu\"}\n");
        check("{\"level\":\"INFO\"}\n", &[], "{\"level\":\"INFO\"}\n");
    }
}
