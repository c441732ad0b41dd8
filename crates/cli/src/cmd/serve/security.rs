//! Who may use the server? Keys, names, origins and certificates, from flags and files; SIGHUP reads the files again.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use server::{App, CacheScope, Keys, Origin, Security, Tls};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;
use crate::input;

/// The most bytes of a file of keys.
const MAX_BYTES: u64 = 4 << 20;

/// The variable of `--api-key`.
const API_KEY: &str = "WORKER_ORCD_API_KEY";

/// The flags.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct SecurityArgs {
    /// File of API keys, one a line: `name:key` or a bare key, optionally `role=user|admin|monitor` (user) and `weight=N` (1);
    /// SIGHUP reads it again
    #[arg(long, value_name = "PATH", help_heading = "Security")]
    api_key_file: Option<PathBuf>,
    /// One API key; other users of the machine can see the command line, so prefer the variable WORKER_ORCD_API_KEY
    #[arg(long, value_name = "KEY", help_heading = "Security")]
    api_key: Option<Secret>,
    /// Allow listening without API keys on an address that other machines can reach
    #[arg(long, help_heading = "Security")]
    insecure_no_auth: bool,
    /// Allow POST /shutdown for every user, not only for keys with the role admin
    #[arg(long, help_heading = "Security")]
    allow_shutdown: bool,
    /// Allow /metrics only for keys with the role admin or monitor
    #[arg(long, help_heading = "Security")]
    metrics_for_admin: bool,
    /// Prefix caching: whose cached prompts a request can use
    #[arg(long, value_enum, value_name = "SCOPE", default_value = "key", help_heading = "Security")]
    prefix_cache_scope: Scope,
    /// Host name that requests may have, besides localhost (repeatable; * for any); needed if a proxy passes its own name on
    #[arg(long, value_name = "NAME", help_heading = "Security")]
    allowed_host: Vec<String>,
    /// CORS: origin whose pages may send requests, such as https://chat.example (repeatable; localhost for any port of this machine, * for any)
    #[arg(long, value_name = "ORIGIN", help_heading = "Security")]
    cors_origin: Vec<Origin>,
    /// TLS certificate with its chain, in PEM; turns on TLS; SIGHUP reads it again
    #[arg(long, value_name = "PATH", requires = "tls_key", help_heading = "Security")]
    tls_cert: Option<PathBuf>,
    /// Private key of the TLS certificate, in PEM
    #[arg(long, value_name = "PATH", requires = "tls_cert", help_heading = "Security")]
    tls_key: Option<PathBuf>,
}

/// A text that is never shown.
#[derive(Clone)]
struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Whose cached prompts a client shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Those of its own key.
    Key,
    /// Those of all clients.
    Shared,
    /// Nobody's.
    Off,
}

impl From<Scope> for CacheScope {
    fn from(scope: Scope) -> CacheScope {
        match scope {
            Scope::Key => CacheScope::Key,
            Scope::Shared => CacheScope::Shared,
            Scope::Off => CacheScope::Off,
        }
    }
}

impl SecurityArgs {
    /// Whether connections are private.
    pub(super) fn is_tls(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Whether everybody is let in.
    pub(super) fn is_open(&self) -> bool {
        self.api_key.is_none() && self.api_key_file.is_none()
    }

    /// Reads what the flags name.
    pub(super) fn open(&self) -> anyhow::Result<Security> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let tls = Tls::open(certificate, key)?;
                warn_of_readers(key);
                Some(tls)
            }
            _ => None,
        };
        Ok(Security {
            keys: self.keys()?,
            no_auth: self.insecure_no_auth,
            allow_shutdown: self.allow_shutdown,
            metrics_for_admin: self.metrics_for_admin,
            cache_scope: self.prefix_cache_scope.into(),
            allowed_hosts: self.allowed_host.clone(),
            cors_origins: self.cors_origin.clone(),
            tls,
        })
    }

    fn keys(&self) -> anyhow::Result<Keys> {
        let mut keys = Keys::default();
        if let Some(Secret(key)) = &self.api_key {
            if key.is_empty() {
                let said = "expected a key, found an empty text: leave --api-key and WORKER_ORCD_API_KEY away to have none";
                return Err(Failure::Usage(said.to_owned()).into());
            }
            keys = Keys::one(key).map_err(|error| Failure::Usage(format!("--api-key: {error}")))?;
        }
        if let Some(path) = &self.api_key_file {
            let text = input::settings(path, MAX_BYTES)?;
            warn_of_readers(path);
            let refuse = |error| Failure::Usage(format!("{}: {error}", path.display()));
            keys = keys.and(Keys::parse(&text).map_err(refuse)?).map_err(refuse)?;
        }
        if self.api_key.is_none() && std::env::var_os(API_KEY).is_some_and(|key| key.is_empty()) {
            tracing::warn!("{API_KEY} is empty, so it sets no key");
        }
        if keys.n_short() > 0 {
            tracing::warn!(n_short = keys.n_short(), "API keys under 16 characters can be guessed");
        }
        Ok(keys)
    }

    /// Reads the files again at every SIGHUP; what is wrong with one is logged, and what was there stays.
    pub(super) fn reload_on_hangup(self, app: App) -> anyhow::Result<impl Future<Output = ()>> {
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
        Ok(async move {
            while hangup.recv().await.is_some() {
                match self.reload(&app) {
                    Ok(n_key) => {
                        tracing::info!(event = "reload", n_key, "keys and certificate are read again");
                    }
                    Err(error) => tracing::error!(event = "reload", "nothing has changed: {error:#}"),
                }
            }
        })
    }

    fn reload(&self, app: &App) -> anyhow::Result<usize> {
        let keys = self.keys()?;
        if let Some(tls) = &app.options().security.tls {
            tls.reload()?;
        }
        let n_key = keys.len();
        app.set_keys(keys);
        Ok(n_key)
    }
}

/// Says so where every user of the machine can read or write a secret file.
fn warn_of_readers(path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    if mode & 0o006 != 0 {
        tracing::warn!(
            mode = format_args!("{:04o}", mode & 0o7777),
            "all users can read or write {}",
            path.display()
        );
    }
}
