//! A moment as ISO 8601 has it, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// Milliseconds since 1970; 0 before.
pub(super) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `1994-11-06T08:49:37.021Z`.
pub(super) fn iso(at: SystemTime) -> String {
    // "Sun, 06 Nov 1994 08:49:37 GMT", always of this length.
    let date = httpdate::fmt_http_date(at);
    let [day, month, year, time] =
        [5..7, 8..11, 12..16, 17..25].map(|part| date.get(part).unwrap_or_default());
    let month = MONTHS.find(month).map_or(0, |at| at / 3 + 1);
    format!("{year}-{month:02}-{day}T{time}.{:03}Z", millis(at) % 1000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_written_in_utc_with_milliseconds() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (784_111_777_021, "1994-11-06T08:49:37.021Z"),
            (951_827_696_999, "2000-02-29T12:34:56.999Z"),
            (1_798_761_599_500, "2026-12-31T23:59:59.500Z"),
        ] {
            let at = UNIX_EPOCH + Duration::from_millis(ms);
            assert_eq!((iso(at).as_str(), millis(at)), (expected, ms));
        }
    }
}
