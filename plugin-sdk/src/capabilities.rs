//! What a handler asks the host: who is in a room, and what is stored.

use crate::{error::Fault, imports, placeholder};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

type Faulty<T> = Result<T, Fault>;

/// How many entries a page may have.
const PAGE: u32 = 1_000;

/// A connection in a room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The connection.
    pub connection: String,
    /// Whose it is.
    pub user: String,
    /// The user's role on it.
    pub role: String,
}

/// Who is in which room now. What the handler itself instructs is done after it has returned. Needs
/// the capability `rooms`.
#[derive(Debug, Clone, Copy)]
pub struct Rooms(pub(crate) ());

impl Rooms {
    /// Returns every connection in a room. For rooms of thousands take pages by [`Self::members_after`].
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's.
    pub fn members(&self, room: impl AsRef<str>) -> Faulty<Vec<Member>> {
        let mut all: Vec<Member> = Vec::new();
        loop {
            let after = all.last().map(|member| member.connection.clone());
            let page = self.members_after(room.as_ref(), after.as_deref(), PAGE)?;
            let done = page.len() < PAGE as usize;
            all.extend(page);
            if done {
                return Ok(all);
            }
        }
    }

    /// Returns a page of the connections in a room.
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's, or `limit` is not 1 to 1,000.
    pub fn members_after(
        &self,
        room: impl AsRef<str>,
        after: Option<&str>,
        limit: u32,
    ) -> Faulty<Vec<Member>> {
        let page = imports::members(room.as_ref(), after, limit)?;
        serde_json::from_str(&page).map_err(|error| Fault::Invalid(format!("members: {error}")))
    }

    /// Returns the different users in a room, sorted.
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's.
    pub fn users(&self, room: impl AsRef<str>) -> Faulty<Vec<String>> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().cloned();
            let page = imports::users(room.as_ref(), after.as_deref(), PAGE)?;
            let done = page.len() < PAGE as usize;
            all.extend(page);
            if done {
                return Ok(all);
            }
        }
    }

    /// Returns how many different users are in a room.
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's.
    pub fn count_users(&self, room: impl AsRef<str>) -> Faulty<u32> {
        imports::count_users(room.as_ref())
    }

    /// Tells whether a connection is in a room.
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's.
    pub fn has_connection(
        &self,
        room: impl AsRef<str>,
        connection: impl AsRef<str>,
    ) -> Faulty<bool> {
        imports::has_connection(room.as_ref(), connection.as_ref())
    }

    /// Tells whether any connection of a user is in a room.
    ///
    /// # Errors
    /// When the room's prefix is not the plugin's.
    pub fn has_user(&self, room: impl AsRef<str>, user: impl AsRef<str>) -> Faulty<bool> {
        imports::has_user(room.as_ref(), user.as_ref())
    }

    /// Returns the rooms of the plugin's that a connection is in, sorted.
    ///
    /// # Errors
    /// None that the present host has.
    pub fn of_connection(&self, connection: impl AsRef<str>) -> Faulty<Vec<String>> {
        imports::of_connection(connection.as_ref())
    }

    /// Returns the rooms of the plugin's that any connection of a user is in, sorted.
    ///
    /// # Errors
    /// When the user's id is none.
    pub fn of_user(&self, user: impl AsRef<str>) -> Faulty<Vec<String>> {
        imports::of_user(user.as_ref())
    }

    /// Returns a user's connections, sorted.
    ///
    /// # Errors
    /// When the user's id is none.
    pub fn connections_of_user(&self, user: impl AsRef<str>) -> Faulty<Vec<String>> {
        imports::connections_of_user(user.as_ref())
    }
}

/// Stored values of one partition, as JSON. A handler is a transaction: it sees what is committed
/// and its own writes, and those are committed together when it returns `Ok`; the host runs it again
/// when something that it read has changed. It may write one partition only, and read others. Needs
/// the capability `kv`.
#[derive(Debug, Clone)]
pub struct Kv {
    pub(crate) partition: String,
}

impl Kv {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// See [`Fault`]; a value that is not a `T` is [`Fault::Invalid`].
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Faulty<Option<T>> {
        let key = key.as_ref();
        imports::kv_get(&self.partition, key)?
            .map(|text| parse(key, &text))
            .transpose()
    }

    /// Sets a key for ever.
    ///
    /// # Errors
    /// See [`Fault`]; more than 65,536 bytes of JSON are [`Fault::TooLarge`].
    pub fn set<T: Serialize + ?Sized>(&self, key: impl AsRef<str>, value: &T) -> Faulty<()> {
        imports::kv_set(&self.partition, key.as_ref(), &text(value)?, None)
    }

    /// Sets a key for a time, at least a millisecond, counted from the event's.
    ///
    /// # Errors
    /// Those of [`Self::set`].
    pub fn set_for<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<str>,
        value: &T,
        time: Duration,
    ) -> Faulty<()> {
        let ttl = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        imports::kv_set(&self.partition, key.as_ref(), &text(value)?, Some(ttl))
    }

    /// Deletes a key; one that is absent is not an error.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn delete(&self, key: impl AsRef<str>) -> Faulty<()> {
        imports::kv_delete(&self.partition, key.as_ref())
    }

    /// Adds to the whole number at a key, absent counting as 0. Reads nothing, so any number of
    /// handlers can do it at the same time without being run again.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn add(&self, key: impl AsRef<str>, delta: i64) -> Faulty<()> {
        imports::kv_add(&self.partition, key.as_ref(), delta)
    }

    /// Returns a page of the keys that begin with `prefix`, in byte order, with their values;
    /// `after` is the last key of the page before, `limit` 1 to 1,000.
    ///
    /// # Errors
    /// Those of [`Self::get`].
    pub fn list<T: DeserializeOwned>(
        &self,
        prefix: impl AsRef<str>,
        after: Option<&str>,
        limit: u32,
    ) -> Faulty<Vec<(String, T)>> {
        imports::kv_list(&self.partition, prefix.as_ref(), after, limit)?
            .into_iter()
            .map(|(key, text)| {
                let value = parse(&key, &text)?;
                Ok((key, value))
            })
            .collect()
    }
}

pub(crate) fn parse<T: DeserializeOwned>(key: &str, text: &str) -> Faulty<T> {
    serde_json::from_str(text)
        .map_err(|error| Fault::Invalid(format!("the value of `{key}`: {error}")))
}

pub(crate) fn text<T: Serialize + ?Sized>(value: &T) -> Faulty<String> {
    let text = serde_json::to_string(value)
        .map_err(|error| Fault::Invalid(format!("the value is not JSON: {error}")))?;
    match placeholder::find(&text) {
        Ok(found) if found.is_empty() => Ok(text),
        _ => Err(Fault::Binary),
    }
}
