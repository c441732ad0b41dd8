//! What holds where a request does not say: the seed, and the variables of chat templates.
//!
//! Where the server answers as llama-server does, templates have the variables that it gives them, so that the same conversation becomes the
//! same prompt. Source: llama.cpp, common/chat.cpp and tools/server/README.md.

use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::compat::Compat;

/// What holds where a request does not say, beside how tokens are chosen.
#[derive(Clone, Debug, Default)]
pub struct Unsaid {
    /// The seed; drawn where `None`, and where a request says -1.
    pub seed: Option<u64>,
    /// Variables of the chat template by name; a request's own come first.
    pub template: Map<String, Value>,
}

/// What a template is given by fields of their own.
const TAKEN: [&str; 4] = ["messages", "tools", "add_generation_prompt", "continue_final_message"];

impl Unsaid {
    /// Whether these may be variables of a template.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn check(variables: &Map<String, Value>) -> Result<(), String> {
        match TAKEN.iter().find(|name| variables.contains_key(**name)) {
            Some(name) => Err(format!("expected no {name} here, which is a field of its own")),
            None => Ok(()),
        }
    }

    /// Adds to a chat's variables those that it does not name.
    pub(crate) fn fill(&self, compat: Compat, now: SystemTime, variables: &mut Vec<(String, Value)>) {
        let llamas = if compat == Compat::LlamaServer { of_llama(now) } else { Vec::new() };
        let own = self.template.iter().map(|(name, value)| (name.clone(), value.clone()));
        for (name, value) in own.chain(llamas) {
            if variables.iter().all(|(known, _)| *known != name) {
                variables.push((name, value));
            }
        }
    }
}

/// What llama-server tells every template: the date, here in UTC, in both forms that templates ask for, and that the model may reason.
fn of_llama(now: SystemTime) -> Vec<(String, Value)> {
    // "Sun, 06 Nov 1994 08:49:37 GMT", always of this length.
    let date = httpdate::fmt_http_date(now);
    let [day, month, year] = [5..7, 8..11, 12..16].map(|at| date.get(at).unwrap_or_default());
    vec![
        ("enable_thinking".to_owned(), true.into()),
        ("date_string".to_owned(), format!("{day} {month} {year}").into()),
        ("datetime".to_owned(), format!("{month} {day} {year}").into()),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;

    fn filled(compat: Compat, own: &[(&str, Value)]) -> Value {
        let unsaid = Unsaid {
            seed: None,
            template: Map::from_iter([("mood".to_owned(), json!("calm")), ("tone".to_owned(), json!(1))]),
        };
        let mut variables: Vec<(String, Value)> =
            own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        unsaid.fill(compat, UNIX_EPOCH + Duration::from_secs(784_111_777), &mut variables);
        Value::Object(variables.into_iter().collect())
    }

    #[test]
    fn a_request_comes_before_the_operator_and_he_before_llama_server() {
        let own = [("mood", json!("glad"))];
        assert_eq!(filled(Compat::Strict, &own), json!({"mood": "glad", "tone": 1}));
        assert_eq!(filled(Compat::Lenient, &[]), json!({"mood": "calm", "tone": 1}));
        assert_eq!(
            filled(Compat::LlamaServer, &[("enable_thinking", json!(false))]),
            json!({
                "enable_thinking": false, "mood": "calm", "tone": 1,
                "date_string": "06 Nov 1994", "datetime": "Nov 06 1994",
            })
        );
    }
}
