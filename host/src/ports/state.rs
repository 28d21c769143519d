//! State: what a handler sees of it, and what keeps it.

use crate::core::{
    names::PluginName,
    state::{Mark, Retention, Timer},
};
use futures_util::future::{BoxFuture, ready};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// Why a capability refused or could not do what was asked; the codes are those of `fault` in
/// `wit/types.wit`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Fault {
    /// `INVALID`, `TOO_LARGE`, `TOO_MANY`, `UNAVAILABLE`, `CONFLICT` or `NOT_GRANTED`.
    pub code: &'static str,
    /// For the plugin's author.
    pub message: String,
}

impl Fault {
    /// Returns a fault.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

// ---- what a handler sees -------------------------------------------------------------------------

/// A handler's view of stored state: what is committed, and its own staged writes over it.
pub trait StateAccess: KvAccess + HistoryAccess + TimersAccess {}

impl<T: KvAccess + HistoryAccess + TimersAccess> StateAccess for T {}

/// The semantics and the limits are those of `kv` in `wit/capabilities.wit`.
pub trait KvAccess: Send + Sync {
    /// Returns the value of a key.
    fn get<'a>(
        &'a self,
        partition: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, Fault>>;

    /// Stages a value, for `ttl_ms` after the event's time or for ever.
    fn set(
        &self,
        partition: &str,
        key: &str,
        value: String,
        ttl_ms: Option<u64>,
    ) -> Result<(), Fault>;

    /// Stages a deletion.
    fn delete(&self, partition: &str, key: &str) -> Result<(), Fault>;

    /// Stages an addition.
    fn add(&self, partition: &str, key: &str, delta: i64) -> Result<(), Fault>;

    /// Returns a page of keys and values.
    fn list<'a>(
        &'a self,
        partition: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, Fault>>;
}

/// Which entries of a history are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The newest ones before a position, or of all; the newest comes first.
    Before(Option<u64>),
    /// The oldest ones after a position, or of all; the oldest comes first.
    After(Option<u64>),
}

/// An entry of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the history. That of one staged by this handler is right if it commits.
    pub position: u64,
    /// Its id.
    pub id: String,
    /// When it was appended, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// What has become of it.
    pub mark: Mark,
    /// What the plugin appended, JSON; `null` once it is redacted.
    pub entry: String,
}

/// What came of an entry that was to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The entry's id.
    pub id: String,
    /// Whether it is new; otherwise one was appended with the same idempotency key before.
    pub is_new: bool,
}

/// The semantics and the limits are those of `history` in `wit/capabilities.wit`.
pub trait HistoryAccess: Send + Sync {
    /// Stages an entry.
    fn append<'a>(
        &'a self,
        partition: &'a str,
        entry: String,
        key: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Appended, Fault>>;

    /// Stages how much is kept.
    fn retain(&self, partition: &str, retention: Retention) -> Result<(), Fault>;

    /// Returns a page of entries.
    fn page<'a>(
        &'a self,
        partition: &'a str,
        page: Page,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Entry>, Fault>>;

    /// Returns one entry.
    fn entry<'a>(
        &'a self,
        partition: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Entry>, Fault>>;

    /// Stages another text for an entry, or `null` where it is to be redacted; tells whether there
    /// is such an entry that has not been redacted.
    fn change<'a>(
        &'a self,
        partition: &'a str,
        id: &'a str,
        entry: Option<String>,
    ) -> BoxFuture<'a, Result<bool, Fault>>;

    /// Returns how many entries there are.
    fn count<'a>(&'a self, partition: &'a str) -> BoxFuture<'a, Result<u64, Fault>>;
}

/// The semantics and the limits are those of `timers` in `wit/capabilities.wit`.
pub trait TimersAccess: Send + Sync {
    /// Stages a timer, in the place of one of that name.
    fn schedule(&self, partition: &str, name: &str, timer: Timer) -> Result<(), Fault>;

    /// Stages that there is none of that name.
    fn cancel(&self, partition: &str, name: &str) -> Result<(), Fault>;

    /// Returns the timer of a name.
    fn timer<'a>(
        &'a self,
        partition: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Timer>, Fault>>;
}

// ---- what keeps it -------------------------------------------------------------------------------

/// A partition of one plugin: the unit of consistency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOf<'a> {
    /// Whose it is.
    pub plugin: &'a PluginName,
    /// What the plugin calls it.
    pub name: &'a str,
}

/// When a text was written: a number that only grows within a partition, under an epoch that is
/// drawn at random when the partition begins, so that one that ended and began anew is not mistaken
/// for the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Of the partition.
    pub epoch: u64,
    /// Within the partition.
    pub number: u64,
}

/// A text and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The text.
    pub value: String,
    /// When it was written.
    pub version: Version,
}

/// A page of names that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// What the names begin with.
    pub prefix: String,
    /// They come after this one; before it, where they are asked for backwards.
    pub after: Option<String>,
    /// So many at most.
    pub limit: usize,
    /// Whether the last ones come first.
    pub backwards: bool,
}

