//! Where are a model's predictions kept, to hold others against? A file of log probabilities.
//!
//! Layout, integers and floats little-endian:
//!
//! - One line of JSON, [`Header`], ended by a line feed.
//! - For each chunk its ids, `[n_ctx]` u32, then its rows that predict, `n_ctx - 1 - n_ctx/2` of them.
//! - A row: the largest log probability, f32; the distance `r` from there to the least finite one, f32; and a code of 16 bits for each id.
//!   Code `c` stands for `largest - r (c / 65534)²`, 65535 for probability 0.
//!
//! The square puts the finest steps where the probability is: at a distance `d` from the largest the error is at most `sqrt(r d) / 65534`,
//! 8e-5 for `d = 1` and `r = 30`. A file whose writer was stopped ends in part of a chunk; whoever goes on cuts that off and appends.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use server::open_file;

use super::chunks::Chunks;
use super::score::log_sum;
use crate::exit::Failure;

const FORMAT: &str = "worker-orcd predictions";
const VERSION: u32 = 1;
/// The most bytes of the header.
const MAX_HEADER: u64 = 64 << 10;
const STEPS: f64 = 65534.0;
const NEVER: u16 = u16::MAX;

/// The first line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    format: String,
    version: u32,
    /// SHA-256 of each of the model's files.
    pub(super) model: Vec<String>,
    n_ctx: usize,
    n_vocab: usize,
}

impl Header {
    pub(super) fn new(model: Vec<String>, n_ctx: usize, n_vocab: usize) -> Header {
        Header { format: FORMAT.to_owned(), version: VERSION, model, n_ctx, n_vocab }
    }

    fn n_row(&self) -> usize {
        self.n_ctx - 1 - self.n_ctx / 2
    }

    /// Bytes of one chunk.
    fn stride(&self) -> u64 {
        4 * self.n_ctx as u64 + self.n_row() as u64 * (8 + 2 * self.n_vocab as u64)
    }

    /// Reads the line; bounds hold for every product of its sizes.
    fn read(file: &mut impl BufRead) -> Result<(Header, u64), String> {
        let mut line = Vec::new();
        file.take(MAX_HEADER).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        let header: Header = serde_json::from_slice(&line)
            .map_err(|e| format!("expected a file that eval save wrote: {e}"))?;
        let known = (header.format.as_str(), header.version) == (FORMAT, VERSION);
        if !known {
            let (format, version) = (&header.format, header.version);
            return Err(format!(
                "expected {FORMAT:?} of version {VERSION}, found {format:?} of version {version}"
            ));
        }
        if !(4..=1 << 24).contains(&header.n_ctx) || !(1..=1 << 24).contains(&header.n_vocab) {
            return Err(format!(
                "expected n_ctx of 4 to 2^24 and n_vocab of 1 to 2^24, found {} and {}",
                header.n_ctx, header.n_vocab
            ));
        }
        Ok((header, line.len() as u64))
    }
}

/// Appends chunks.
pub(super) struct Writer {
    out: BufWriter<File>,
    /// Chunks that were there.
    pub(super) n_there: usize,
}

impl Writer {
    /// Begins a file, or goes on with one of the same model and the same text.
    pub(super) fn open(path: &Path, header: &Header, chunks: &Chunks) -> anyhow::Result<Writer> {
        let place = || path.display().to_string();
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let mut file = options.open(path).with_context(place)?;
        let length = file.metadata().with_context(place)?.len();
        let mut n_there = 0;
        if length == 0 {
            let line = serde_json::to_string(header)? + "\n";
            // Half of a line would be no file of this kind.
            let written = file.write_all(line.as_bytes());
            written.or_else(|error| file.set_len(0).and(Err(error))).with_context(place)?;
        } else {
            let refuse = |reason: String| Failure::Request(format!("{}: {reason}", path.display()));
            let (found, start) = Header::read(&mut BufReader::new(&file)).map_err(refuse)?;
            if found != *header {
                let text = format!(
                    "expected nothing, or what was begun of this model: {}; found {}",
                    serde_json::to_string(header)?,
                    serde_json::to_string(&found)?
                );
                return Err(refuse(text).into());
            }
            n_there =
                usize::try_from((length - start) / header.stride()).unwrap_or(usize::MAX).min(chunks.len());
            for n in 0..n_there {
                let at = start + n as u64 * header.stride();
                same_ids(&mut file, at, chunks, n).with_context(place)?.map_err(refuse)?;
            }
            let end = start + n_there as u64 * header.stride();
            file.set_len(end).with_context(place)?;
            file.seek(SeekFrom::Start(end)).with_context(place)?;
        }
        Ok(Writer { out: BufWriter::new(file), n_there })
    }

    /// The tokens of the next chunk.
    pub(super) fn ids(&mut self, ids: &[u32]) -> std::io::Result<()> {
        ids.iter().try_for_each(|id| self.out.write_all(&id.to_le_bytes()))
    }

    /// Its next row of log probabilities.
    pub(super) fn row(&mut self, log_probabilities: &[f32]) -> std::io::Result<()> {
        let finite = || log_probabilities.iter().copied().filter(|x| x.is_finite());
        let largest = finite().fold(f32::NEG_INFINITY, f32::max);
        let range = finite().fold(0f32, |range, x| range.max(largest - x));
        self.out.write_all(&largest.to_le_bytes())?;
        self.out.write_all(&range.to_le_bytes())?;
        let scale = if range > 0.0 { 1.0 / f64::from(range) } else { 0.0 };
        log_probabilities.iter().try_for_each(|&x| {
            let code = match x.is_finite() {
                // At most 65534, and no less than 0.
                true => (STEPS * (f64::from(largest - x) * scale).sqrt()).round() as u16,
                false => NEVER,
            };
            self.out.write_all(&code.to_le_bytes())
        })
    }

