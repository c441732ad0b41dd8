//! What if there are more connections than places, and who keeps one for how long?

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use server::{Limits, ServerOptions};

use crate::served::{Running, ids};
use testkit::scripted::Scripted;

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
const UNFINISHED: &str = "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";

fn limited(limits: Limits) -> Running {
    Running::with(Scripted::new(ids("abc")), ServerOptions { limits, ..ServerOptions::default() })
}

fn connected(address: SocketAddr, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    stream
}

/// One answer without a body's end: its head is what is looked at.
fn head(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 2048];
    let n = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..n]).to_ascii_lowercase()
}

/// How a metric stands.
fn count(server: &Running, name: &str) -> f64 {
    let (_, _, text) = server.ask("GET", "/metrics", &[]);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("0");
    value.parse().unwrap()
}

#[test]
fn the_connection_that_is_idle_longest_makes_room() {
    let server = limited(Limits { n_connection: 3, n_connection_of_address: 3, ..Limits::default() });
    let address = server.address();
    let mut first = connected(address, HEALTH);
    assert!(head(&mut first).starts_with("http/1.1 200 "));
    let mut second = connected(address, HEALTH);
    assert!(head(&mut second).starts_with("http/1.1 200 "));
    let mut third = connected(address, HEALTH);
    assert!(head(&mut third).starts_with("http/1.1 200 "));
    // The third has all that one address may have but for the last quarter; whoever comes now takes the oldest one's place.
    let mut fourth = connected(address, HEALTH);
    assert!(head(&mut fourth).starts_with("http/1.1 200 "));
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0);
    fourth.write_all(HEALTH.as_bytes()).unwrap();
    assert!(head(&mut fourth).starts_with("http/1.1 200 "));
}

#[test]
fn probes_are_answered_while_every_place_is_busy() {
    let patient = Duration::from_secs(300);
    let limits = Limits { n_connection: 4, body_grace: patient, body_time: patient, ..Limits::default() };
    let server = limited(limits);
    let address = server.address();
    let mut busy: Vec<TcpStream> = (0..8).map(|_| connected(address, UNFINISHED)).collect();
    // Until they are seen to be busy, a newcomer takes the place of one.
    while !head(&mut connected(address, HEALTH)).contains("\r\nconnection: close\r\n") {
        busy.push(connected(address, UNFINISHED));
        thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..3 {
        let mut probe = connected(address, HEALTH);
        let head = head(&mut probe);
        assert!(head.starts_with("http/1.1 200 ") && head.contains("\r\nconnection: close\r\n"), "{head}");
    }
    let mut other = connected(address, "GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = head(&mut other);
    assert!(head.starts_with("http/1.1 503 ") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
    drop(busy);
    while server.ask("GET", "/version", &[]).0 != 200 {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(count(&server, "worker_requests_refused_total{reason=\"connections\"}") >= 1.0);
}

#[test]
fn a_flood_of_idle_sockets_does_not_hold_a_probe_up() {
    let server = limited(Limits { n_connection: 64, ..Limits::default() });
    let mut sockets = Vec::new();
    for n in 0..400 {
        sockets.push(TcpStream::connect(server.address()).unwrap());
        if n % 40 == 39 {
            let began = Instant::now();
            let mut probe = connected(server.address(), HEALTH);
            assert!(head(&mut probe).starts_with("http/1.1 200 "));
            assert!(began.elapsed() < Duration::from_secs(1), "{n}: {:?}", began.elapsed());
        }
    }
    assert!(count(&server, "worker_http_connections_closed_total{reason=\"room\"}") > 300.0);
    // Those that made room are closed soon, and no more of them than there are places are waited for.
    let began = Instant::now();
    let open = || count(&server, "worker_http_connections");
    while !(64.0..=135.0).contains(&open()) {
        assert!(began.elapsed() < Duration::from_secs(1), "{} are open", open());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_port_for_probes_answers_health_alone() {
    let options = ServerOptions { health: Some(([127, 0, 0, 1], 0).into()), ..ServerOptions::default() };
    let server = Running::with(Scripted::new(ids("abc")), options);
    let address = server.health_address().unwrap();
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        connected(address, &request).read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("/health").starts_with("HTTP/1.1 200 "));
    assert!(ask("/version").starts_with("HTTP/1.1 404 "));
    let _idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    let began = Instant::now();
    assert!(ask("/health").contains("\"phase\":\"ready\""));
    assert!(began.elapsed() < Duration::from_secs(1));
    server.app().drain();
    server.ending();
    // Its thread ends a moment after the server's own loop.
    while TcpStream::connect(address).is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_ends_its_own_direction_is_answered_at_once_or_counts_as_gone() {
    let server = Running::start(Scripted::new(ids("abc")).latency(Duration::from_millis(5)));
    for path in ["/health", "/version", "/v1/models", "/metrics"].repeat(20) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut probe = connected(server.address(), &request);
        probe.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let body = r#"{"prompt": "a", "max_tokens": 900, "ignore_eos": true}"#;
    let stream = server.open("POST", "/v1/completions", body);
    while count(&server, "vllm:num_requests_running{model_name=\"org/tiny\"}") < 1.0 {
        thread::sleep(Duration::from_millis(5));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    while count(&server, "worker_requests_total{outcome=\"disconnected\"}") < 1.0 {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_pooled_connection_ends_without_a_reset() {
    let server = limited(Limits { idle_time: Duration::from_millis(100), ..Limits::default() });
    for _ in 0..5 {
        let mut pooled = connected(server.address(), HEALTH);
        assert!(head(&mut pooled).starts_with("http/1.1 200 "));
        // The server ends it meanwhile; the client has not looked, and asks again.
        thread::sleep(Duration::from_millis(300));
        pooled.write_all(HEALTH.as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(50));
        let mut rest = Vec::new();
        let ended = pooled.read_to_end(&mut rest).map_err(|error| error.kind());
        assert_eq!((ended, rest.len()), (Ok(0), 0));
    }
    assert_eq!(count(&server, "worker_http_connections_closed_total{reason=\"idle\"}"), 5.0);
}

#[test]
fn a_connection_between_two_requests_may_rest_longer_than_a_head_may_take() {
    let limits = Limits { header_time: Duration::from_millis(200), ..Limits::default() };
    let server = limited(limits);
    let mut pooled = connected(server.address(), HEALTH);
    assert!(head(&mut pooled).starts_with("http/1.1 200 "));
    thread::sleep(Duration::from_millis(600));
    pooled.write_all(HEALTH.as_bytes()).unwrap();
    assert!(head(&mut pooled).starts_with("http/1.1 200 "));
    // A head that began must end in time, on an old connection as on a new one.
    pooled.write_all(b"GET /hea").unwrap();
    let began = Instant::now();
    let ended = pooled.read(&mut [0; 64]).map_err(|error| error.kind());
    assert!(matches!(ended, Ok(0) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
}
