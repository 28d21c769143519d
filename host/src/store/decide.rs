//! What a commit does to what is there: the same in every store that can look at its entries while
//! it decides. Nothing is changed here, so a refusal leaves nothing half done.

use crate::{
    ports::{Commit, CommitError, Range, Seen, Version, Write},
    transactions::added,
};
use std::borrow::Cow;

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

    fn live(&self, key: &str, at_ms: u64) -> Result<Option<Live<'_>>, Self::Error>;

    /// Tells whether a range has these keys in these versions, and no other.
    fn range_is(
        &self,
        range: &Range,
        at_ms: u64,
        keys: &[(String, Version)],
    ) -> Result<bool, Self::Error>;
}

/// What a key is to be: a value and when it expires, or nothing.
pub(super) type Change<'a> = (&'a str, Option<(Cow<'a, str>, Option<u64>)>);

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
    let live = |key: &str| entries.live(key, at_ms).map_err(Undecided::Failed);
    for seen in commit.seen {
        let holds = match seen {
            Seen::Key(key, version) => live(key)?.map(|live| live.version) == *version,
            Seen::Range(range, keys) => entries
                .range_is(range, at_ms, keys)
                .map_err(Undecided::Failed)?,
        };
        if !holds {
            return Err(Undecided::Refused(CommitError::Conflict));
        }
    }
    let mut changes = Vec::with_capacity(commit.writes.len());
    for (key, write) in commit.writes {
        let to = match write {
            Write::Delete => None,
            Write::Set(value, expires_at) => Some((Cow::Borrowed(value.as_str()), *expires_at)),
            Write::Add(delta) => {
                let before = live(key)?;
                let sum = added(before.as_ref().map(|live| &*live.value), *delta)
                    .map_err(|why| Undecided::Refused(CommitError::Invalid(why)))?;
                Some((Cow::Owned(sum), before.and_then(|live| live.expires_at)))
            }
        };
        changes.push((key.as_str(), to));
    }
    Ok(changes)
}
