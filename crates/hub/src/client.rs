//! What does the hub say? One request, followed through its redirects.
//!
//! The hub answers `HEAD /REPO/resolve/REVISION/PATH` with the commit and the file's hash and size, and sends a `GET` of a large
//! file on to a content server. Redirects are followed here rather than in the HTTP library, so that the token goes to the hub's own
//! origin (scheme, host and port) and nowhere else. Source: `huggingface_hub`'s documentation of its HTTP headers; RFC 9110.

use std::fmt::{Display, Write};
use std::io;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, LINK, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{HeaderMap, Method, Request, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::choose::Entry;
use crate::list::{self, MAX_PAGE_BYTES, MAX_PAGES};
use crate::reference::is_name;
use crate::{HubError, HubFile, HubRepo, Missing, Settings, Token};

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 8;

/// Speaks with one hub.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    endpoint: Uri,
    token: Option<Token>,
}

/// What a hub knows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Of the revision that was asked for.
    pub(crate) commit: String,
    /// Names the bytes; the SHA-256 of a large file, else git's hash.
    pub(crate) etag: String,
    pub(crate) size: u64,
}

impl Facts {
    /// The hash of the bytes where the hub names it.
    pub(crate) fn sha256(&self) -> Option<&str> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (self.etag.len() == 64 && self.etag.bytes().all(hex)).then_some(&self.etag)
    }
}

/// Why one try gave nothing.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The next may give more.
    Again {
        host: String,
        reason: String,
        /// Of a server that answered.
        status: Option<u16>,
        retry_after: Option<Duration>,
    },
    /// No other will.
    Never(HubError),
}

/// The end of a chain of redirects.
pub(crate) struct Answer {
    pub(crate) host: String,
    pub(crate) response: Response<ureq::Body>,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Client {
        let patience = settings.patience;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_per_read(Some(patience.read))
            .timeout_recv_response(Some(patience.read))
            .tls_config(TlsConfig::builder().root_certs(root_certs()).build())
            .user_agent(concat!("worker-orcd/", env!("CARGO_PKG_VERSION")));
        if !settings.proxy {
            config = config.proxy(None);
        }
        let agent = config.build().new_agent();
        Client { agent, endpoint: settings.endpoint.clone(), token: settings.token.clone() }
    }

    /// Asks what a file is, without its bytes.
    pub(crate) fn facts(&self, file: &HubFile) -> Result<Facts, Failed> {
        let answer = self.request(&Method::HEAD, self.address(file)?, None, file)?;
        let headers = answer.response.headers();
        let missing = |what: &str| {
            let expected = format!("{what}, as a hub sends it");
            Failed::Never(HubError::Protocol {
                host: answer.host.clone(),
                expected,
                found: "none".to_owned(),
            })
        };
        let safe = |name: &str| Some(name).filter(|name| is_name(name)).map(str::to_owned);
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, ETAG.as_str()));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        let length = || {
            let whole = answer.response.status().is_success();
            text(headers, CONTENT_LENGTH.as_str()).filter(|_| whole)
        };
        let size = text(headers, "x-linked-size").or_else(length).and_then(|size| size.parse().ok());
        Ok(Facts {
            commit: text(headers, "x-repo-commit").and_then(safe).ok_or_else(|| missing("X-Repo-Commit"))?,
            etag: etag.and_then(safe).ok_or_else(|| missing("X-Linked-ETag or ETag"))?,
            size: size.ok_or_else(|| missing("X-Linked-Size or Content-Length"))?,
        })
    }

    /// Asks for a file's bytes from byte `from` on.
    pub(crate) fn bytes(&self, file: &HubFile, from: u64) -> Result<Answer, Failed> {
        self.request(&Method::GET, self.address(file)?, Some(from), file)
    }

    /// Asks which files a repository has.
    pub(crate) fn list(&self, repo: &HubRepo) -> Result<Vec<Entry>, Failed> {
        let revision = quote(repo.revision(), "");
        let mut uri = self.at(&format!("api/models/{}/tree/{revision}?recursive=true", repo.repo()))?;
        let mut files = Vec::new();
        for _ in 0..MAX_PAGES {
            let Answer { host, response } = self.request(&Method::GET, uri.clone(), None, repo)?;
            let next =
                text(response.headers(), LINK.as_str()).and_then(list::next).and_then(|to| follow(&uri, to));
            let page = response.into_body().into_with_config().limit(MAX_PAGE_BYTES).read_to_string();
            let page = page.map_err(|error| broken(host.clone(), &error))?;
            files.extend(list::read(&page).map_err(|error| odd(&host, "a list of files", &error))?);
            match next.filter(|next| origin(next) == origin(&self.endpoint)) {
                Some(next) => uri = next,
                None => break,
            }
        }
        Ok(files)
    }

    /// `what` is named by errors.
    fn request(
        &self,
        method: &Method,
        mut uri: Uri,
        from: Option<u64>,
        what: &dyn Display,
    ) -> Result<Answer, Failed> {
        for _ in 0..MAX_REDIRECTS {
            let ours = origin(&uri) == origin(&self.endpoint);
            let host = uri.authority().map(ToString::to_string).unwrap_or_default();
            let mut request = Request::builder().method(method).uri(&uri).header(ACCEPT_ENCODING, "identity");
            if let Some(token) = self.token.as_ref().filter(|_| ours) {
                request = request.header(AUTHORIZATION, token.header());
            }
            if let Some(from) = from.filter(|&from| from > 0) {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let request = request.body(()).map_err(|error| odd(&host, "an address", &error.to_string()))?;
            let response = self.agent.run(request).map_err(|error| broken(host.clone(), &error))?;
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return self.judge(what, ours, Answer { host, response });
            }
            let to = text(response.headers(), LOCATION.as_str());
            let next = to.and_then(|to| follow(&uri, to));
            let Some(next) = next else {
                return Err(odd(&host, "a redirect to an http address, https again after https", "another"));
            };
            // What a content server says about a file counts less than what the hub does.
            let foreign = origin(&next) != origin(&self.endpoint);
            if method == Method::HEAD && foreign && response.headers().contains_key("x-repo-commit") {
                return Ok(Answer { host, response });
            }
            uri = next;
        }
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        Err(odd(&host, &format!("at most {MAX_REDIRECTS} redirects"), "more"))
    }

    /// An answer that is no redirect.
    fn judge(&self, file: &dyn Display, ours: bool, answer: Answer) -> Result<Answer, Failed> {
        let headers = answer.response.headers();
        let status = answer.response.status().as_u16();
        let reason = || format!("HTTP {status}");
        let host = answer.host.clone();
        let again = |retry_after| {
            Err(Failed::Again { host: host.clone(), reason: reason(), status: Some(status), retry_after })
        };
        match status {
            200..=299 | 416 => Ok(answer),
            408 | 425 | 429 | 500 | 502..=504 => {
                let seconds = text(headers, RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
                again(seconds.map(Duration::from_secs))
            }
            // The signature in a content server's address ends after a while; the hub gives a new one.
            401 | 403 | 404 if !ours => again(None),
            401 | 403 => {
                let with_token = self.token.is_some();
                Err(Failed::Never(HubError::Refused { file: file.to_string(), status, with_token }))
            }
            404 => {
                let what = match text(headers, "x-error-code") {
                    Some("RepoNotFound") => Missing::Repository,
                    Some("RevisionNotFound") => Missing::Revision,
                    _ => Missing::File,
                };
                Err(Failed::Never(HubError::NotFound { file: file.to_string(), what }))
            }
            _ => Err(Failed::Never(HubError::Status { host, status, retry_after: None })),
        }
    }

    /// `ENDPOINT/ORG/REPO/resolve/REVISION/PATH`.
    fn address(&self, file: &HubFile) -> Result<Uri, Failed> {
        let (repo, revision, path) = (file.repo(), quote(file.revision(), ""), quote(file.path(), "/"));
        self.at(&format!("{repo}/resolve/{revision}/{path}"))
    }

    fn at(&self, path: &str) -> Result<Uri, Failed> {
        let endpoint = self.endpoint.to_string();
        let endpoint = endpoint.trim_end_matches('/');
        let address = format!("{endpoint}/{path}");
        address.parse().map_err(|_| odd(endpoint, "an address", &address))
    }
}

