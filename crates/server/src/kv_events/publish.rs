//! Sends batches to subscribers as they come: a PUB socket. Source: ZeroMQ RFC 29 (publish and subscribe).
//!
//! Who does not read misses messages, which are counted. What peers subscribe to is bounded.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use super::zmtp::{self, COMMAND, Kind, MORE, refused};
use crate::metrics::Counted;

const KIND: Kind = Kind { own: "PUB", peers: &["SUB", "XSUB"] };
/// The most subscriptions of a subscriber.
const MAX_SUBSCRIPTIONS: usize = 64;
/// Answers to pings that wait to be sent.
const N_PONG: usize = 4;

/// What is published: the frames as they are sent, and the first of them.
#[derive(Clone, Debug)]
pub(super) struct Message {
    topic: Bytes,
    frames: Bytes,
}

impl Message {
    /// A message of these parts, the first of which is its topic.
    pub(super) fn new(topic: Bytes, rest: &[&[u8]]) -> Message {
        let mut frames = BytesMut::new();
        for (i, part) in std::iter::once(&&topic[..]).chain(rest).enumerate() {
            zmtp::frame(&mut frames, if i < rest.len() { MORE } else { 0 }, part);
        }
        Message { topic, frames: frames.freeze() }
    }
}

/// What is counted.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// Subscribers that have said what they are.
    pub(super) subscribers: IntGauge,
    /// Messages that a subscriber missed because it was slow.
    pub(super) missed: IntCounter,
}

/// Serves subscribers for as long as the process lives.
pub(super) async fn serve(listener: TcpListener, ring: broadcast::Sender<Message>, counts: Counts) {
    zmtp::serve(listener, KIND, |stream| subscriber(stream, ring.subscribe(), counts.clone())).await;
}

/// Serves one until it is gone.
async fn subscriber(
    mut stream: TcpStream,
    messages: broadcast::Receiver<Message>,
    counts: Counts,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    zmtp::greet(&mut stream, KIND).await?;
    let _counted = Counted::new(counts.subscribers.clone());
    let topics = Mutex::new(Vec::new());
    let (pong, pongs) = mpsc::channel(N_PONG);
    let (reader, writer) = stream.split();
    // Each ends with an error when the peer is gone.
    tokio::select! {
        ended = hear(reader, &topics, pong) => ended,
        ended = tell(writer, (messages, &counts.missed), &topics, pongs) => ended,
    }
}

/// Takes subscriptions, and answers pings.
async fn hear(
    mut reader: impl AsyncRead + Unpin,
    topics: &Mutex<Vec<Vec<u8>>>,
    pong: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    loop {
        let (flags, body) = zmtp::read(&mut reader).await?;
        if let Some(answer) = (flags & COMMAND != 0).then(|| zmtp::pong(&body)).flatten() {
            // One that sends more pings than it reads answers needs no more of them.
            let _full = pong.try_send(answer);
            continue;
        }
        let said = match (flags & COMMAND != 0, body.split_first()) {
            (false, Some((1, topic))) => Some((true, topic)),
            (false, Some((0, topic))) => Some((false, topic)),
            (true, _) => {
                let subscribed = body.strip_prefix(b"\x09SUBSCRIBE").map(|topic| (true, topic));
                subscribed.or_else(|| body.strip_prefix(b"\x06CANCEL").map(|topic| (false, topic)))
            }
            _ => None,
        };
        let mut topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Some((true, _)) if topics.len() == MAX_SUBSCRIPTIONS => {
                return Err(refused(&format!("at most {MAX_SUBSCRIPTIONS} subscriptions")));
            }
            Some((true, topic)) => topics.push(topic.to_vec()),
            Some((false, topic)) => {
                if let Some(at) = topics.iter().position(|known| known == topic) {
                    topics.swap_remove(at);
                }
            }
            None => {}
        }
    }
}

/// Sends what is subscribed to.
async fn tell(
    mut writer: impl AsyncWrite + Unpin,
    (mut messages, missed): (broadcast::Receiver<Message>, &IntCounter),
    topics: &Mutex<Vec<Vec<u8>>>,
    mut pongs: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    loop {
        let bytes = tokio::select! {
            Some(pong) = pongs.recv() => pong,
            message = messages.recv() => match message {
                Ok(Message { topic, frames }) => {
                    let topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
                    if !topics.iter().any(|wanted| topic.starts_with(wanted)) {
                        continue;
                    }
                    frames
                }
                Err(RecvError::Lagged(n)) => {
                    missed.inc_by(n);
                    continue;
                }
                Err(RecvError::Closed) => return Ok(()),
            },
        };
        zmtp::write(&mut writer, &bytes).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_short_or_long_and_the_last_has_no_flag() {
        let long = [7; 256];
        let message = Message::new(Bytes::from_static(b"kv"), &[b"\x00", &long]);
        let mut expected = b"\x01\x02kv\x01\x01\x00\x02\x00\x00\x00\x00\x00\x00\x01\x00".to_vec();
        expected.extend_from_slice(&long);
        assert_eq!(message.frames, expected);
    }
}
