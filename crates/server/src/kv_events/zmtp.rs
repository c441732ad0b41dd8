//! A ZeroMQ publisher over TCP: ZMTP 3.0 with the mechanism NULL, and of its patterns PUB alone. Source: ZeroMQ RFC 23 (ZMTP 3.0), RFC 29 (publish
//! and subscribe).
//!
//! Written here and not taken from a crate because of its bounds: who does not read misses messages, which are counted, and takes no more
//! memory than the ring that all subscribers share. What peers send is read up to a small size; what they subscribe to is bounded, too.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::metrics::Counted;

/// The most subscribers.
const MAX_SUBSCRIBERS: usize = 64;
/// The most subscriptions of one.
const MAX_SUBSCRIPTIONS: usize = 64;
/// The most bytes of what a peer sends at once.
const MAX_FRAME: usize = 1024;
/// For a peer to say who it is.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// For a peer to take what is sent to it; then its connection is closed.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// Answers to pings that wait to be sent.
const N_PONG: usize = 4;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

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
            frame(&mut frames, if i < rest.len() { MORE } else { 0 }, part);
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
    let places = Arc::new(Semaphore::new(MAX_SUBSCRIBERS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection for a subscriber of the KV cache's events");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(most = MAX_SUBSCRIBERS, "too many subscribers of the KV cache's events");
            continue;
        };
        let (messages, counts) = (ring.subscribe(), counts.clone());
        tokio::spawn(async move {
            if let Err(error) = subscriber(stream, messages, &counts).await {
                tracing::debug!(%error, "a subscriber of the KV cache's events is gone");
            }
            drop(place);
        });
    }
}

/// Serves one until it is gone.
async fn subscriber(
    mut stream: TcpStream,
    messages: broadcast::Receiver<Message>,
    counts: &Counts,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    timeout(GREETING_TIME, greet(&mut stream)).await??;
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

/// Both sides say what they are.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut own = [0; 64];
    (own[0], own[8], own[9], own[10]) = (0xff, 1, 0x7f, 3);
    own[12..16].copy_from_slice(b"NULL");
    stream.write_all(&own).await?;
    let mut other = [0; 64];
    stream.read_exact(&mut other).await?;
    if other[0] != 0xff || other[9] & 1 == 0 || other[10] < 3 {
        return Err(refused("a peer of ZMTP 3"));
    }
    if other[12..32] != own[12..32] {
        return Err(refused("the mechanism NULL"));
    }
    let mut ready = BytesMut::new();
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.put_u32(3);
    body.extend_from_slice(b"PUB");
    frame(&mut ready, COMMAND, &body);
    stream.write_all(&ready).await?;
    let (flags, body) = read(stream).await?;
    let kind =
        (flags & COMMAND != 0).then(|| body.strip_prefix(b"\x05READY")).flatten().and_then(socket_type);
    match kind {
        Some(b"SUB" | b"XSUB") => Ok(()),
        _ => Err(refused("a socket of the type SUB")),
    }
}

fn refused(expected: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("expected {expected}, found another"))
}

/// The property of that name: a byte and a name, four bytes and a value, one after the other. Names have no case.
fn socket_type(mut properties: &[u8]) -> Option<&[u8]> {
    loop {
        let (n, rest) = properties.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*n))?;
        let (n, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*n)).ok()?)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return Some(value);
        }
        properties = rest;
    }
}

/// Takes subscriptions, and answers pings.
async fn hear(
    mut reader: impl AsyncRead + Unpin,
    topics: &Mutex<Vec<Vec<u8>>>,
    pong: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    loop {
        let (flags, body) = read(&mut reader).await?;
        let said = match (flags & COMMAND != 0, body.split_first()) {
            (false, Some((1, topic))) => Some((true, topic)),
            (false, Some((0, topic))) => Some((false, topic)),
            (true, _) if body.starts_with(b"\x04PING") => {
                // Two bytes are how long the peer will wait; what follows comes back.
                let context = body.get(7..).unwrap_or_default();
                let mut answer = BytesMut::new();
                frame(&mut answer, COMMAND, &[b"\x04PONG", context].concat());
                // One that sends more pings than it reads answers needs no more of them.
                let _full = pong.try_send(answer.freeze());
                None
            }
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
        timeout(WRITE_TIME, writer.write_all(&bytes)).await??;
    }
}

/// Appends a frame.
fn frame(out: &mut BytesMut, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(n) => out.extend_from_slice(&[flags, n]),
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(body.len() as u64);
        }
    }
    out.extend_from_slice(body);
}

/// The flags and the body of a frame.
async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let flags = reader.read_u8().await?;
    let n = if flags & LONG == 0 { u64::from(reader.read_u8().await?) } else { reader.read_u64().await? };
    let n = usize::try_from(n).ok().filter(|&n| n <= MAX_FRAME);
    let mut body = vec![0; n.ok_or_else(|| refused(&format!("at most {MAX_FRAME} bytes")))?];
    reader.read_exact(&mut body).await?;
    Ok((flags, body))
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

    #[test]
    fn the_type_of_a_socket_is_found_among_properties_and_nothing_is_read_beyond_them() {
        let properties = b"\x08Identity\x00\x00\x00\x00\x0bsocket-type\x00\x00\x00\x03SUB";
        assert_eq!(socket_type(properties), Some(&b"SUB"[..]));
        for n in 0..properties.len() {
            assert_eq!(socket_type(&properties[..n]), None, "{n}");
        }
        assert_eq!(socket_type(b"\x01a\xff\xff\xff\xff"), None);
    }
}
