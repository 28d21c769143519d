//! Times and ids, made of nothing but the event.

/// Returns a time in milliseconds since 1970 UTC as RFC 3339 in UTC with milliseconds, as
/// [`Cx::timestamp`](crate::Cx::timestamp) does with the event's.
///
/// ```
/// use switchboard_plugin::rfc_3339;
///
/// assert_eq!(rfc_3339(1_700_049_600_000 + 90_000), "2023-11-15T12:01:30.000Z");
/// ```
#[must_use]
pub fn rfc_3339(ms: u64) -> String {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Returns the date of a day since 1970: `civil_from_days` of Howard Hinnant's "chrono-Compatible
/// Low-Level Date Algorithms", for days that are not before 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Returns a UUIDv7 (RFC 9562, 5.7) of a time: unique because the event's own id is, whose random
/// bits it takes over, and because of the count.
pub(crate) fn uuid_v7(ms: u64, event: &str, count: u16) -> String {
    let digits: String = event.chars().filter(char::is_ascii_hexdigit).collect();
    let random = digits
        .get(digits.len().saturating_sub(16)..)
        .and_then(|tail| u64::from_str_radix(tail, 16).ok())
        .unwrap_or(0);
    // The twelve bits after the version: those of the event's id, moved on by the count.
    let sub: u16 = digits
        .get(13..16)
        .and_then(|part| u16::from_str_radix(part, 16).ok())
        .unwrap_or(0);
    let sub = sub.wrapping_add(count).wrapping_add(1) & 0x0fff;
    let tail = (random & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    let time = ms & 0xffff_ffff_ffff;
    format!(
        "{:08x}-{:04x}-7{sub:03x}-{:04x}-{:012x}",
        time >> 16,
        time & 0xffff,
        tail >> 48,
        tail & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc_3339(ms), text);
        }
    }

    #[test]
    fn ids_differ_and_are_the_same_again() {
        let event = "0192f0c1-2345-7abc-8def-0123456789ab";
        let ids: std::collections::BTreeSet<String> = (0..1_000)
            .map(|count| uuid_v7(1_700_000_000_000, event, count))
            .collect();
        assert_eq!(ids.len(), 1_000);
        let id = uuid_v7(1_700_000_000_000, event, 0);
        assert_eq!(id, uuid_v7(1_700_000_000_000, event, 0));
        assert_eq!(
            (id.len(), id.get(14..15), id.get(19..20)),
            (36, Some("7"), Some("8"))
        );
    }
}
