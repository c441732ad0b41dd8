//! A batch of events as vLLM's publisher writes it: MessagePack, structs as arrays, each event with its name first.
//!
//! `[time, [event, ..], rank]` with `["BlockStored", hashes, parent, tokens, block size, LoRA id, medium, LoRA name]`,
//! `["BlockRemoved", hashes, medium]` and `["AllBlocksCleared"]`. Source: vLLM, vllm/distributed/kv_events.py; msgspec, "array_like".

use std::time::UNIX_EPOCH;

use rmp::encode::{self, ValueWriteError};
use worker::{CacheBatch, CacheEvent};

/// What all events of a worker have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Tokens of a page.
    pub(super) page_size: usize,
    /// Where pages lie, in vLLM's words: `GPU` or `CPU`.
    pub(super) medium: &'static str,
}

/// The payload of a batch.
///
/// # Errors
/// None: a buffer takes all that is written.
pub(super) fn payload(batch: &CacheBatch, place: Place) -> Result<Vec<u8>, ValueWriteError<std::io::Error>> {
    let mut out = Vec::new();
    encode::write_array_len(&mut out, 3)?;
    let at = batch.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    encode::write_f64(&mut out, at.as_secs_f64())?;
    array(&mut out, batch.events.len())?;
    for event in &batch.events {
        match event {
            CacheEvent::Stored { parent, pages, tokens } => {
                begin(&mut out, "BlockStored", 8)?;
                numbers(&mut out, pages.iter().copied())?;
                match parent {
                    Some(parent) => encode::write_uint(&mut out, *parent).map(drop)?,
                    None => encode::write_nil(&mut out).map_err(ValueWriteError::InvalidMarkerWrite)?,
                }
                numbers(&mut out, tokens.iter().map(|&token| u64::from(token)))?;
                encode::write_uint(&mut out, place.page_size as u64)?;
                // There are no LoRA adapters.
                encode::write_nil(&mut out).map_err(ValueWriteError::InvalidMarkerWrite)?;
                encode::write_str(&mut out, place.medium)?;
                encode::write_nil(&mut out).map_err(ValueWriteError::InvalidMarkerWrite)?;
            }
            CacheEvent::Removed { pages } => {
                begin(&mut out, "BlockRemoved", 3)?;
                numbers(&mut out, pages.iter().copied())?;
                encode::write_str(&mut out, place.medium)?;
            }
            CacheEvent::Cleared => begin(&mut out, "AllBlocksCleared", 1)?,
        }
    }
    // A worker is one rank.
    encode::write_uint(&mut out, 0)?;
    Ok(out)
}

fn array(out: &mut Vec<u8>, n: usize) -> Result<(), ValueWriteError<std::io::Error>> {
    encode::write_array_len(out, u32::try_from(n).unwrap_or(u32::MAX)).map(drop)
}

fn begin(out: &mut Vec<u8>, name: &str, n: usize) -> Result<(), ValueWriteError<std::io::Error>> {
    array(out, n)?;
    encode::write_str(out, name)
}

fn numbers(
    out: &mut Vec<u8>,
    numbers: impl ExactSizeIterator<Item = u64>,
) -> Result<(), ValueWriteError<std::io::Error>> {
    array(out, numbers.len())?;
    numbers.into_iter().try_for_each(|number| encode::write_uint(out, number).map(drop))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_batch_has_vllm_s_bytes() {
        let batch = CacheBatch {
            number: 7,
            at: UNIX_EPOCH + Duration::from_millis(1500),
            events: vec![
                CacheEvent::Stored { parent: None, pages: vec![1, u64::MAX], tokens: vec![5, 300, 6, 7] },
                CacheEvent::Removed { pages: vec![1] },
                CacheEvent::Cleared,
            ],
        };
        let bytes = payload(&batch, Place { page_size: 2, medium: "GPU" }).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "93cb3ff8000000000000",                     // [1.5,
            "93",                                       // [
            "98ab426c6f636b53746f726564",               // ["BlockStored",
            "9201cfffffffffffffffff",                   // [1, 2^64 - 1],
            "c0",                                       // nil,
            "9405cd012c0607",                           // [5, 300, 6, 7],
            "02c0a3475055c0",                           // 2, nil, "GPU", nil],
            "93ac426c6f636b52656d6f7665649101a3475055", // ["BlockRemoved", [1], "GPU"],
            "91b0416c6c426c6f636b73436c6561726564",     // ["AllBlocksCleared"]],
            "00",                                       // 0]
        ];
        assert_eq!(hex, expected.concat());
    }
}
