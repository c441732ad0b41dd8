//! What if a client does not read? A connection on which nothing could be written for a while is broken off. And when did it last say something?
//!
//! What is sent to a client waits in the system's buffer, whose size is set; once that is full, writing waits too, and with it the answer's
//! body. Breaking off drops the body, and so cancels the generation.
//!
//! What a client ends that waits for its answer may be its own direction only, or all: TCP does not tell. So that a probe which half-closes its
//! connection is answered, the end of what it sends is passed on a moment later while a request is under way.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::places::Place;

/// For a request to be answered whose client sends nothing more.
const LAST_ANSWER: Duration = Duration::from_millis(100);

/// A stream that fails when a write has waited too long, and tells its place of bytes that come.
#[derive(Debug)]
pub(crate) struct WriteTimeout<S> {
    stream: S,
    place: Option<Arc<Place>>,
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    /// Whether the time runs.
    waits: bool,
    /// Until when the client's end is kept back, once it was seen during a request.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    /// Lets a write wait for this long.
    pub(crate) fn new(stream: S, limit: Duration) -> WriteTimeout<S> {
        WriteTimeout { stream, place: None, limit, sleep: Box::pin(sleep(limit)), waits: false, end: None }
    }

    /// Tells this place of bytes that come.
    pub(crate) fn of(self, place: Arc<Place>) -> WriteTimeout<S> {
        WriteTimeout { place: Some(place), ..self }
    }
}

impl<S: Unpin> WriteTimeout<S> {
    /// Passes on what a write came to; one that waits too long is an error.
    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), cx);
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        if !self.waits {
            self.waits = true;
            self.sleep.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(self.sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let WriteTimeout { stream, place, end, .. } = self.get_mut();
        let (before, has_room) = (buffer.filled().len(), buffer.remaining() > 0);
        let read = Pin::new(stream).poll_read(cx, buffer);
        let Some(place) = place else { return read };
        if buffer.filled().len() > before {
            place.heard();
        } else if has_room && matches!(read, Poll::Ready(Ok(()))) && place.is_busy() {
            let end = end.get_or_insert_with(|| Box::pin(sleep(LAST_ANSWER)));
            ready!(end.as_mut().poll(cx));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.timed(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.timed(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.timed(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.timed(cx, AsyncWrite::poll_shutdown)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
    }

    #[test]
    fn a_write_that_nobody_reads_fails() {
        run(async {
            let (mut client, server) = duplex(4);
            let mut server = WriteTimeout::new(server, Duration::from_millis(30));
            server.write_all(b"1234").await.unwrap();
            let error = server.write_all(b"5").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            // What is read later does not bring it back, and what was written is there.
            let mut read = [0; 4];
            client.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"1234");
        });
    }

    #[test]
    fn time_without_a_write_does_not_count() {
        run(async {
            let (mut client, server) = duplex(4);
            let mut server = WriteTimeout::new(server, Duration::from_millis(30));
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(40)).await;
                let mut read = [0; 6];
                let (written, read) = tokio::join!(server.write_all(b"123456"), client.read_exact(&mut read));
                assert_eq!((written.unwrap(), read.unwrap()), ((), 6));
            }
        });
    }
}
