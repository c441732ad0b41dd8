//! Sends again what was published: a ROUTER socket, asked by REQ and DEALER sockets. Source: ZeroMQ RFC 28 (request and reply); vLLM,
//! vllm/distributed/kv_events.py.
//!
//! A request is the number of the first batch that is wanted, as up to 8 bytes with the highest first. Each batch from there on that is still kept is
//! a message of its own: number and payload, as they were published. After the last comes the number -1, with no payload.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::zmtp::{self, COMMAND, Kind, MORE, refused};

const KIND: Kind = Kind { own: "ROUTER", peers: &["REQ", "DEALER"] };
/// The most batches that are kept: as many as vLLM keeps.
const MAX_BATCHES: usize = 10_000;
/// The most bytes of their payloads.
const MAX_BYTES: usize = 64 << 20;
/// The number that ends a replay.
const END: u64 = u64::MAX;

/// The last batches. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(Arc<Mutex<Batches>>);

#[derive(Debug, Default)]
struct Batches {
    /// Number and payload, in order.
    batches: VecDeque<(u64, Bytes)>,
    n_byte: usize,
}

impl Kept {
    /// Keeps a batch, and the oldest no longer than there is room for.
    pub(super) fn keep(&self, number: u64, payload: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.n_byte += payload.len();
        kept.batches.push_back((number, payload));
        while kept.batches.len() > MAX_BATCHES || kept.n_byte > MAX_BYTES {
            let Some((_, oldest)) = kept.batches.pop_front() else { break };
            kept.n_byte -= oldest.len();
        }
    }

    /// What is kept from this number on.
    fn since(&self, start: u64) -> Vec<(u64, Bytes)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = kept.batches.partition_point(|(number, _)| *number < start);
        kept.batches.range(first..).cloned().collect()
    }
}

/// Answers for as long as the process lives.
pub(super) async fn serve(listener: TcpListener, kept: Kept) {
    zmtp::serve(listener, KIND, |stream| client(stream, kept.clone())).await;
}

/// Answers one until it is gone.
async fn client(mut stream: TcpStream, kept: Kept) -> io::Result<()> {
    stream.set_nodelay(true)?;
    zmtp::greet(&mut stream, KIND).await?;
    loop {
        let start = request(&mut stream).await?;
        for (number, payload) in kept.since(start) {
            answer(&mut stream, number, &payload).await?;
        }
        answer(&mut stream, END, &[]).await?;
    }
}

/// Reads the next request, and answers pings until it comes. A REQ socket puts an empty frame before it, a DEALER's user does.
async fn request(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<u64> {
    let expected = || refused("an empty frame and a number of at most 8 bytes");
    let mut is_begun = false;
    loop {
        let (flags, body) = zmtp::read(stream).await?;
        if flags & COMMAND != 0 {
            if let Some(pong) = zmtp::pong(&body) {
                zmtp::write(stream, &pong).await?;
            }
            continue;
        }
        match (is_begun, flags & MORE != 0) {
            (false, true) if body.is_empty() => is_begun = true,
            (true, false) if body.len() <= 8 => {
                return Ok(body.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)));
            }
            _ => return Err(expected()),
        }
    }
}

/// Sends a number and a payload, behind the empty frame.
async fn answer(writer: &mut (impl AsyncWrite + Unpin), number: u64, payload: &[u8]) -> io::Result<()> {
    let mut frames = BytesMut::with_capacity(payload.len() + 24);
    zmtp::frame(&mut frames, MORE, &[]);
    zmtp::frame(&mut frames, MORE, &number.to_be_bytes());
    zmtp::frame(&mut frames, 0, payload);
    zmtp::write(writer, &frames).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(kept: &Kept, start: u64) -> Vec<u64> {
        kept.since(start).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn a_replay_begins_at_the_number_or_after_a_batch_that_was_lost() {
        let kept = Kept::default();
        for number in [0, 1, 2, 5, 6] {
            kept.keep(number, Bytes::from_static(b"x"));
        }
        assert_eq!(numbers(&kept, 2), [2, 5, 6]);
        assert_eq!(numbers(&kept, 3), [5, 6]);
        assert!(numbers(&kept, 7).is_empty());
        assert!(numbers(&kept, END).is_empty());
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let kept = Kept::default();
        for number in 0..MAX_BATCHES as u64 + 3 {
            kept.keep(number, Bytes::from_static(b"x"));
        }
        let found = numbers(&kept, 0);
        assert_eq!((found.len(), found[0]), (MAX_BATCHES, 3));
        let large = Bytes::from(vec![0; MAX_BYTES / 2]);
        for number in 20_000..20_003 {
            kept.keep(number, large.clone());
        }
        assert_eq!(numbers(&kept, 0), [20_001, 20_002]);
        kept.keep(20_003, Bytes::from(vec![0; MAX_BYTES + 1]));
        assert!(numbers(&kept, 0).is_empty());
        assert_eq!(kept.0.lock().unwrap().n_byte, 0);
    }
}
