//! How do connections become private? TLS 1.2 and 1.3 with a certificate and a key out of PEM files (RFC 7468), by rustls and ring.
//!
//! Files are read and checked against each other before anybody connects; a reload that fails leaves what was there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::files::{FileError, read_file};

/// The most bytes of a file; long chains have a tenth of that.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no TLS. Paths are the operator's own; keys are not repeated.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or is none, or too large to be what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file has no certificate in PEM.
    #[error("{}: expected a certificate in PEM, found {reason}", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A file has no private key in PEM.
    #[error("{}: expected a private key in PEM without a password, found {reason}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The two do not go together, or are of a kind that is not supported.
    #[error("the certificate in {} and the key in {} cannot be used", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// A certificate and its key. Clones are the same.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads a certificate, with those that lead to its root, and its key.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn open(certificate: &Path, key: &Path) -> Result<Tls, TlsError> {
        let config = RwLock::new(read(certificate, key)?);
        Ok(Tls(Arc::new(Inner { certificate: certificate.to_owned(), key: key.to_owned(), config })))
    }

    /// Reads both files again, for connections that come from now on.
    ///
    /// # Errors
    /// [`TlsError`]; what was there stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.0.certificate, &self.0.key)?;
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Turns a connection into a private one.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read_file(certificate, MAX_BYTES)?)
        .collect::<Result<Vec<_>, _>>()
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|error| TlsError::Certificate { path: certificate.to_owned(), reason: reason(&error) })?;
    let private = PrivateKeyDer::from_pem_slice(&read_file(key, MAX_BYTES)?)
        .map_err(|error| TlsError::Key { path: key.to_owned(), reason: reason(&error) })?;
    let pair = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What is wrong with a PEM file, without its bytes.
fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "none".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "one without its end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a broken first line".to_owned(),
        pem::Error::Base64Decode(_) => "broken Base64".to_owned(),
        _ => "something else".to_owned(),
    }
}

/// Without the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.0.certificate).finish_non_exhaustive()
    }
}
