//! Server-sent events: from a stream of frames to a response's body.
//!
//! Frames that are ready together leave together. A body that nobody pulls for a while carries a comment now and then, so that proxies keep the
//! connection; dropping the body drops the stream, and with it the generation, which cancels it. Source: WHATWG HTML, "Server-sent events".

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use tokio::time::timeout;

/// Time without an event after which a comment is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The end of every stream of the OpenAI routes.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// An event without a name.
#[must_use]
pub fn data(value: &impl Serialize) -> Bytes {
    frame(b"data: ", value)
}

/// An event with a name.
#[must_use]
pub fn event(name: &str, value: &impl Serialize) -> Bytes {
    frame(format!("event: {name}\ndata: ").as_bytes(), value)
}

/// JSON has no line breaks outside its strings, and in them they are escaped: one line of data.
fn frame(head: &[u8], value: &impl Serialize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(256);
    bytes.put_slice(head);
    let mut writer = bytes.writer();
    // What is written here serialises: plain structs with text keys, into memory.
    let _infallible = serde_json::to_writer(&mut writer, value);
    let mut bytes = writer.into_inner();
    bytes.put_slice(b"\n\n");
    bytes.freeze()
}

/// The response whose body is these frames.
pub fn response(frames: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let frames = Box::pin(frames);
    let body = stream::unfold(frames, |mut frames| async {
        let next = timeout(KEEP_ALIVE, frames.next()).await;
        let bytes = match next {
            Ok(frame) => frame?,
            Err(_quiet) => Bytes::from_static(b": keep-alive\n\n"),
        };
        Some((Ok::<Bytes, std::convert::Infallible>(bytes), frames))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
