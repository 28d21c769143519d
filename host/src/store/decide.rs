//! What a commit does to what is there: the same in every store that can look at its entries while
//! it decides. Nothing is changed here, so a refusal leaves nothing half done.

use crate::{
    core::state::{EXTENT, Extent, Record, id_name, once_name, record_name},
    ports::{Commit, CommitError, HistoryWrites, Range, Seen, Version, Write},
    transactions::added,
};
use std::borrow::Cow;

/// How long expired entries are kept, in milliseconds: an event that was received before may still
/// be handled, and is to see what it would have seen then.
pub(super) const KEEP_EXPIRED_MS: u64 = 60_000;

/// How many entries that a history does not keep any more one commit removes, so that none takes
/// long.
const TRIMMED: u64 = 1_000;

/// An entry that has not expired.
pub(super) struct Live<'a> {
    pub(super) value: Cow<'a, str>,
    pub(super) version: Version,
    pub(super) expires_at: Option<u64>,
}

/// The entries of one partition, as they are before a commit.
pub(super) trait Entries {
    /// Why they cannot be looked at.
    type Error;

    fn live(&self, name: &str, at_ms: u64) -> Result<Option<Live<'_>>, Self::Error>;

    /// Tells whether a range has these names in these versions, and no other.
    fn range_is(
        &self,
        range: &Range,
        at_ms: u64,
        names: &[(String, Version)],
    ) -> Result<bool, Self::Error>;
}

/// What a name is to have: a text and when it expires, or nothing.
pub(super) type Change<'a> = (Cow<'a, str>, Option<(Cow<'a, str>, Option<u64>)>);

/// Why there is no decision.
pub(super) enum Undecided<E> {
    /// The commit is refused.
    Refused(CommitError),
    /// The entries cannot be looked at.
    Failed(E),
}

/// Returns what a commit changes.
pub(super) fn decide<'a, E: Entries>(
    entries: &E,
    commit: &Commit<'a>,
) -> Result<Vec<Change<'a>>, Undecided<E::Error>> {
    let at_ms = commit.at_ms;
    let live = |name: &str| entries.live(name, at_ms).map_err(Undecided::Failed);
    for seen in commit.seen {
        let holds = match seen {
            Seen::Key(name, version) => live(name)?.map(|live| live.version) == *version,
            Seen::Range(range, names) => entries
                .range_is(range, at_ms, names)
                .map_err(Undecided::Failed)?,
        };
        if !holds {
            return Err(Undecided::Refused(CommitError::Conflict));
        }
    }
    let mut changes = Vec::with_capacity(commit.writes.len() + commit.history.appends.len() * 2);
    for (name, write) in commit.writes {
        let to = match write {
            Write::Delete => None,
            Write::Set(value, expires_at) => Some((Cow::Borrowed(value.as_str()), *expires_at)),
            Write::Add(delta) => {
                let before = live(name)?;
                let sum = added(before.as_ref().map(|live| &*live.value), *delta)
                    .map_err(|why| Undecided::Refused(CommitError::Invalid(why)))?;
                Some((Cow::Owned(sum), before.and_then(|live| live.expires_at)))
            }
        };
        changes.push((Cow::Borrowed(name.as_str()), to));
    }
    if !commit.history.is_empty() {
        append(entries, commit.history, at_ms, &mut changes).map_err(Undecided::Failed)?;
    }
    Ok(changes)
}

/// Adds what is appended to a history, and takes away what it does not keep any more.
fn append<'a, E: Entries>(
    entries: &E,
    history: &'a HistoryWrites,
    at_ms: u64,
    changes: &mut Vec<Change<'a>>,
) -> Result<(), E::Error> {
    let before = entries.live(EXTENT, at_ms)?;
    let mut extent = before
        .and_then(|live| Extent::parse(&live.value))
        .unwrap_or_default();
    if let Some(retention) = history.retention {
        extent.retention = retention;
    }
    let stored = extent.next;
    let set = |name: String, text: String| (Cow::Owned(name), Some((Cow::Owned(text), None)));
    for (id, key, record) in &history.appends {
        extent.last_ms = extent.last_ms.max(at_ms);
        let name = record_name(extent.next);
        changes.push(set(id_name(id), name.clone()));
        changes.push(set(name, format!("{} {record}", extent.last_ms)));
        if let Some(key) = key {
            changes.push(set(once_name(key), id.clone()));
        }
        extent.next += 1;
    }
    // What is not kept is not seen from now on, and never again; it is taken away bit by bit. What is
    // appended by this commit is left to the next one.
    extent.first = extent.first_counted();
    let end = stored.min(extent.stored.saturating_add(TRIMMED));
    while extent.stored < end {
        let name = record_name(extent.stored);
        let record = entries.live(&name, at_ms)?;
        let record = record.and_then(|live| Record::parse(&live.value));
        if let Some(record) = record {
            if extent.stored >= extent.first && !extent.is_too_old(record.at_ms, at_ms) {
                break;
            }
            changes.push((Cow::Owned(id_name(&record.id)), None));
            // The key may have been used again, once the entry was not seen any more.
            let once = once_name(&record.key);
            let known = entries.live(&once, at_ms)?;
            let used = |key: &Option<String>| key.as_deref() == Some(record.key.as_str());
            let again = history.appends.iter().any(|(_, key, _)| used(key));
            if !again && known.is_some_and(|known| known.value == record.id) {
                changes.push((Cow::Owned(once), None));
            }
        }
        // An amendment of what is taken away in the same commit comes before this, and is undone.
        changes.push((Cow::Owned(name), None));
        extent.stored += 1;
        extent.first = extent.first.max(extent.stored);
    }
    changes.push(set(EXTENT.to_owned(), extent.to_string()));
    Ok(())
}
