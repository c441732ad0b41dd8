//! GET and DELETE /v1/responses/{id}, GET /v1/responses/{id}/input_items: responses that are kept.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::request::INCLUDED;
use crate::context::Context;
use crate::error::ApiError;
use crate::state::App;

/// The query's fields in their order.
type Fields = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The most items of a page, and how many where the query does not say.
const MAX_ITEMS: usize = 100;
const N_ITEM: usize = 20;

/// GET /v1/responses/{id}.
pub(crate) async fn get(
    State(app): State<App>,
    context: Context,
    id: Result<Path<String>, PathRejection>,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    for (name, value) in fields(query)? {
        match (name.as_str(), value.as_str()) {
            ("include" | "include[]", _) => check_included(&value)?,
            ("stream", "false") => {}
            ("stream", _) => {
                return Err(ApiError::invalid(name, "expected false: a stored response comes whole"));
            }
            _ => return Err(unknown("include or stream")),
        }
    }
    let id = path(id)?;
    let found = app.responses().response(context.client.id, &id);
    found.map(Json).ok_or_else(|| missing(id))
}

/// DELETE /v1/responses/{id}. Responses that go on from it stay.
pub(crate) async fn delete(
    State(app): State<App>,
    context: Context,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let id = path(id)?;
    match app.responses().forget(context.client.id, &id) {
        true => Ok(Json(json!({"id": id, "object": "response", "deleted": true}))),
        false => Err(missing(id)),
    }
}

/// GET /v1/responses/{id}/input_items: the conversation before the response, page by page.
pub(crate) async fn input_items(
    State(app): State<App>,
    context: Context,
    id: Result<Path<String>, PathRejection>,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    let page = Page::of(fields(query)?)?;
    let id = path(id)?;
    let items = app.responses().input(context.client.id, &id).ok_or_else(|| missing(id))?;
    page.cut(items).map(Json)
}

fn path(id: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    id.map(|Path(id)| id).map_err(|_| ApiError::NotFound)
}

fn fields(query: Fields) -> Result<Vec<(String, String)>, ApiError> {
    query.map(|Query(fields)| fields).map_err(|_| ApiError::invalid("query", "expected fields and values"))
}

fn missing(id: String) -> ApiError {
    ApiError::ResponseNotFound { id, is_previous: false }
}

fn unknown(known: &str) -> ApiError {
    ApiError::invalid("query", format!("expected {known}, found another field"))
}

fn check_included(what: &str) -> Result<(), ApiError> {
    match INCLUDED.contains(&what) {
        true => Ok(()),
        false => Err(ApiError::invalid(
            "include",
            format!("expected {} or {}, found another", INCLUDED[0], INCLUDED[1]),
        )),
    }
}

/// Which items are wanted.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    limit: usize,
    newest_first: bool,
    after: Option<String>,
}

impl Page {
    fn of(fields: Vec<(String, String)>) -> Result<Page, ApiError> {
        let mut page = Page { limit: N_ITEM, newest_first: true, after: None };
        for (name, value) in fields {
            match name.as_str() {
                "limit" => {
                    let limit = value.parse().ok().filter(|n| (1..=MAX_ITEMS).contains(n));
                    let wrong = || ApiError::invalid("limit", format!("expected 1 to {MAX_ITEMS}"));
                    page.limit = limit.ok_or_else(wrong)?;
                }
                "order" if matches!(value.as_str(), "asc" | "desc") => page.newest_first = value == "desc",
                "order" => return Err(ApiError::invalid("order", "expected asc or desc")),
                "after" => page.after = Some(value),
                "include" | "include[]" => check_included(&value)?,
                _ => return Err(unknown("after, include, limit or order")),
            }
        }
        Ok(page)
    }

    fn cut(&self, mut items: Vec<Value>) -> Result<Value, ApiError> {
        if self.newest_first {
            items.reverse();
        }
        if let Some(after) = &self.after {
            let at = items.iter().position(|item| item["id"] == *after);
            let unknown = || ApiError::invalid("after", "expected the id of an item of this response");
            items.drain(..=at.ok_or_else(unknown)?);
        }
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        items.iter_mut().for_each(in_full);
        let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
        let (first, last) = (id(items.first()), id(items.last()));
        Ok(json!({"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more}))
    }
}

/// Writes out what a message may leave unsaid: its type, its status, and that a text is a part.
fn in_full(item: &mut Value) {
    if item["role"].is_null() {
        return;
    }
    if let Value::String(text) = &item["content"] {
        let part = match item["role"] == "assistant" {
            true => json!({"type": "output_text", "text": text, "annotations": []}),
            false => json!({"type": "input_text", "text": text}),
        };
        item["content"] = json!([part]);
    }
    for (name, value) in [("type", "message"), ("status", "completed")] {
        if item[name].is_null() {
            item[name] = value.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &[(&str, &str)]) -> Result<Page, ApiError> {
        Page::of(query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn pages_follow_each_other_in_both_orders() {
        let items: Vec<Value> = (0..5).map(|i| json!({"id": format!("a{i}")})).collect();
        for (order, expected) in
            [("asc", ["a0", "a1", "a2", "a3", "a4"]), ("desc", ["a4", "a3", "a2", "a1", "a0"])]
        {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let mut query = vec![("limit", "2"), ("order", order)];
                query.extend(after.as_deref().map(|id| ("after", id)));
                let page = page(&query).unwrap().cut(items.clone()).unwrap();
                found.extend(page["data"].as_array().unwrap().iter().map(|item| item["id"].clone()));
                assert_eq!(found.last(), Some(&page["last_id"]));
                if page["has_more"] == false {
                    break;
                }
                after = page["last_id"].as_str().map(str::to_owned);
            }
            assert_eq!(found, expected);
        }
        assert_eq!(page(&[("after", "a0")]).unwrap().cut(items.clone()).unwrap()["last_id"], Value::Null);
        assert!(page(&[("after", "b")]).unwrap().cut(items).is_err());
    }

    #[test]
    fn what_is_no_field_of_a_page_is_refused() {
        let whole = Page { limit: 100, newest_first: false, after: None };
        let query = [("limit", "100"), ("order", "asc"), ("include[]", INCLUDED[0])];
        assert_eq!(page(&query), Ok(whole));
        for query in [
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "x"),
            ("order", "up"),
            ("include", "x"),
            ("before", "a"),
        ] {
            assert!(page(&[query]).is_err(), "{query:?}");
        }
    }
}