impl Range {
    /// Returns the bounds of the range in the order of the names.
    #[must_use]
    pub fn bounds(&self) -> (Bound<String>, Bound<String>) {
        let first = Bound::Included(self.prefix.clone());
        let end = match end_of(&self.prefix) {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        match &self.after {
            None => (first, end),
            // Beyond the prefix on the far side: the whole prefix, or nothing of it.
            Some(after) if self.backwards => match &end {
                Bound::Excluded(end) if after >= end => (first, Bound::Excluded(end.clone())),
                _ if *after <= self.prefix => (first.clone(), Bound::Excluded(self.prefix.clone())),
                _ => (first, Bound::Excluded(after.clone())),
            },
            Some(after) => match &end {
                Bound::Excluded(end) if after >= end => {
                    (Bound::Included(end.clone()), Bound::Excluded(end.clone()))
                }
                _ if *after < self.prefix => (first, end),
                _ => (Bound::Excluded(after.clone()), end),
            },
        }
    }
}

/// Returns the least text that is greater than all which begin with a prefix.
fn end_of(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // The characters that are no scalar values are left out by the range.
        if let Some(next) = (last..=char::MAX).nth(1) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

/// Something that was read and must still be true at the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A name had this version, or was absent.
    Key(String, Option<Version>),
    /// A range had these names in these versions, and no other.
    Range(Range, Vec<(String, Version)>),
}

/// A staged write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A text, and when it expires, in milliseconds since 1970 UTC.
    Set(String, Option<u64>),
    /// A deletion.
    Delete,
    /// An addition to a whole number.
    Add(i64),
}

/// What is to become of a history. Its entries get their positions at the commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryWrites {
    /// Entries: the id, the idempotency key, and the record's text without its time.
    pub appends: Vec<(String, Option<String>, String)>,
    /// How much is kept from now on.
    pub retention: Option<Retention>,
}

impl HistoryWrites {
    /// Tells whether there is nothing to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.retention.is_none()
    }
}

/// What is to be committed in one step, in one partition.
#[derive(Debug)]
pub struct Commit<'a> {
    /// Where.
    pub partition: PartitionOf<'a>,
    /// The time by which expiry is judged, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// What must still be true.
    pub seen: &'a [Seen],
    /// By name.
    pub writes: &'a BTreeMap<String, Write>,
    /// What is appended.
    pub history: &'a HistoryWrites,
    /// What is to be sent once this is committed; kept until [`StateStore::sent`].
    pub outgoing: Option<&'a str>,
    /// Who has reserved the partition; others' commits wait as long as somebody has.
    pub owner: Option<Owner>,
}

/// Somebody for whom a partition is reserved: a number that nobody else has.
pub type Owner = u64;

/// Where a commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the order of the partition's commits: it only grows, but not by one.
    pub place: u64,
    /// By how much there is more.
    pub growth: Growth,
}

/// How much more is stored, or less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// Keys, timers, and what histories are made of.
    pub entries: i64,
    /// Bytes of their names and texts.
    pub bytes: i64,
}

impl Growth {
    /// Counts an entry that is there now, of so many bytes, or is not.
    pub fn now(&mut self, bytes: Option<usize>) {
        self.count(bytes, 1);
    }

    /// Counts the entry that was there before, of so many bytes, or was not.
    pub fn before(&mut self, bytes: Option<usize>) {
        self.count(bytes, -1);
    }

    fn count(&mut self, bytes: Option<usize>, sign: i64) {
        if let Some(bytes) = bytes {
            self.entries += sign;
            self.bytes += sign * i64::try_from(bytes).unwrap_or(i64::MAX);
        }
    }
}

/// How much a plugin may store; without a bound, whatever the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateBounds {
    /// Entries: keys, timers, and what histories are made of (two for each of their entries).
    pub entries: Option<u64>,
    /// Bytes of their names and texts.
    pub bytes: Option<u64>,
}

impl StateBounds {
    /// Tells whether there is any.
    #[must_use]
    pub fn are_set(&self) -> bool {
        self.entries.is_some() || self.bytes.is_some()
    }
}

/// Why it is not known that something was committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Something that was read has changed.
    #[error("something that was read has changed")]
    Conflict,
    /// An addition to what is not a whole number, or beyond 64 bits.
    #[error("{0}")]
    Invalid(String),
    /// The store is out of reach. Its answer may have been lost, so it may have been committed.
    #[error("the store is out of reach: {0}")]
    Unavailable(String),
}

/// What was committed, and perhaps not sent before its host ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// Whose it is.
    pub plugin: PluginName,
    /// Where it was committed.
    pub partition: String,
    /// The place of the commit.
    pub place: u64,
    /// What the commit said.
    pub outgoing: String,
}

/// A timer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTimer {
    /// Whose it is.
    pub plugin: PluginName,
    /// Where it is.
    pub partition: String,
    /// What the plugin calls it.
    pub name: String,
    /// When it was written.
    pub version: Version,
    /// The timer.
    pub timer: Timer,
}

