//! How does an answer get its receipt? Asked for with `"receipt": true`, or with `{"prompt": "hash"}` where the prompt is to stay out of it.
//!
//! The model's file is hashed once a process, from the first request on that wants a receipt, on a thread of its own. An answer that is complete
//! before the hash is known waits for it; its tokens were sent when they came. Where there can be no hash, requests for receipts are
//! refused before anything runs.

use std::fmt;
use std::sync::Arc;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use worker::receipt::{Draft, KeepPrompt, Receipt};
use worker::{Sampled, StopReason, ValidRequest};

use crate::error::ApiError;
use crate::state::Served;

/// What a request says of its receipt: the field `receipt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted(Option<KeepPrompt>);

/// A receipt in the making.
#[derive(Debug)]
pub(crate) struct Noted {
    draft: Draft,
    served: Arc<Served>,
}

impl Wanted {
    /// Refuses what cannot be had.
    pub(crate) fn check(self, served: &Served) -> Result<(), ApiError> {
        match (self.0, served.origin.model.known()) {
            (Some(_), Some(Err(_))) => {
                let message = "expected false, since the model's file cannot be read again for its hash";
                Err(ApiError::invalid("receipt", message))
            }
            _ => Ok(()),
        }
    }

    /// The receipt of the answer to this request, if one is wanted.
    pub(crate) fn begin(self, served: &Arc<Served>, request: &ValidRequest) -> Option<Noted> {
        let keep = self.0?;
        served.origin.model.start();
        Some(Noted { draft: Draft::new(&served.worker, request, keep), served: Arc::clone(served) })
    }
}

impl Noted {
    /// More of the answer.
    pub(crate) fn add(&mut self, tokens: &[Sampled]) {
        self.draft.add(tokens);
    }

    /// The receipt, as soon as the model's hash is known.
    pub(crate) async fn finish(self, reason: &StopReason) -> Result<Receipt, ApiError> {
        self.draft.finished(&self.served.origin, reason).await.map_err(|_| ApiError::Receipt)
    }

    /// The receipt of an answer that was broken off: nobody waits for a hash then.
    pub(crate) async fn at_hand(self, reason: &StopReason) -> Option<Receipt> {
        match self.served.origin.model.known() {
            Some(Ok(_)) => self.finish(reason).await.ok(),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wanted, D::Error> {
        deserializer.deserialize_any(WantedVisitor)
    }
}

struct WantedVisitor;

impl<'de> Visitor<'de> for WantedVisitor {
    type Value = Wanted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or an object with prompt")
    }

    fn visit_unit<E: Error>(self) -> Result<Wanted, E> {
        Ok(Wanted(None))
    }

    fn visit_bool<E: Error>(self, wanted: bool) -> Result<Wanted, E> {
        Ok(Wanted(wanted.then_some(KeepPrompt::Ids)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wanted, A::Error> {
        let mut keep = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "prompt" {
                map.next_value::<IgnoredAny>()?;
                return Err(A::Error::custom("expected prompt, found another field"));
            }
            keep = Some(match map.next_value::<String>()?.as_str() {
                "ids" => KeepPrompt::Ids,
                "hash" => KeepPrompt::Hash,
                _ => return Err(A::Error::custom("expected ids or hash as its prompt, found another text")),
            });
        }
        Ok(Wanted(Some(keep.unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(value: Value, expected: Result<Option<KeepPrompt>, &str>) {
        let found = serde_json::from_value::<Wanted>(value).map(|wanted| wanted.0);
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn a_receipt_is_wanted_or_not_and_with_the_prompt_or_without() {
        check(json!(null), Ok(None));
        check(json!(false), Ok(None));
        check(json!(true), Ok(Some(KeepPrompt::Ids)));
        check(json!({}), Ok(Some(KeepPrompt::Ids)));
        check(json!({"prompt": "ids"}), Ok(Some(KeepPrompt::Ids)));
        check(json!({"prompt": "hash"}), Ok(Some(KeepPrompt::Hash)));
        check(json!(1), Err("invalid type: integer `1`, expected true, false or an object with prompt"));
        check(json!({"prompt": "a"}), Err("expected ids or hash as its prompt, found another text"));
        check(json!({"promt": "ids"}), Err("expected prompt, found another field"));
    }
}
