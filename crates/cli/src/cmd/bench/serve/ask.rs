//! What does one client see? A request to an OpenAI server, and when each piece of its answer came.
//!
//! Times are in milliseconds. The answer is a stream of server-sent events; the number of its tokens is the one that the server counts in
//! `usage`, since an event may hold several.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

/// The longest answer.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The most bytes of one line of a stream, and of an error.
const MAX_LINE: u64 = 1 << 20;

/// A server and how it is asked.
#[derive(Clone, Debug)]
pub(super) struct Target {
    agent: Agent,
    /// Such as `http://127.0.0.1:8080`.
    pub(super) url: String,
    key: Option<String>,
    model: String,
    is_chat: bool,
    ignore_eos: bool,
}

/// What one request came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// From the request to the first text.
    pub(super) first: f64,
    /// From the request to the last.
    pub(super) last: f64,
    /// Between each text and the next.
    pub(super) gaps: Vec<f64>,
    /// Tokens of the answer and of the prompt, as the server counts them.
    pub(super) n_token: u64,
    pub(super) n_prompt: u64,
}

impl Seen {
    /// Mean time of a token after the first; none for one token.
    pub(super) fn per_token(&self) -> Option<f64> {
        (self.n_token > 1).then(|| (self.last - self.first) / (self.n_token - 1) as f64)
    }
}

impl Target {
    /// Asks the server for its model, unless one is named.
    pub(super) fn find(url: &str, args: &super::Args, key: Option<String>) -> Result<Target, String> {
        let agent = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .max_idle_connections_per_host(super::MAX_CLIENTS)
            .max_idle_connections(super::MAX_CLIENTS)
            .build()
            .into();
        let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let model = args.model.clone().unwrap_or_default();
        let (is_chat, ignore_eos) = (args.chat, !args.allow_end);
        let mut target = Target { agent, url, key, model, is_chat, ignore_eos };
        if target.model.is_empty() {
            let models = target.json("/v1/models")?;
            let id = models["data"][0]["id"].as_str();
            target.model = id.ok_or("expected a model in /v1/models; name one with --model")?.to_owned();
        }
        Ok(target)
    }

    fn json(&self, path: &str) -> Result<Value, String> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let response = request.call().map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let body = response.into_body().into_with_config().limit(MAX_LINE).read_to_string();
        let body = body.map_err(|e| e.to_string())?;
        if status != 200 {
            return Err(format!("{path}: status {status}: {body}"));
        }
        serde_json::from_str(&body).map_err(|e| format!("{path}: expected JSON: {e}"))
    }

    /// Asks for so many tokens after a prompt, and waits for the end.
    pub(super) fn ask(&self, prompt: &str, n_token: usize) -> Result<Seen, String> {
        let mut body = json!({
            "model": self.model, "max_tokens": n_token, "temperature": 0, "stream": true,
            "stream_options": {"include_usage": true},
        });
        let path = if self.is_chat {
            body["messages"] = json!([{"role": "user", "content": prompt}]);
            "/v1/chat/completions"
        } else {
            body["prompt"] = json!(prompt);
            "/v1/completions"
        };
        if self.ignore_eos {
            body["ignore_eos"] = json!(true);
        }
        let mut request =
            self.agent.post(format!("{}{path}", self.url)).header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let began = Instant::now();
        let response = request.send(body.to_string().as_bytes()).map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        if status != 200 {
            let text = response.into_body().into_with_config().limit(MAX_LINE).read_to_string();
            return Err(format!("status {status}: {}", text.unwrap_or_default()));
        }
        read(&mut BufReader::new(response.into_body().into_reader()), began)
    }
}

/// Reads a stream to its end.
fn read(stream: &mut impl BufRead, began: Instant) -> Result<Seen, String> {
    let (mut seen, mut line, mut is_first) = (Seen::default(), Vec::new(), true);
    loop {
        line.clear();
        let n = std::io::Read::take(&mut *stream, MAX_LINE).read_until(b'\n', &mut line);
        if n.map_err(|e| e.to_string())? == 0 {
            return Err("the stream ended without [DONE]".to_owned());
        }
        let Some(data) = line.strip_prefix(b"data:") else { continue };
        let now = began.elapsed().as_secs_f64() * 1000.0;
        if data.trim_ascii() == b"[DONE]" {
            return match is_first {
                true => Err("the answer has no text".to_owned()),
                false => Ok(seen),
            };
        }
        let event: Value = serde_json::from_slice(data).map_err(|e| format!("expected JSON: {e}"))?;
        if !event["error"].is_null() {
            return Err(event["error"].to_string());
        }
        if let Some(n_token) = event["usage"]["completion_tokens"].as_u64() {
            seen.n_token = n_token;
            seen.n_prompt = event["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
        }
        let choice = &event["choices"][0];
        let texts = [&choice["text"], &choice["delta"]["content"], &choice["delta"]["reasoning_content"]];
        if texts.iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty())) {
            if is_first {
                (seen.first, is_first) = (now, false);
            } else {
                seen.gaps.push(now - seen.last);
            }
            seen.last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_counted_by_its_usage() {
        let text = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n: note\n\ndata: {\"choices\":[{\"text\":\"b\"}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
        let seen = read(&mut text.as_bytes(), Instant::now()).unwrap();
        assert_eq!((seen.n_token, seen.n_prompt, seen.gaps.len()), (5, 3, 1));
        assert!(seen.per_token().is_some_and(|time| time >= 0.0));
    }

    #[test]
    fn what_breaks_off_is_an_error() {
        for text in ["", "data: {\"error\":{\"message\":\"x\"}}\n\n", "data: [DONE]\n\n", "data: {\n\n"] {
            assert!(read(&mut text.as_bytes(), Instant::now()).is_err(), "{text:?}");
        }
        let cut = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
        assert!(read(&mut cut.as_bytes(), Instant::now()).unwrap_err().contains("without [DONE]"));
    }
}
