//! One connection: HTTP until either side ends it, and an end that the client can hear.
//!
//! A socket that is closed while bytes of its client are unread, or on their way, is reset, and what was said last is lost with it. So the server ends
//! its own direction first and reads on for a moment, whatever comes (RFC 9112, 9.6).

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::places::{Busy, Place};
use super::stream::WriteTimeout;
use crate::compat::Compat;
use crate::state::App;
use crate::tls::Tls;

/// For a client to take the end of a connection in.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that a client may send after that without waiting for a turn.
const FREE_BYTES: usize = 64 << 10;
/// Connections of a door of which more is read at a time, and how fast: 8 MiB a second each. Bodies that were refused are large where somebody
/// sends many of them, and reading those as fast as they come would take a core from the answers of others.
pub(super) const N_TURN: usize = 4;
const PIECE_BYTES: usize = 64 << 10;
const PIECE_TIME: Duration = Duration::from_millis(8);
/// For a connection that was told to close to write what it has.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Marks requests that came on a reserved place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved;

/// What all connections of a door have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) app: App,
    pub(super) service: TowerToHyperService<Router>,
    pub(super) tls: Option<Tls>,
    /// Turns to read what clients send that were refused.
    pub(super) turns: Arc<Semaphore>,
    /// Connections that may be ending at a time: whoever was closed to make room has no place any more, and still holds a file.
    pub(super) ending: Arc<Semaphore>,
}

/// Serves a connection until its end.
pub(super) async fn serve(
    shared: Shared,
    stream: TcpStream,
    place: Arc<Place>,
    closed: watch::Receiver<bool>,
) {
    let _counted = shared.app.metrics().connected();
    let limits = shared.app.options().limits;
    // Tokens are small and should leave at once.
    let _slower = stream.set_nodelay(true);
    let stream = WriteTimeout::new(stream, limits.write_time).of(Arc::clone(&place));
    let service = Marked { inner: shared.service.clone(), place: Arc::clone(&place) };
    let Some(tls) = &shared.tls else {
        return speak(service, &shared, stream, closed).await;
    };
    let agreed = tokio::select! {
        agreed = timeout(limits.header_time, tls.acceptor().accept(stream)) => agreed,
        () = place.closing() => return,
    };
    match agreed {
        Ok(Ok(stream)) => speak(service, &shared, stream, closed).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake timed out"),
    }
}

/// Speaks HTTP until either side ends it.
async fn speak(
    service: Marked,
    shared: &Shared,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut closed: watch::Receiver<bool>,
) {
    let (place, options) = (Arc::clone(&service.place), shared.app.options());
    let mut http = http1::Builder::new();
    // The table of places knows which heads are late: it tells a late one from a connection between two requests.
    http.timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(options.limits.header_bytes.max(8 << 10));
    // Names of headers have no case, but some of that server's clients look for the one that it writes.
    http.title_case_headers(options.compat == Compat::LlamaServer);
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    // What a client does to its own connection is nobody else's concern.
    let is_over = tokio::select! {
        _ = poll_fn(|cx| connection.poll_without_shutdown(cx)) => true,
        () = place.closing() => false,
        _ = closed.changed() => false,
    };
    if !is_over {
        Pin::new(&mut connection).graceful_shutdown();
        let rest = poll_fn(|cx| connection.poll_without_shutdown(cx));
        if place.is_busy() {
            let _ended = rest.await;
        } else {
            let _ended = timeout(LAST_WORDS, rest).await;
        }
    }
    let mut stream = connection.into_parts().io.into_inner();
    // Without room for that, the end is one that the client may not hear.
    let Ok(_ending) = shared.ending.try_acquire() else { return };
    let _late = timeout(LINGER, end(&mut stream, &shared.turns)).await;
}

/// Ends the server's direction, and reads what still comes until the client has ended its own.
async fn end(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), turns: &Semaphore) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut lost, mut n_lost) = ([0; 4096], 0);
    while n_lost < FREE_BYTES {
        match stream.read(&mut lost).await {
            Ok(n) if n > 0 => n_lost += n,
            _ => return,
        }
    }
    // Never closed.
    let Ok(_turn) = turns.acquire().await else { return };
    let mut lost = vec![0; PIECE_BYTES];
    while stream.read(&mut lost).await.is_ok_and(|n| n > 0) {
        sleep(PIECE_TIME).await;
    }
}

/// The service of one connection: a request keeps its place busy until its answer was taken.
struct Marked {
    inner: TowerToHyperService<Router>,
    place: Arc<Place>,
}

impl Service<hyper::Request<Incoming>> for Marked {
    type Response = Response<Whole>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Whole>, Infallible>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        let busy = self.place.begin();
        if self.place.is_reserved() {
            request.extensions_mut().insert(Reserved);
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let Ok(response) = answer.await;
            Ok(response.map(|body| Whole { body, _busy: busy }))
        })
    }
}

/// A body that keeps its connection's place busy.
struct Whole {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::duplex;

    use super::*;

    /// Seconds that clients take to send so many bytes each to connections that end.
    fn sending(n_client: usize, n_byte: usize) -> f64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (turns, began) = (Semaphore::new(N_TURN), Instant::now());
            let send = || async {
                let (mut client, mut server) = duplex(PIECE_BYTES);
                let bytes = vec![0; n_byte];
                let sent = async {
                    client.write_all(&bytes).await.unwrap();
                    drop(client);
                };
                tokio::join!(sent, end(&mut server, &turns));
            };
            futures_util::future::join_all((0..n_client).map(|_| send())).await;
            began.elapsed().as_secs_f64()
        })
    }

    #[test]
    fn what_refused_clients_send_is_read_slowly_and_of_a_few_at_a_time() {
        let n_piece = 20;
        let paced = (n_piece - 1) as f64 * PIECE_TIME.as_secs_f64();
        let one = sending(1, FREE_BYTES + n_piece * PIECE_BYTES);
        assert!(one >= paced, "{one} s");
        let many = sending(2 * N_TURN, FREE_BYTES + n_piece * PIECE_BYTES);
        assert!(many >= 2.0 * paced, "{many} s");
        // Those that have little to say do not wait.
        assert!(sending(100, FREE_BYTES / 2) < paced);
    }
}
