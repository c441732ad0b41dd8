//! TLS with a self-made certificate and a real client.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use server::{FileError, Security, ServerOptions, Tls, TlsError};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::served::{Running, ids};
use testkit::scripted::Scripted;

/// Writes a certificate for localhost and its key, and gives the certificate.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn open(folder: &Path) -> Result<Tls, TlsError> {
    Tls::open(&folder.join("cert.pem"), &folder.join("key.pem"))
}

/// GET /health by a client that trusts this certificate alone.
fn health(server: &Running, trusted: CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(server.address())?);
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_client_that_trusts_the_certificate_is_answered_and_a_new_one_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let first = certify(folder.path());
    let tls = open(folder.path()).unwrap();
    let security = Security { tls: Some(tls.clone()), ..Security::default() };
    let options = ServerOptions { security, ..ServerOptions::default() };
    let server = Running::with(Scripted::new(ids("x")), options);
    assert!(health(&server, first.clone()).unwrap().starts_with("HTTP/1.1 200 OK\r\n"));

    // Without TLS there is no answer in HTTP.
    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _reset = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));

    let second = certify(folder.path());
    assert!(health(&server, second.clone()).is_err());
    tls.reload().unwrap();
    assert!(health(&server, second.clone()).is_ok());
    assert!(health(&server, first).is_err());

    // What cannot be read leaves what was there.
    fs::write(folder.path().join("key.pem"), "").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Key { .. })));
    assert!(health(&server, second).is_ok());
}

#[test]
fn what_is_wrong_with_the_files_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
    assert!(matches!(open(path), Err(TlsError::File(FileError::Read { .. }))));
    certify(path);
    let (certificate, key) = (
        fs::read_to_string(path.join("cert.pem")).unwrap(),
        fs::read_to_string(path.join("key.pem")).unwrap(),
    );
    write("cert.pem", "no certificate");
    assert!(matches!(open(path), Err(TlsError::Certificate { .. })));
    write("cert.pem", &certificate[..certificate.len() / 2]);
    assert!(matches!(open(path), Err(TlsError::Certificate { .. })));
    write("cert.pem", &certificate);
    write("key.pem", &certificate);
    assert!(matches!(open(path), Err(TlsError::Key { .. })));
    certify(path);
    write("key.pem", &key);
    assert!(matches!(open(path), Err(TlsError::Pair { .. })));
    write("cert.pem", &"x".repeat(2 << 20));
    assert!(matches!(open(path), Err(TlsError::File(FileError::TooLarge { most: 1_048_576, .. }))));
    // A device has no length, and no end.
    let is_refused = |opened: Result<Tls, TlsError>| {
        matches!(opened, Err(TlsError::File(FileError::Kind { found: "a device", .. })))
    };
    assert!(is_refused(Tls::open(Path::new("/dev/zero"), &path.join("key.pem"))));
    write("cert.pem", &certificate);
    assert!(is_refused(Tls::open(&path.join("cert.pem"), Path::new("/dev/zero"))));
}