    /// Everything so far is in the file.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Hands out chunks.
pub(super) struct Reader {
    file: BufReader<File>,
    header: Header,
    /// Where the first chunk begins.
    start: u64,
}

impl Reader {
    /// Opens the predictions of a text.
    pub(super) fn open(path: &Path, chunks: &Chunks) -> anyhow::Result<Reader> {
        let place = || path.display().to_string();
        let refuse = |reason: String| Failure::Request(format!("{}: {reason}", path.display()));
        let mut file = BufReader::new(open_file(path)?);
        let (header, start) = Header::read(&mut file).map_err(refuse)?;
        if header.n_ctx != chunks.n_ctx {
            let text =
                format!("expected chunks of {} tokens, found {}; see --ctx", chunks.n_ctx, header.n_ctx);
            return Err(refuse(text).into());
        }
        let length = file.get_ref().metadata().with_context(place)?.len();
        let n_chunk = usize::try_from(length.saturating_sub(start) / header.stride()).unwrap_or(usize::MAX);
        if n_chunk < chunks.len() {
            let text = format!(
                "expected {} chunks, found {n_chunk}: eval save goes on where it was stopped, and --chunks asks for fewer",
                chunks.len()
            );
            return Err(refuse(text).into());
        }
        Ok(Reader { file, header, start })
    }

    /// Ids of the vocabulary.
    pub(super) fn n_vocab(&self) -> usize {
        self.header.n_vocab
    }

    /// The rows of chunk `n`, one after the other: log probabilities `[n_vocab]` each.
    ///
    /// # Errors
    /// The file cannot be read, or is of other tokens.
    pub(super) fn chunk(&mut self, chunks: &Chunks, n: usize) -> anyhow::Result<Vec<f32>> {
        let at = self.start + n as u64 * self.header.stride();
        same_ids(&mut self.file, at, chunks, n)?.map_err(Failure::Request)?;
        let n_vocab = self.header.n_vocab;
        let mut values = Vec::with_capacity(self.header.n_row() * n_vocab);
        let mut bytes = vec![0; 8 + 2 * n_vocab];
        for _ in 0..self.header.n_row() {
            self.file.read_exact(&mut bytes)?;
            decode(&bytes, &mut values);
        }
        Ok(values)
    }
}

/// The log probabilities of a row's bytes. Codes are rounded, so they are made to add up to 1 again: else each rounding would count in a
/// divergence, and not only its square.
fn decode(bytes: &[u8], values: &mut Vec<f32>) {
    let first = values.len();
    let float = |at: usize| f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (largest, range) = (f64::from(float(0)), f64::from(float(4)));
    values.extend(bytes[8..].as_chunks::<2>().0.iter().map(|&code| match u16::from_le_bytes(code) {
        NEVER => f32::NEG_INFINITY,
        code => (largest - range * (f64::from(code) / STEPS).powi(2)) as f32,
    }));
    let row = &mut values[first..];
    let sum = log_sum(row);
    row.iter_mut().for_each(|value| *value = (f64::from(*value) - sum) as f32);
}

/// Whether the chunk that begins `at` this byte is of the text's tokens; leaves the file behind them.
fn same_ids(
    file: &mut (impl Read + Seek),
    at: u64,
    chunks: &Chunks,
    n: usize,
) -> std::io::Result<Result<(), String>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; 4 * chunks.n_ctx];
    file.read_exact(&mut bytes)?;
    let found = bytes.as_chunks::<4>().0.iter().map(|&id| u32::from_le_bytes(id));
    Ok(match found.zip(chunks.ids(n)).position(|(found, &id)| found != id) {
        Some(token) => Err(format!(
            "chunk {n}, token {token}: another id than the text's; the predictions are of another text or tokenizer"
        )),
        None => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_within_its_bound() {
        // 0.03 nats apart, so that they add up to 1.
        let first = (1.0 - (-0.03f32).exp()).ln();
        let row: Vec<f32> = (0..1000).map(|n| first - 0.03 * n as f32).chain([f32::NEG_INFINITY]).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = Writer { out: BufWriter::new(file.reopen().unwrap()), n_there: 0 };
        writer.row(&row).unwrap();
        writer.flush().unwrap();
        let (bytes, mut values) = (std::fs::read(file.path()).unwrap(), Vec::new());
        decode(&bytes, &mut values);
        assert_eq!((bytes.len(), values.len()), (8 + 2 * 1001, 1001));
        assert_eq!(values[1000], f32::NEG_INFINITY);
        for (&value, &x) in values.iter().zip(&row[..1000]) {
            let bound = (29.97 * f64::from(first - x)).sqrt() / STEPS + 1e-5;
            assert!(f64::from((value - x).abs()) <= bound, "{x} came back as {value}");
        }
    }

    #[test]
    fn one_certain_id_is_a_row_too() {
        let mut values = Vec::new();
        let bytes = [0f32.to_le_bytes().to_vec(), 0f32.to_le_bytes().to_vec(), vec![0, 0, 255, 255]].concat();
        decode(&bytes, &mut values);
        assert_eq!(values, [0.0, f32::NEG_INFINITY]);
    }
}
