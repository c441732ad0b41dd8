//! How are sizes written for people?
//!
//! Bytes in binary units with one decimal (`1.1 GiB`), counts in thousands with one decimal (`135 M`). Machine-readable
//! output carries plain numbers instead.

use std::fmt;

/// Bytes: `512 B`, `1.1 GiB`.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
    }
}

/// A count: `960`, `134.5 M`, `1.5 B`.
#[derive(Clone, Copy)]
pub(crate) struct Count(pub(crate) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, 1000.0, &["", "K", "M", "B", "T", "Q"])
    }
}

fn scaled(f: &mut fmt::Formatter<'_>, value: u64, base: f64, names: &[&str]) -> fmt::Result {
    let mut scaled = value as f64;
    let mut at = 0;
    // 999.95 and more would be written with four digits before the point.
    while scaled >= base - 0.05 && at + 1 < names.len() {
        scaled /= base;
        at += 1;
    }
    let unit = names.get(at).copied().unwrap_or_default();
    match (at, unit.is_empty()) {
        (0, true) => write!(f, "{value}"),
        (0, false) => write!(f, "{value} {unit}"),
        _ => write!(f, "{scaled:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well_at_the_edges() {
        let bytes = [0, 1023, 1024, 1536, 1_048_575, 1_048_576, u64::MAX].map(|b| Bytes(b).to_string());
        assert_eq!(bytes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "16.0 EiB"]);
        let counts = [999, 1_000, 134_515_008, 999_960_000].map(|c| Count(c).to_string());
        assert_eq!(counts, ["999", "1.0 K", "134.5 M", "1.0 B"]);
    }
}
