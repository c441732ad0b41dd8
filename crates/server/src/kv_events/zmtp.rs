//! ZeroMQ's protocol over TCP, as far as two kinds of sockets need it: ZMTP 3.0 with the mechanism NULL. Source: ZeroMQ RFC 23 (ZMTP 3.0).
//!
//! Written here and not taken from a crate because of its bounds: who does not read takes no more memory than what all peers share. What peers send
//! is read up to a small size, and so many are connected at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The most peers of a socket.
const MAX_PEERS: usize = 64;
/// The most bytes of what a peer sends at once.
const MAX_FRAME: usize = 1024;
/// For a peer to say who it is.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// For a peer to take what is sent to it; then its connection is closed.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Another frame of the same message follows.
pub(super) const MORE: u8 = 1;
const LONG: u8 = 2;
/// No part of a message.
pub(super) const COMMAND: u8 = 4;

/// A socket's type, and those that it talks to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) own: &'static str,
    pub(super) peers: &'static [&'static str],
}

/// Lets peers in, each with a task of its own, for as long as the process lives.
pub(super) async fn serve<F>(listener: TcpListener, kind: Kind, talk: impl Fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_PEERS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection for a peer that asks for the KV cache's events");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(most = MAX_PEERS, "too many peers ask for the KV cache's events");
            continue;
        };
        let talk = talk(stream);
        tokio::spawn(async move {
            if let Err(error) = talk.await {
                tracing::debug!(%error, socket = kind.own, "a peer that asked for the KV cache's events is gone");
            }
            drop(place);
        });
    }
}

/// Both sides say what they are.
pub(super) async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), kind: Kind) -> io::Result<()> {
    timeout(GREETING_TIME, greetings(stream, kind)).await?
}

async fn greetings(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), kind: Kind) -> io::Result<()> {
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
    body.put_u32(kind.own.len() as u32);
    body.extend_from_slice(kind.own.as_bytes());
    frame(&mut ready, COMMAND, &body);
    stream.write_all(&ready).await?;
    let (flags, body) = read(stream).await?;
    let found =
        (flags & COMMAND != 0).then(|| body.strip_prefix(b"\x05READY")).flatten().and_then(socket_type);
    match found {
        Some(found) if kind.peers.iter().any(|peer| peer.as_bytes() == found) => Ok(()),
        _ => Err(refused(&format!("a socket of the type {}", kind.peers.join(" or ")))),
    }
}

/// What a peer should have sent.
pub(super) fn refused(expected: &str) -> io::Error {
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

/// The answer to a command, where that is a ping.
pub(super) fn pong(command: &[u8]) -> Option<Bytes> {
    // Two bytes are how long the peer will wait; what follows comes back.
    let context = command.strip_prefix(b"\x04PING")?.get(2..).unwrap_or_default();
    let mut answer = BytesMut::new();
    frame(&mut answer, COMMAND, &[b"\x04PONG", context].concat());
    Some(answer.freeze())
}

/// Sends bytes to a peer that takes them.
pub(super) async fn write(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    timeout(WRITE_TIME, writer.write_all(bytes)).await?
}

/// Appends a frame.
pub(super) fn frame(out: &mut BytesMut, flags: u8, body: &[u8]) {
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
pub(super) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
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
    fn the_type_of_a_socket_is_found_among_properties_and_nothing_is_read_beyond_them() {
        let properties = b"\x08Identity\x00\x00\x00\x00\x0bsocket-type\x00\x00\x00\x03SUB";
        assert_eq!(socket_type(properties), Some(&b"SUB"[..]));
        for n in 0..properties.len() {
            assert_eq!(socket_type(&properties[..n]), None, "{n}");
        }
        assert_eq!(socket_type(b"\x01a\xff\xff\xff\xff"), None);
    }
}
