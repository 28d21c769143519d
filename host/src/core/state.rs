//! What a partition holds, as every store keeps it: texts by name, in the byte order of the names.
//! The first character of a name tells what it is.
//!
//! | name | text |
//! |---|---|
//! | `k` and a key | a value of `kv` |
//! | `m` | what there is of the history: [`Extent`] |
//! | `h` and a position of 16 hexadecimal digits | an entry of the history: [`Record`] |
//! | `i` and an entry's id | its position, as in its name |
//! | `o` and an idempotency key | the id of the entry that was appended with it |
//! | `t` and a name | a timer: [`Timer`] |
//! | `f` and the id of a firing | nothing: that timer of another partition has been handled here |

use std::fmt::{self, Display};

/// The name of the history's extent.
pub const EXTENT: &str = "m";
/// What the names of timers begin with.
pub const TIMER: char = 't';

/// Returns the name of a key's value.
#[must_use]
pub fn key_name(key: &str) -> String {
    prefixed('k', key)
}

/// Returns the name of a history entry.
#[must_use]
pub fn record_name(position: u64) -> String {
    format!("h{position:016x}")
}

/// What the names of history entries begin with.
pub const RECORDS: &str = "h";

/// Returns the position in the name of a history entry.
#[must_use]
pub fn position_of(record_name: &str) -> Option<u64> {
    u64::from_str_radix(record_name.strip_prefix('h')?, 16).ok()
}

/// Returns the name of what tells an entry's position.
#[must_use]
pub fn id_name(id: &str) -> String {
    prefixed('i', id)
}

/// Returns the name of what remembers an idempotency key.
#[must_use]
pub fn once_name(key: &str) -> String {
    prefixed('o', key)
}

/// Returns the name of a timer.
#[must_use]
pub fn timer_name(name: &str) -> String {
    prefixed(TIMER, name)
}

/// Returns the name of what remembers that a timer of another partition has been handled.
#[must_use]
pub fn fired_name(firing: &str) -> String {
    prefixed('f', firing)
}

fn prefixed(prefix: char, rest: &str) -> String {
    let mut name = String::with_capacity(rest.len() + 1);
    name.push(prefix);
    name.push_str(rest);
    name
}

/// How much of a history is kept; without a limit, all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many entries.
    pub count: Option<u64>,
    /// Entries younger than so many milliseconds.
    pub age_ms: Option<u64>,
}

/// What there is of a history. Positions have no gaps, and times do not decrease with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The position of the oldest entry that is kept, or was when the extent was written.
    pub first: u64,
    /// The position of the oldest one that is still stored.
    pub stored: u64,
    /// The position of the next one that is appended.
    pub next: u64,
    /// The time of the newest one, in milliseconds since 1970 UTC.
    pub last_ms: u64,
    /// What is kept.
    pub retention: Retention,
}

impl Default for Extent {
    fn default() -> Self {
        Self {
            first: 1,
            stored: 1,
            next: 1,
            last_ms: 0,
            retention: Retention::default(),
        }
    }
}

impl Extent {
    /// Returns the position of the oldest entry that is within the limit of the count.
    #[must_use]
    pub fn first_counted(&self) -> u64 {
        let kept = self.retention.count.unwrap_or(u64::MAX);
        self.first.max(self.next.saturating_sub(kept))
    }

    /// Tells whether an entry is too old to be kept.
    #[must_use]
    pub fn is_too_old(&self, entry_ms: u64, now_ms: u64) -> bool {
        let age = self.retention.age_ms;
        age.is_some_and(|age| entry_ms.saturating_add(age) <= now_ms)
    }

    /// Returns what a text says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut part = || parts.next();
        Some(Self {
            first: part()?.parse().ok()?,
            stored: part()?.parse().ok()?,
            next: part()?.parse().ok()?,
            last_ms: part()?.parse().ok()?,
            retention: Retention {
                count: number_or_none(part()?)?,
                age_ms: number_or_none(part()?)?,
            },
        })
    }
}

impl Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, age) = (self.retention.count, self.retention.age_ms);
        let Self { first, stored, .. } = self;
        write!(f, "{first} {stored} {} {} ", self.next, self.last_ms)?;
        write!(f, "{} {}", NumberOrNone(count), NumberOrNone(age))
    }
}

/// What has become of a history entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is as it was appended.
    Original,
    /// It was amended last at this time.
    Amended(u64),
    /// It was redacted at this time.
    Redacted(u64),
}

/// A history entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was appended, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Its id.
    pub id: String,
    /// What has become of it.
    pub mark: Mark,
    /// The idempotency key that it was appended with; empty where there was none.
    pub key: String,
    /// What the plugin appended, JSON; `null` once it is redacted.
    pub entry: String,
}

