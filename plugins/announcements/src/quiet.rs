//! Quiet hours: from one local time to another, every day, in a time zone.
//!
//! They are counted as moments, night by night, and not as a length: the night in which clocks are set
//! forward is an hour shorter, the other one an hour longer. Where a local time exists twice, quiet
//! hours begin at the first and end at the second, so that they are never interrupted; where it does
//! not exist, they begin or end in the moment when the clocks are set forward over it.

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};
use serde::Deserialize;

/// Quiet hours as the operator set them. From a time to the same time is never.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuietHours {
    from: Time,
    to: Time,
    #[serde(with = "jiff::fmt::serde::tz::required")]
    time_zone: TimeZone,
}

impl QuietHours {
    /// Returns the end of the quiet hours that a moment is in, in milliseconds since 1970 UTC.
    pub(crate) fn end_at(&self, ms: u64) -> Option<u64> {
        let at = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        let today = self.time_zone.to_datetime(at).date();
        // In the morning one is in those that began the day before.
        let days = [today.yesterday().ok()?, today];
        let nights = days.into_iter().filter_map(|day| self.of(day));
        let end = nights
            .filter(|(begin, end)| *begin <= at && at < *end)
            .map(|(_, end)| end)
            .max()?;
        u64::try_from(end.as_millisecond()).ok()
    }

    /// Returns when the quiet hours that begin on a day begin and end.
    fn of(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let last = match self.from.cmp(&self.to) {
            std::cmp::Ordering::Less => day,
            std::cmp::Ordering::Greater => day.tomorrow().ok()?,
            std::cmp::Ordering::Equal => return None,
        };
        let begin = self.moment(day.to_datetime(self.from), Which::First)?;
        let end = self.moment(last.to_datetime(self.to), Which::Second)?;
        Some((begin, end))
    }

    /// Returns the moment in which clocks show a time.
    fn moment(&self, local: DateTime, which: Which) -> Option<Timestamp> {
        let moment = self.time_zone.to_ambiguous_timestamp(local);
        match (moment.offset(), which) {
            (AmbiguousOffset::Unambiguous { .. }, _) => moment.unambiguous().ok(),
            (AmbiguousOffset::Fold { .. }, Which::First) => moment.earlier().ok(),
            (AmbiguousOffset::Fold { .. }, Which::Second) => moment.later().ok(),
            (AmbiguousOffset::Gap { .. }, _) => {
                let before = moment.earlier().ok()?;
                let jump = self.time_zone.following(before).next()?;
                Some(jump.timestamp())
            }
        }
    }
}

/// Which of two moments of one local time is meant.
#[derive(Clone, Copy)]
enum Which {
    First,
    Second,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hours(from: &str, to: &str, zone: &str) -> QuietHours {
        serde_json::from_value(json!({ "from": from, "to": to, "timeZone": zone })).unwrap()
    }

    fn end(hours: &QuietHours, at: &str) -> Option<String> {
        let at: Timestamp = at.parse().unwrap();
        let end = hours.end_at(at.as_millisecond().unsigned_abs())?;
        let end = Timestamp::from_millisecond(end.cast_signed()).unwrap();
        Some(end.to_string())
    }

    /// Asserts the end for each moment; empty where it is not quiet.
    #[track_caller]
    fn ends(hours: &QuietHours, expected: &[(&str, &str)]) {
        for (at, expected) in expected {
            let end = end(hours, at).unwrap_or_default();
            assert_eq!(end, *expected, "at {at} of {hours:?}");
        }
    }

    #[test]
    fn a_night_goes_over_midnight() {
        let night = hours("22:00", "07:00", "Europe/Berlin");
        ends(
            &night,
            &[
                ("2026-01-10T20:59:59.999Z", ""),
                ("2026-01-10T21:00:00Z", "2026-01-11T06:00:00Z"),
                ("2026-01-10T22:59:59Z", "2026-01-11T06:00:00Z"),
                ("2026-01-10T23:00:00Z", "2026-01-11T06:00:00Z"),
                ("2026-01-11T05:59:59.999Z", "2026-01-11T06:00:00Z"),
                ("2026-01-11T06:00:00Z", ""),
                // In summer by the other offset.
                ("2026-07-10T19:59:59Z", ""),
                ("2026-07-10T20:00:00Z", "2026-07-11T05:00:00Z"),
            ],
        );
    }

    #[test]
    fn hours_of_one_day_end_on_it_and_no_hours_are_never() {
        let noon = hours("12:00", "14:30", "Asia/Kolkata");
        ends(
            &noon,
            &[
                ("2026-01-10T06:29:59Z", ""),
                ("2026-01-10T06:30:00Z", "2026-01-10T09:00:00Z"),
                ("2026-01-10T09:00:00Z", ""),
            ],
        );
        ends(
            &hours("02:30", "02:30", "Europe/Berlin"),
            // The hour of 2:30 exists twice that night.
            &[("2026-10-25T00:45:00Z", ""), ("2026-01-10T01:30:00Z", "")],
        );
    }

