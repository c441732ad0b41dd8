//! Is this server the one that was meant? The Host header, checked against the names it answers to.
//!
//! A page of any site can point a name of its own at 127.0.0.1 and then talk to what listens there as if it were that site (DNS rebinding);
//! its requests carry that name. So a server on a loopback address answers to loopback names alone, and to those it was told
//! (`--allowed-host`). Names that were told are checked on other addresses too.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, Version, header};

use crate::error::ApiError;

/// The names that a server answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Any.
    All,
    /// Loopback names, and these.
    Named(Vec<String>),
}

impl Hosts {
    /// Those of a server that is bound to `bind` and was told to answer to `allowed`.
    pub(crate) fn new(bind: IpAddr, allowed: &[String]) -> Hosts {
        let is_loopback = bind.to_canonical().is_loopback();
        let is_any = allowed.iter().any(|name| name == "*");
        if is_any || (allowed.is_empty() && !is_loopback) {
            return Hosts::All;
        }
        Hosts::Named(allowed.iter().map(|name| normal(name).to_ascii_lowercase()).collect())
    }

    /// Whether the request was meant for this server.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`].
    pub(crate) fn check(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let Hosts::Named(names) = self else { return Ok(()) };
        let mut given = headers.get_all(header::HOST).into_iter();
        let first = given.next().map(|value| value.to_str().unwrap_or_default());
        // Browsers speak 1.1 and always name a host.
        let is_known = first.is_none_or(|host| is_named(host, names));
        let is_absent = first.is_none() && version > Version::HTTP_10;
        let is_target_known = uri.authority().is_none_or(|target| is_named(target.as_str(), names));
        if is_known && is_target_known && !is_absent && given.next().is_none() {
            return Ok(());
        }
        Err(ApiError::Forbidden("this Host is not allowed; --allowed-host allows further ones"))
    }
}

/// Whether a `Host` is a loopback name or one of these.
fn is_named(host: &str, names: &[String]) -> bool {
    let name = normal(host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_loopback = address.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    is_loopback
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A host without its port and without the dot of the root.
fn normal(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => {
            // The last group of a bare IPv6 address is no port.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(bind: &str, allowed: &[&str], host: &str) -> bool {
        let allowed: Vec<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        let hosts = Hosts::new(bind.parse().unwrap(), &allowed);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        hosts.check(Version::HTTP_11, &Uri::from_static("/"), &headers).is_ok()
    }

    #[test]
    fn a_loopback_server_answers_to_loopback_names_alone() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(check("127.0.0.1", &[], host), "{host}");
            assert!(check("::1", &[], host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
            ":8080",
            "[::2]",
            "localhost:80:80",
            "localhost@evil.example",
        ] {
            assert!(!check("127.0.0.1", &[], host), "{host}");
        }
    }

    #[test]
    fn names_that_were_told_count_and_an_open_address_takes_all() {
        assert!(check("127.0.0.1", &["llm.example"], "LLM.example:443"));
        assert!(!check("127.0.0.1", &["llm.example"], "x.llm.example"));
        assert!(check("0.0.0.0", &[], "anything.example"));
        assert!(check("127.0.0.1", &["*"], "anything.example"));
        assert!(!check("0.0.0.0", &["llm.example"], "anything.example"));
        assert!(check("0.0.0.0", &["10.0.0.7"], "10.0.0.7:8080"));
        assert!(check("::", &["[fd00::7]"], "[fd00::7]:8080"));
    }

    #[test]
    fn a_request_names_one_host_in_one_way() {
        let hosts = Hosts::new(IpAddr::from([127, 0, 0, 1]), &[]);
        let mut headers = HeaderMap::new();
        let path = Uri::from_static("/");
        assert!(hosts.check(Version::HTTP_10, &path, &headers).is_ok());
        assert!(hosts.check(Version::HTTP_11, &path, &headers).is_err());
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(hosts.check(Version::HTTP_11, &path, &headers).is_ok());
        assert!(hosts.check(Version::HTTP_11, &Uri::from_static("http://evil.example/"), &headers).is_err());
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(hosts.check(Version::HTTP_11, &path, &headers).is_err());
    }
}
