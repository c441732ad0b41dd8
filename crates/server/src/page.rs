//! The page at `/`: chat with the model, and see how it does; at `/docs`, the API's reference. Files of `page/`, embedded as they are.
//!
//! The page needs nothing from outside, and the content security policy of every response (`around.rs`) says so: scripts and styles are its own,
//! and what a model writes cannot become either.

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::error::ApiError;
use crate::state::App;

/// Embeds files of `page/`.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../page/", $name)).as_slice())),*]
    };
}

const FILES: [(&str, &[u8]); 25] = files![
    "index.html",
    "docs.html",
    "api.js",
    "app.css",
    "app.js",
    "clock.js",
    "docs.css",
    "docs.js",
    "dom.js",
    "empty.js",
    "export.js",
    "files.js",
    "highlight.js",
    "icon.svg",
    "markdown.js",
    "request.js",
    "sample.js",
    "settings.js",
    "side.js",
    "status.js",
    "store.js",
    "theme.js",
    "tree.js",
    "verify.js",
    "view.js",
];

/// The page's routes.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(|| async { file("index.html") }))
        .route("/docs", get(|| async { file("docs.html") }))
        .route("/page/{name}", get(page_file))
}

/// A name that is no text is that of no file.
async fn page_file(name: Result<Path<String>, PathRejection>) -> Response {
    name.map_or_else(|_| ApiError::NotFound.into_response(), |Path(name)| file(&name))
}

fn file(name: &str) -> Response {
    let Some((name, bytes)) = FILES.iter().find(|(known, _)| *known == name) else {
        return ApiError::NotFound.into_response();
    };
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let mut headers = HeaderMap::new();
    for (key, value) in [
        (header::CONTENT_TYPE, kind),
        // A new version of the program brings new files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(key, HeaderValue::from_static(value));
    }
    (StatusCode::OK, headers, *bytes).into_response()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_embedded_and_names_no_other_place() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        let mut embedded: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        embedded.sort_unstable();
        assert_eq!(names, embedded);
        for (name, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            let outside =
                text.match_indices("://").filter(|(at, _)| !text[*at..].starts_with("://www.w3.org/"));
            for (at, _) in outside {
                let line = text[..at].rsplit('\n').next().unwrap_or_default();
                assert!(
                    !line.contains("src=") && !line.contains("href=") && !line.contains("import"),
                    "{name}: {line}"
                );
            }
        }
    }
}