/// The certificates that this machine trusts; those that browsers do where it has none.
fn root_certs() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    match found.is_empty() {
        true => RootCerts::WebPki,
        false => found.iter().map(|cert| Certificate::from_der(cert).to_owned()).into(),
    }
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let port = uri.port_u16().or_else(|| match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    });
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), port)
}

/// The address that a redirect leads to; none where it is no web address or gives up encryption.
fn follow(from: &Uri, to: &str) -> Option<Uri> {
    let scheme = from.scheme_str()?;
    let to = match to {
        to if to.starts_with("//") => format!("{scheme}:{to}"),
        to if to.starts_with('/') => format!("{scheme}://{}{to}", from.authority()?),
        to => to.to_owned(),
    };
    let to: Uri = to.parse().ok()?;
    to.host()?;
    match (scheme, to.scheme_str()?) {
        ("http", "http" | "https") | ("https", "https") => Some(to),
        _ => None,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Percent-encodes what is neither unreserved nor in `keep`.
fn quote(text: &str, keep: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for b in text.bytes() {
        let c = char::from(b);
        if b.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
            quoted.push(c);
        } else {
            let _ = write!(quoted, "%{b:02X}");
        }
    }
    quoted
}

fn odd(host: &str, expected: &str, found: &str) -> Failed {
    Failed::Never(HubError::Protocol {
        host: host.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}

/// What failed before there was an answer. Certificates that are not trusted will not be the next time either.
fn broken(host: String, error: &ureq::Error) -> Failed {
    let reason = error.to_string();
    let certificate = match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::Pem(_) => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    };
    match certificate {
        true => Failed::Never(HubError::Network { host, reason, attempts: 1 }),
        false => Failed::Again { host, reason, status: None, retry_after: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_never_give_up_encryption() {
        let from = Uri::from_static("https://hub:8443/org/repo?x=1");
        let to = |to| follow(&from, to).map(|uri| uri.to_string());
        assert_eq!(to("/other?y").as_deref(), Some("https://hub:8443/other?y"));
        assert_eq!(to("//cdn/file").as_deref(), Some("https://cdn/file"));
        assert_eq!(to("https://cdn/file").as_deref(), Some("https://cdn/file"));
        for refused in ["http://hub/file", "file:///etc/passwd", "ftp://cdn/x", "", "https://"] {
            assert_eq!(to(refused), None, "{refused}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same =
            |a: &'static str, b: &'static str| origin(&Uri::from_static(a)) == origin(&Uri::from_static(b));
        assert!(same("https://Hub/a", "https://hub:443/b"));
        for other in ["http://hub/a", "https://hub:8443/a", "https://hub.evil/a", "https://evil/hub"] {
            assert!(!same("https://hub/a", other), "{other}");
        }
    }

    #[test]
    fn names_are_quoted_for_addresses() {
        assert_eq!(quote("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(quote("a b/ü#?.gguf", "/"), "a%20b/%C3%BC%23%3F.gguf");
    }
}
