//! Under what circumstances did a program run? The fields of `metadata.json`.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use gguf::Gguf;
use serde::Serialize;

use crate::device::Loaded;
use crate::version;

/// The circumstances.
#[derive(Serialize)]
pub(crate) struct Metadata {
    version: &'static str,
    commit: Option<&'static str>,
    command: Vec<String>,
    /// Seconds since 1970.
    started: u64,
    system: &'static str,
    processor: &'static str,
    /// Null where nothing was computed on a device.
    device: Option<String>,
    kernels: Option<String>,
    cuda_driver: Option<String>,
    threads: Option<usize>,
    model: Vec<ModelFile>,
}

#[derive(Serialize)]
struct ModelFile {
    file: String,
    bytes: u64,
    sha256: Option<String>,
}

impl Metadata {
    /// Of a model's files, on no device.
    pub(crate) fn of_files(gguf: &Gguf) -> Metadata {
        let file = |path: &PathBuf| ModelFile {
            file: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            bytes: fs::metadata(path).map_or(0, |metadata| metadata.len()),
            sha256: None,
        };
        Metadata {
            version: env!("CARGO_PKG_VERSION"),
            commit: version::COMMIT,
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            system: std::env::consts::OS,
            processor: std::env::consts::ARCH,
            device: None,
            kernels: None,
            cuda_driver: None,
            threads: None,
            model: gguf.paths().iter().map(file).collect(),
        }
    }

    /// Of a model that is on its device.
    pub(crate) fn of(loaded: &Loaded) -> Metadata {
        Metadata {
            device: Some(loaded.executor.memory().device),
            kernels: Some(loaded.kernels.clone()),
            cuda_driver: loaded.cuda_version.clone(),
            threads: Some(loaded.threads),
            ..Metadata::of_files(&loaded.gguf)
        }
    }

    /// The device and its kernels, in words.
    pub(crate) fn place(&self) -> String {
        let text = |part: &Option<String>| part.as_deref().unwrap_or("none").to_owned();
        format!("{} ({})", text(&self.device), text(&self.kernels))
    }

    /// With the SHA-256 of each of the model's files, in their order.
    pub(crate) fn with_hashes(mut self, hashes: &[String]) -> Metadata {
        for (file, hash) in self.model.iter_mut().zip(hashes) {
            file.sha256 = Some(hash.clone());
        }
        self
    }
}
