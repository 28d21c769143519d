//! Times as texts.

use std::time::{Duration, UNIX_EPOCH};

/// Returns a time in milliseconds since 1970 as RFC 3339 text in UTC with milliseconds.
#[must_use]
pub fn rfc_3339(at_ms: u64) -> String {
    // The latest time that the format has; a token may claim to live longer.
    let latest = 253_402_300_799_999;
    let at = UNIX_EPOCH + Duration::from_millis(at_ms.min(latest));
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc_3339(1_700_000_000_042), "2023-11-14T22:13:20.042Z");
        assert_eq!(rfc_3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
