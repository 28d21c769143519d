//! What a handler asks of histories.

use crate::{
    capabilities::{parse, text},
    error::Fault,
    imports,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

type Faulty<T> = Result<T, Fault>;

/// An entry of a history.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Entry<T> {
    /// Its place in the history: grows by one, without gaps.
    pub position: u64,
    /// Its id.
    pub id: String,
    /// When it was appended, in milliseconds since 1970 UTC.
    pub at: u64,
    /// When it was amended last.
    pub amended: Option<u64>,
    /// When it was redacted; `entry` is `None` then.
    pub redacted: Option<u64>,
    /// What was appended.
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    pub entry: Option<T>,
}

/// What came of an entry that was to be appended once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The entry's id.
    pub id: String,
    /// Whether it is new; otherwise it was appended before with the same key.
    pub is_new: bool,
}

/// The history of one partition: entries that come one after the other, such as a room's messages.
/// Part of the same transactions as [`Kv`](crate::Kv); appending reads nothing, so that any number of
/// handlers may append at the same time. Needs the capability `history`.
///
/// ```
/// # use switchboard_plugin::{Ack, Cx, Result};
/// fn message(cx: &mut Cx, text: String) -> Result<Ack> {
///     let id = cx.history("room:42").append(&text)?;
///     let newest = cx.history("room:42").newest::<String>(50)?;
///     cx.emit("message").to_room("room:42").send(&text)?;
///     Ack::with(&serde_json::json!({ "id": id, "shown": newest.len() }))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct History {
    pub(crate) partition: String,
}

impl History {
    /// Appends an entry and returns its id. Its position is fixed when the handler's work is
    /// committed.
    ///
    /// # Errors
    /// See [`Fault`]; more than 65,536 bytes of JSON are [`Fault::TooLarge`].
    pub fn append<T: Serialize + ?Sized>(&self, entry: &T) -> Faulty<String> {
        let (id, _) = imports::history_append(&self.partition, &text(entry)?, None)?;
        Ok(id)
    }

    /// Appends an entry, unless one is there that was appended with the same key, such as an id that
    /// the client made up for a message and sends again with it.
    ///
    /// # Errors
    /// Those of [`Self::append`]; a key has 1 to 512 bytes and no control characters.
    pub fn append_once<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<str>,
        entry: &T,
    ) -> Faulty<Appended> {
        let key = Some(key.as_ref());
        let (id, is_new) = imports::history_append(&self.partition, &text(entry)?, key)?;
        Ok(Appended { id, is_new })
    }

    /// Keeps so many entries from now on (none with 0), those younger than so long, or both;
    /// everything with neither. Costs nothing beside an append, so say it with each.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn keep(&self, count: Option<u64>, age: Option<Duration>) -> Faulty<()> {
        let age = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        imports::history_retain(&self.partition, count, age)
    }

    /// Returns the newest entries, the newest first; at most `limit`, 1 to 1,000.
    ///
    /// # Errors
    /// See [`Fault`]; an entry that is not a `T` is [`Fault::Invalid`].
    pub fn newest<T: DeserializeOwned>(&self, limit: u32) -> Faulty<Vec<Entry<T>>> {
        self.page(None, None, limit)
    }

    /// Returns the newest entries before a position, the newest first.
    ///
    /// # Errors
    /// Those of [`Self::newest`].
    pub fn before<T: DeserializeOwned>(&self, position: u64, limit: u32) -> Faulty<Vec<Entry<T>>> {
        self.page(Some(position), None, limit)
    }

    /// Returns the oldest entries after a position, the oldest first; after 0, the oldest of all.
    ///
    /// # Errors
    /// Those of [`Self::newest`].
    pub fn after<T: DeserializeOwned>(&self, position: u64, limit: u32) -> Faulty<Vec<Entry<T>>> {
        self.page(None, Some(position), limit)
    }

    fn page<T: DeserializeOwned>(
        &self,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Faulty<Vec<Entry<T>>> {
        parse(
            "history",
            &imports::history_page(&self.partition, before, after, limit)?,
        )
    }

    /// Returns one entry.
    ///
    /// # Errors
    /// Those of [`Self::newest`].
    pub fn get<T: DeserializeOwned>(&self, id: impl AsRef<str>) -> Faulty<Option<Entry<T>>> {
        let entry = imports::history_get(&self.partition, id.as_ref())?;
        entry.map(|entry| parse("history", &entry)).transpose()
    }

    /// Replaces what an entry says; its position, id and time stay. False where there is no such
    /// entry, or it has been redacted.
    ///
    /// # Errors
    /// Those of [`Self::append`].
    pub fn amend<T: Serialize + ?Sized>(&self, id: impl AsRef<str>, entry: &T) -> Faulty<bool> {
        imports::history_amend(&self.partition, id.as_ref(), &text(entry)?)
    }

    /// Removes what an entry says, for good; its place stays. False where there is no such entry, or
    /// it has been redacted.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn redact(&self, id: impl AsRef<str>) -> Faulty<bool> {
        imports::history_redact(&self.partition, id.as_ref())
    }

    /// Returns how many entries there are.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn count(&self) -> Faulty<u64> {
        imports::history_count(&self.partition)
    }
}