impl Record {
    /// Returns what is fixed before the commit, which puts the time and a space before it.
    #[must_use]
    pub fn untimed(id: &str, mark: Mark, key: &str, entry: &str) -> String {
        let mark = match mark {
            Mark::Original => "-".to_owned(),
            Mark::Amended(at) => format!("a{at}"),
            Mark::Redacted(at) => format!("r{at}"),
        };
        format!("{id} {mark}\n{key}\n{entry}")
    }

    /// Returns what a text says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_once('\n')?;
        let (key, entry) = rest.split_once('\n')?;
        let mut parts = head.split(' ');
        let (at_ms, id, mark) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            at_ms: at_ms.parse().ok()?,
            id: id.to_owned(),
            mark: match mark.split_at_checked(1)? {
                ("-", "") => Mark::Original,
                ("a", at) => Mark::Amended(at.parse().ok()?),
                ("r", at) => Mark::Redacted(at.parse().ok()?),
                _ => return None,
            },
            key: key.to_owned(),
            entry: entry.to_owned(),
        })
    }
}

impl Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = Self::untimed(&self.id, self.mark, &self.key, &self.entry);
        write!(f, "{} {rest}", self.at_ms)
    }
}

/// A timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// When it fires next, in milliseconds since 1970 UTC.
    pub due_ms: u64,
    /// How long after that it fires again; once, without.
    pub every_ms: Option<u64>,
    /// What the plugin gets back, JSON.
    pub payload: String,
}

impl Timer {
    /// Returns the timer as it is after it has fired; none, if that was the only time. Times that
    /// are over by then are left out.
    #[must_use]
    pub fn after_firing(&self, now_ms: u64) -> Option<Self> {
        let every = self.every_ms?.max(1);
        let times = now_ms.saturating_sub(self.due_ms) / every + 1;
        Some(Self {
            due_ms: self.due_ms.saturating_add(every.saturating_mul(times)),
            ..self.clone()
        })
    }

    /// Returns what a text says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, payload) = text.split_once('\n')?;
        let (due, every) = head.split_once(' ')?;
        Some(Self {
            due_ms: due.parse().ok()?,
            every_ms: number_or_none(every)?,
            payload: payload.to_owned(),
        })
    }

    /// Returns when the timer in a text fires next.
    #[must_use]
    pub fn due_of(text: &str) -> Option<u64> {
        text.split_once(' ')?.0.parse().ok()
    }
}

impl Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = NumberOrNone(self.every_ms);
        write!(f, "{} {every}\n{}", self.due_ms, self.payload)
    }
}

struct NumberOrNone(Option<u64>);

impl Display for NumberOrNone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("-"),
        }
    }
}

fn number_or_none(text: &str) -> Option<Option<u64>> {
    match text {
        "-" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_what_they_were_made_from() {
        for retention in [
            Retention::default(),
            Retention {
                count: Some(7),
                age_ms: Some(9),
            },
        ] {
            let extent = Extent {
                first: 3,
                stored: 2,
                next: 12,
                last_ms: 1_000,
                retention,
            };
            assert_eq!(Extent::parse(&extent.to_string()), Some(extent));
        }
        for mark in [Mark::Original, Mark::Amended(5), Mark::Redacted(6)] {
            let record = Record {
                at_ms: 4,
                id: "id".to_owned(),
                mark,
                key: "a key".to_owned(),
                entry: "{\n\"a\": 1}".to_owned(),
            };
            assert_eq!(Record::parse(&record.to_string()), Some(record));
        }
        for every_ms in [None, Some(60)] {
            let timer = Timer {
                due_ms: 10,
                every_ms,
                payload: "[1,\n2]".to_owned(),
            };
            let text = timer.to_string();
            assert_eq!(Timer::due_of(&text), Some(10));
            assert_eq!(Timer::parse(&text), Some(timer));
        }
        for bad in ["", "1", "1 2", "x -\n", "1 x\n", "1 id ?\n\n", "1 id \n\n"] {
            assert_eq!(Extent::parse(bad), None);
            assert_eq!(Record::parse(bad), None);
            assert_eq!(Timer::parse(bad), None);
        }
        assert_eq!(position_of(&record_name(255)), Some(255));
        assert!(record_name(9) < record_name(10) && record_name(u64::MAX) < id_name(""));
    }

    #[test]
    fn a_timer_that_repeats_leaves_out_what_it_missed() {
        let timer = |due_ms| Timer {
            due_ms,
            every_ms: Some(10),
            payload: String::new(),
        };
        for (now, next) in [(100, 110), (109, 110), (110, 120), (1_005, 1_010)] {
            assert_eq!(timer(100).after_firing(now), Some(timer(next)));
        }
        let once = Timer {
            every_ms: None,
            ..timer(100)
        };
        assert_eq!(once.after_firing(100), None);
    }
}