/// Timers that are due, and when there may be more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueTimers {
    /// Those that are due, the earliest first.
    pub timers: Vec<DueTimer>,
    /// When the next one is, in milliseconds since 1970 UTC.
    pub next_ms: Option<u64>,
}

/// One entry of a partition, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Whose it is.
    pub plugin: PluginName,
    /// Where it is.
    pub partition: String,
    /// Its name; see `core::state`.
    pub name: String,
    /// Its text.
    pub text: String,
    /// When it expires, in milliseconds since 1970 UTC.
    pub expires_at: Option<u64>,
}

/// What takes entries, one after the other; an error ends it.
pub type Visitor<'a> = dyn FnMut(Stored) -> Result<(), String> + Send + 'a;

/// Where state is kept. Every backend passes the suite in `store::suite`.
pub trait StateStore: StateVersions {
    /// Returns the text of a name that has not expired by `at_ms`.
    fn read<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        name: &'a str,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Versioned>, Fault>>;

    /// Returns the names of a range that have not expired by `at_ms`.
    fn list<'a>(
        &'a self,
        partition: PartitionOf<'a>,
        range: &'a Range,
        at_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<(String, Versioned)>, Fault>>;

    /// Commits all of it or nothing, in one step.
    fn commit<'a>(&'a self, commit: Commit<'a>) -> BoxFuture<'a, Result<Committed, CommitError>>;

    /// Reserves a partition for one who commits, for some seconds, or until he has committed. Returns
    /// false when it is somebody else's. A store of one process has nothing to do: there it is enough
    /// that the process itself keeps order.
    fn reserve<'a>(
        &'a self,
        _partition: PartitionOf<'a>,
        _owner: Owner,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(ready(Ok(true)))
    }

    /// Gives up a partition that was reserved. Never waits.
    fn give_up(&self, _partition: PartitionOf<'_>, _owner: Owner) {}

    /// Tells whether what is committed is there when the host has ended, so that what was to be sent
    /// has to be committed too.
    fn outlives_the_host(&self) -> bool;

    /// Takes note that what a commit wanted sent has been. Never waits: after a crash it may be
    /// found unsent.
    fn sent(&self, partition: PartitionOf<'_>, place: u64);

    /// Returns what hosts that have ended left unsent, in the order of the commits of each
    /// partition.
    fn unsent(&self) -> BoxFuture<'_, Result<Vec<Unsent>, Fault>>;

    /// Returns timers of some plugins that are due at `now_ms`. Nobody gets them again before
    /// `until_ms`, or before they are written again.
    fn due<'a>(
        &'a self,
        plugins: &'a BTreeSet<PluginName>,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<DueTimers, Fault>>;

    /// Lets nobody get a timer before `until_ms`.
    fn postpone<'a>(&'a self, timer: &'a DueTimer, until_ms: u64) -> BoxFuture<'a, ()>;

    /// Visits the entries that have not expired by `at_ms`, those of one plugin or of all, partition by
    /// partition but in no order. What is written meanwhile is visited or not.
    fn each<'a>(
        &'a self,
        plugin: Option<&'a PluginName>,
        at_ms: u64,
        visitor: &'a mut Visitor<'_>,
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// Writes what was only noted, when the host ends.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Which version of a plugin's stored state there is.
pub trait StateVersions: Send + Sync {
    /// Returns the version that was recorded last, none where nothing is stored.
    fn stored(&self, plugin: &PluginName) -> Option<u32>;

    /// Returns all that were recorded.
    fn all_stored(&self) -> Vec<(PluginName, u32)>;

    /// Records the version that a plugin writes from now on.
    fn record(&self, plugin: &PluginName, version: u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_with_its_prefix() {
        let range = |prefix: &str, after: Option<&str>, backwards| Range {
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            limit: 9,
            backwards,
        };
        let names: BTreeSet<String> = ["a", "ha", "hb", "hc", "h\u{10ffff}", "i", "\u{10ffff}b"]
            .map(str::to_owned)
            .into();
        let within = |prefix: &str, after: Option<&str>, backwards| {
            let bounds = range(prefix, after, backwards).bounds();
            names.range(bounds).map(String::as_str).collect::<Vec<_>>()
        };
        let whole = ["ha", "hb", "hc", "h\u{10ffff}"];
        assert_eq!(within("h", None, false), whole);
        assert_eq!(within("h", None, true), whole);
        assert_eq!(within("h", Some("hb"), false), ["hc", "h\u{10ffff}"]);
        assert_eq!(within("h", Some("hb"), true), ["ha"]);
        // What lies beyond the prefix, on either side.
        assert_eq!(within("h", Some("a"), false), whole);
        assert_eq!(within("h", Some("a"), true), Vec::<&str>::new());
        assert_eq!(within("h", Some("z"), false), Vec::<&str>::new());
        assert_eq!(within("h", Some("z"), true), whole);
        assert_eq!(within("\u{10ffff}", None, false), ["\u{10ffff}b"]);
        assert_eq!(within("", Some("i"), false), ["\u{10ffff}b"]);
    }
}
