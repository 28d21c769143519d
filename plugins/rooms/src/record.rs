//! What is known of a room.

use crate::history::{forget_later, newest};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use switchboard_plugin::{Cx, Error, Id, Kv, Result};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) created_by: Option<Id>,
    pub(crate) created_at: String,
    pub(crate) metadata: Metadata,
    pub(crate) visibility: Visibility,
    /// Who may enter a private room.
    pub(crate) members: Vec<Id>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Visibility {
    #[default]
    Public,
    Private,
}

/// An object of whoever made it. Kept as text, whatever its size and shape.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Metadata(Box<RawValue>);

impl Default for Metadata {
    fn default() -> Self {
        Self(serde_json::from_str("{}").unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        if text.get().starts_with('{') {
            Ok(Self(text))
        } else {
            Err(serde::de::Error::custom("expected an object"))
        }
    }
}

impl Record {
    pub(crate) fn new(cx: &Cx, id: Id, created_by: Option<Id>) -> Self {
        Self {
            name: id.to_string(),
            id,
            namespace: "default".to_owned(),
            created_by,
            created_at: cx.timestamp(),
            metadata: Metadata::default(),
            visibility: Visibility::Public,
            members: Vec::new(),
        }
    }

    pub(crate) fn find(cx: &Cx, id: &Id) -> Result<Option<Self>> {
        Ok(records(cx).get(key(id))?)
    }

    pub(crate) fn get(cx: &Cx, id: &Id) -> Result<Self> {
        Self::find(cx, id)?.ok_or_else(|| Error::not_found(format!("there is no room `{id}`")))
    }

    /// Keeps a new room. Its messages are those from here on, also when a room of this id has been
    /// deleted: what was said then is in another partition, and stays there for a moment.
    pub(crate) fn create(&self, cx: &Cx) -> Result<()> {
        let before = Before {
            counted: Counters::read(cx, &self.id)?.messages,
            position: newest(&cx.history(room(&self.id)))?,
        };
        if before != Before::default() {
            records(cx).set(before_key(&self.id), &before)?;
        }
        Ok(records(cx).set(key(&self.id), self)?)
    }

    pub(crate) fn delete(&self, cx: &Cx) -> Result<()> {
        records(cx).delete(before_key(&self.id))?;
        records(cx).delete(key(&self.id))?;
        forget_later(cx, &self.id)
    }

    fn before(&self, cx: &Cx) -> Result<Before> {
        Ok(records(cx).get(before_key(&self.id))?.unwrap_or_default())
    }

    /// Returns the position of the room's first message.
    pub(crate) fn first_position(&self, cx: &Cx) -> Result<u64> {
        Ok(self.before(cx)?.position + 1)
    }

    /// Returns the number of messages, and when the last one was, or else when the room was made.
    pub(crate) fn activity(&self, cx: &Cx) -> Result<(u64, String)> {
        let before = self.before(cx)?.counted;
        let Counters { messages, last } = Counters::read(cx, &self.id)?;
        // Times of this form sort as texts.
        let last = last.unwrap_or_default().max(self.created_at.clone());
        Ok((messages.saturating_sub(before), last))
    }

    pub(crate) fn admits(&self, user: &Id) -> bool {
        self.visibility == Visibility::Public || self.members.contains(user)
    }
}

/// What there was under a room's id before the room was made.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Before {
    /// Messages.
    counted: u64,
    /// The position of the last one.
    position: u64,
}

/// What changes with every message of a room. It is written without being read, so that messages
/// never wait for each other.
pub(crate) struct Counters {
    messages: u64,
    last: Option<String>,
}

impl Counters {
    fn read(cx: &Cx, room: &Id) -> Result<Self> {
        let counters = cx.kv(self::room(room));
        Ok(Self {
            messages: counters.get("messages")?.unwrap_or(0),
            last: counters.get("last")?,
        })
    }

    pub(crate) fn count(cx: &Cx, room: &Id, at: &str) -> Result<()> {
        let counters = cx.kv(self::room(room));
        counters.add("messages", 1)?;
        Ok(counters.set("last", at)?)
    }
}

/// The partition of all rooms' records.
pub(crate) fn records(cx: &Cx) -> Kv {
    cx.kv("rooms")
}

pub(crate) fn key(id: &Id) -> String {
    format!("room:{id}")
}

fn before_key(id: &Id) -> String {
    format!("before:{id}")
}

/// The room that connections join, and the name of its partition.
pub(crate) fn room(id: &Id) -> String {
    format!("room:{id}")
}
