//! What the prefix cache keeps, as a subscriber of ZeroMQ's protocol hears it, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use engine::{Engine, EngineOptions};
use serde_json::json;
use server::{KvEventOptions, ServerOptions};
use testkit::fake::{Fake, LIMITS};

use crate::served::Running;

const MORE: u8 = 1;

fn server() -> Running {
    let limits = device::Limits { n_vocab: 320, n_page: 512, n_ctx: 128, page_size: 4, ..LIMITS };
    let engine = Engine::spawn(Box::new(Fake::new(limits)), EngineOptions::default()).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/SHA256SUMS");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let kv_events = Some(KvEventOptions { bind: any, replay: Some(any), topic: "kv@a".to_owned() });
    Running::over(engine, ServerOptions { kv_events, ..ServerOptions::default() }, &file)
}

fn connect(server: &Running) -> TcpStream {
    connect_to(server.kv_events_address())
}

fn connect_to(address: Option<SocketAddr>) -> TcpStream {
    let stream = TcpStream::connect(address.unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn read(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The flags and the body of a short frame.
fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let head = read(stream, 2);
    (head[0], read(stream, usize::from(head[1])))
}

fn greeting(mechanism: &[u8]) -> Vec<u8> {
    let mut greeting = vec![0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..12 + mechanism.len()].copy_from_slice(mechanism);
    greeting
}

/// A peer that says it is a socket of this type, to where events are published.
fn greeted(server: &Running, kind: &[u8]) -> TcpStream {
    greeted_by(connect(server), b"\x03PUB", kind)
}

/// The same, to where batches are sent again.
fn asking(server: &Running, kind: &[u8]) -> TcpStream {
    greeted_by(connect_to(server.kv_replay_address()), b"\x06ROUTER", kind)
}

fn greeted_by(mut stream: TcpStream, own: &[u8], kind: &[u8]) -> TcpStream {
    stream.write_all(&greeting(b"NULL")).unwrap();
    let other = read(&mut stream, 64);
    assert_eq!((&other[..11], &other[12..16]), (&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03"[..], &b"NULL"[..]));
    assert_eq!(frame(&mut stream), (4, [b"\x05READY\x0bSocket-Type\0\0\0", own].concat()));
    let mut ready = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
    ready.push(kind.len() as u8);
    ready.extend_from_slice(kind);
    stream.write_all(&[&[4, ready.len() as u8], &ready[..]].concat()).unwrap();
    stream
}

fn complete(server: &Running, prompt: &[u32]) {
    server.json("/v1/completions", &json!({"prompt": prompt, "max_tokens": 1}));
}

/// Waits until so many peers are counted.
fn wait_for(server: &Running, n: usize) {
    let line = format!("worker_kv_event_subscribers {n}\n");
    while !server.raw("GET", "/metrics", "").1.contains(&line) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_subscriber_hears_of_pages_by_topic_and_number() {
    let server = server();
    let mut one = greeted(&server, b"SUB");
    // By a message, as in ZMTP 3.0, and by a command, as in 3.1; the answer to a ping tells that both are read.
    one.write_all(b"\x00\x05\x01kv@a").unwrap();
    let mut other = greeted(&server, b"XSUB");
    other.write_all(b"\x04\x0b\x09SUBSCRIBEx").unwrap();
    for stream in [&mut one, &mut other] {
        stream.write_all(b"\x04\x09\x04PING\0\x0aab").unwrap();
        assert_eq!(frame(stream), (4, b"\x04PONGab".to_vec()));
    }
    complete(&server, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    complete(&server, &[1, 2, 3, 4, 9, 9, 9, 9, 9]);
    let mut hashes = Vec::new();
    for number in 0..2u64 {
        assert_eq!(frame(&mut one), (MORE, b"kv@a".to_vec()));
        assert_eq!(frame(&mut one), (MORE, number.to_be_bytes().to_vec()));
        let (flags, payload) = frame(&mut one);
        // [time, [[
        assert_eq!((flags, payload[0], payload[1], &payload[10..12]), (0, 0x93, 0xcb, &[0x91, 0x98][..]));
        let rest = payload[12..].strip_prefix(b"\xabBlockStored").unwrap();
        let n_page = usize::from(rest[0] & 0xf);
        let own: Vec<&[u8]> = (0..n_page).map(|i| &rest[2 + i * 9..10 + i * 9]).collect();
        let after = &rest[1 + n_page * 9..];
        let expected: &[u8] = match number {
            0 => b"\xc0\x98\x01\x02\x03\x04\x05\x06\x07\x08\x04\xc0\xa3GPU\xc0\x00",
            _ => b"\x94\x09\x09\x09\x09\x04\xc0\xa3GPU\xc0\x00",
        };
        let after = if number == 0 { after } else { &after[9..] };
        // The model is said to be on no device, which is no CPU.
        assert_eq!(after, expected);
        hashes.push((
            own.iter().map(|hash| hash.to_vec()).collect::<Vec<_>>(),
            rest[1 + n_page * 9..].to_vec(),
        ));
    }
    let [(first, _), (_, second)] = &hashes[..] else { panic!() };
    // The page before the second's own is the first of the first's.
    assert_eq!(&second[1..9], &first[0][..]);
    // Nothing came by another topic: the next that comes is an answer.
    other.write_all(b"\x04\x07\x04PING\0\0").unwrap();
    assert_eq!(frame(&mut other), (4, b"\x04PONG".to_vec()));
    drop((one, other));
    wait_for(&server, 0);
}

/// The three frames of a replayed batch: its number and its payload.
fn replayed(stream: &mut TcpStream) -> (u64, Vec<u8>) {
    assert_eq!(frame(stream), (MORE, Vec::new()));
    let (flags, number) = frame(stream);
    assert_eq!(flags, MORE);
    let (flags, payload) = frame(stream);
    assert_eq!(flags, 0);
    (u64::from_be_bytes(number.try_into().unwrap()), payload)
}

const END: (u64, Vec<u8>) = (u64::MAX, Vec::new());

#[test]
fn batches_are_sent_again_as_they_were_published() {
    let server = server();
    let mut live = greeted(&server, b"SUB");
    live.write_all(b"\x00\x01\x01\x04\x09\x04PING\0\x0aab").unwrap();
    assert_eq!(frame(&mut live), (4, b"\x04PONGab".to_vec()));
    let mut client = asking(&server, b"DEALER");
    client.write_all(b"\x01\x00\x00\x08\0\0\0\0\0\0\0\0").unwrap();
    assert_eq!(replayed(&mut client), END);
    for first in 1..4 {
        complete(&server, &[first, 2, 3, 4, 5]);
    }
    let published: Vec<(u64, Vec<u8>)> = (0..3)
        .map(|_| {
            assert_eq!(frame(&mut live).1, b"kv@a");
            let number = frame(&mut live).1.try_into().unwrap();
            (u64::from_be_bytes(number), frame(&mut live).1)
        })
        .collect();
    assert_eq!(published.iter().map(|batch| batch.0).collect::<Vec<_>>(), [0, 1, 2]);
    // Two requests at once, with a ping between the frames of one, and a number of one byte.
    client.write_all(b"\x01\x00\x04\x07\x04PING\0\0\x00\x08\0\0\0\0\0\0\0\x01").unwrap();
    client.write_all(b"\x01\x00\x00\x01\x02").unwrap();
    assert_eq!(frame(&mut client), (4, b"\x04PONG".to_vec()));
    let found: Vec<(u64, Vec<u8>)> = (0..5).map(|_| replayed(&mut client)).collect();
    assert_eq!(found[..2], published[1..]);
    assert_eq!((&found[2], &found[3], &found[4]), (&END, &published[2], &END));
}

fn is_closed(mut stream: TcpStream) {
    // Closed with what was not read is a reset.
    if let Err(error) = stream.read_to_end(&mut Vec::new()) {
        assert!(![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()), "it is still open");
    }
}

#[test]
fn who_asks_for_no_batch_is_closed() {
    let server = server();
    is_closed(asking(&server, b"SUB"));
    for said in [
        &b"\x00\x08\0\0\0\0\0\0\0\0"[..],
        b"\x01\x01a\x00\x01\0",
        b"\x01\x00\x00\x09\0\0\0\0\0\0\0\0\0",
        b"\x01\x00\x01\x01\0",
        b"\x02\0\0\0\0\x7f\xff\xff\xff",
    ] {
        let mut stream = asking(&server, b"DEALER");
        stream.write_all(said).unwrap();
        is_closed(stream);
    }
    let mut client = asking(&server, b"REQ");
    client.write_all(b"\x01\x00\x00\x00").unwrap();
    assert_eq!(replayed(&mut client), END);
}

#[test]
fn who_is_no_subscriber_is_closed() {
    let server = server();
    for said in [vec![b'G'; 64], greeting(b"CURVE"), greeting(b"PLAIN")] {
        let mut stream = connect(&server);
        stream.write_all(&said).unwrap();
        is_closed(stream);
    }
    is_closed(greeted(&server, b"REQ"));
    // More than a subscription may have, and more of them.
    let mut large = greeted(&server, b"SUB");
    large.write_all(b"\x02\0\0\0\0\x7f\xff\xff\xff").unwrap();
    is_closed(large);
    let mut many = greeted(&server, b"SUB");
    many.write_all(&b"\x00\x02\x01a".repeat(65)).unwrap();
    is_closed(many);
    wait_for(&server, 0);
    complete(&server, &[1, 2, 3]);
}