    #[test]
    fn the_night_before_summer_time_is_shorter_and_that_before_winter_time_longer() {
        let night = hours("22:00", "07:00", "Europe/Berlin");
        ends(
            &night,
            &[
                ("2026-03-28T21:00:00Z", "2026-03-29T05:00:00Z"),
                ("2026-03-29T04:59:59Z", "2026-03-29T05:00:00Z"),
                ("2026-03-29T05:00:00Z", ""),
                ("2026-10-24T20:00:00Z", "2026-10-25T06:00:00Z"),
                ("2026-10-25T05:59:59Z", "2026-10-25T06:00:00Z"),
                ("2026-10-25T06:00:00Z", ""),
            ],
        );
    }

    #[test]
    fn a_time_that_exists_twice_begins_at_the_first_and_ends_at_the_second() {
        // 2:30 is at 0:30 and at 1:30 UTC.
        let until = hours("23:00", "02:30", "Europe/Berlin");
        ends(
            &until,
            &[
                ("2026-10-25T00:29:59Z", "2026-10-25T01:30:00Z"),
                // Clocks show 2:45 for the first time, then 2:15 for the second.
                ("2026-10-25T00:45:00Z", "2026-10-25T01:30:00Z"),
                ("2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z"),
                ("2026-10-25T01:30:00Z", ""),
            ],
        );
        let since = hours("02:30", "06:00", "Europe/Berlin");
        ends(
            &since,
            &[
                ("2026-10-25T00:29:59Z", ""),
                ("2026-10-25T00:30:00Z", "2026-10-25T05:00:00Z"),
                ("2026-10-25T01:15:00Z", "2026-10-25T05:00:00Z"),
            ],
        );
    }

    #[test]
    fn a_time_that_does_not_exist_is_when_clocks_are_set_forward() {
        // From 2:00 to 3:00, at 1:00 UTC.
        let until = hours("23:00", "02:30", "Europe/Berlin");
        ends(
            &until,
            &[
                ("2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"),
                ("2026-03-29T01:00:00Z", ""),
                ("2026-03-29T01:15:00Z", ""),
            ],
        );
        let since = hours("02:30", "06:00", "Europe/Berlin");
        ends(
            &since,
            &[
                ("2026-03-29T00:59:59Z", ""),
                ("2026-03-29T01:00:00Z", "2026-03-29T04:00:00Z"),
            ],
        );
        let within = hours("02:15", "02:45", "Europe/Berlin");
        ends(&within, &[("2026-03-29T01:00:00Z", "")]);
    }

    #[test]
    fn clocks_are_set_at_midnight_and_by_half_an_hour() {
        // In Beirut midnight does not exist, and in autumn the hour before it exists twice.
        let night = hours("23:30", "06:00", "Asia/Beirut");
        ends(
            &night,
            &[
                ("2026-03-28T21:30:00Z", "2026-03-29T03:00:00Z"),
                ("2026-03-28T22:10:00Z", "2026-03-29T03:00:00Z"),
                ("2026-10-24T20:29:59Z", ""),
                ("2026-10-24T20:30:00Z", "2026-10-25T04:00:00Z"),
                ("2026-10-24T21:10:00Z", "2026-10-25T04:00:00Z"),
            ],
        );
        let midnight = hours("00:00", "05:00", "Asia/Beirut");
        ends(
            &midnight,
            &[
                ("2026-03-28T21:59:59Z", ""),
                ("2026-03-28T22:00:00Z", "2026-03-29T02:00:00Z"),
            ],
        );
        // Lord Howe goes back from 2:00 to 1:30: 1:45 is at 14:45 and at 15:15 UTC.
        let half = hours("23:00", "01:45", "Australia/Lord_Howe");
        ends(
            &half,
            &[
                ("2026-04-04T14:50:00Z", "2026-04-04T15:15:00Z"),
                ("2026-04-04T15:15:00Z", ""),
            ],
        );
    }

    #[test]
    fn it_is_quiet_when_clocks_say_so_but_for_the_hour_in_which_they_are_set() {
        let zones = [
            "Europe/Berlin",
            "Asia/Beirut",
            "America/Santiago",
            "Africa/Casablanca",
        ];
        for zone in zones {
            let hours = hours("22:00", "07:00", zone);
            let mut set = 0;
            // Every 47 minutes of a year.
            for at in (1_767_225_600_000..1_798_761_600_000).step_by(47 * 60_000) {
                let now = Timestamp::from_millisecond(at).unwrap();
                let clock = hours.time_zone.to_datetime(now).time();
                let end = hours.end_at(at.unsigned_abs());
                assert!(end.is_none_or(|end| end > at.unsigned_abs()));
                if end.is_some() != (clock >= hours.from || clock < hours.to) {
                    let hour = jiff::SignedDuration::from_hours(1);
                    let jump = hours.time_zone.following(now - hour).next().unwrap();
                    assert!(jump.timestamp() <= now + hour, "{now} in {zone}");
                    set += 1;
                }
            }
            assert!(set <= 4, "{set} in {zone}");
        }
    }
}
