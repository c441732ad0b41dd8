//! NumPy's .npz: a ZIP archive of .npy files, here of float32 alone.
//!
//! Sources: PKWARE's APPNOTE 6.3 (central directory, local headers), NumPy's format specification 1.0.

use std::path::Path;

/// The arrays of an archive with their names, flattened.
pub(crate) fn read(path: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    let end = (0..=bytes.len() - 22).rev().find(|&at| bytes[at..].starts_with(b"PK\x05\x06"));
    let end = end.expect("the end of a ZIP directory");
    let (count, mut entry) = (u16_at(end + 10), u32_at(end + 16));
    (0..count)
        .map(|_| {
            let method = u16_at(entry + 10);
            let (size, name_len) = (u32_at(entry + 20), u16_at(entry + 28));
            let name = String::from_utf8_lossy(&bytes[entry + 46..entry + 46 + name_len]).replace(".npy", "");
            let local = u32_at(entry + 42);
            entry += 46 + name_len + u16_at(entry + 30) + u16_at(entry + 32);
            let data = local + 30 + u16_at(local + 26) + u16_at(local + 28);
            let stored = &bytes[data..data + size];
            match method {
                0 => (name, npy(stored)),
                8 => (name, npy(&miniz_oxide::inflate::decompress_to_vec(stored).expect("deflated data"))),
                other => panic!("ZIP method {other}"),
            }
        })
        .collect()
}

fn npy(bytes: &[u8]) -> Vec<f32> {
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"), "a .npy file of version 1.0");
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..10 + header_len]);
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    bytes[10 + header_len..].as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}
