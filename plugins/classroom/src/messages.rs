//! Messages, and what is said about them.

use crate::{
    session::{Session, joined_room, room},
    text::Text,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Messages of a session that are kept, at most and where the operator says nothing.
pub(crate) const KEPT: u32 = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    keep_messages: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_messages: KEPT,
        }
    }
}

/// A message, as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    user_id: Id,
    /// Its text in JSON, which goes on as it is: a late joiner is told of hundreds.
    message: Box<RawValue>,
    timestamp: String,
}

/// A message, as it is heard.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    session_code: Id,
    message_id: String,
    #[serde(flatten)]
    said: Said,
}

/// Returns the last messages of a session, the oldest first.
pub(crate) fn recent(cx: &Cx, code: &Id) -> Result<Vec<Message>> {
    let Settings { keep_messages } = cx.settings()?;
    let newest = cx.history(room(code)).newest::<Said>(keep_messages)?;
    let messages = newest.into_iter().rev().filter_map(|entry| {
        Some(Message {
            session_code: code.clone(),
            message_id: entry.id,
            said: entry.entry?,
        })
    });
    Ok(messages.collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Send {
    session_code: Id,
    message: Text<1, 4_000>,
}

/// Handles `sendMessage`.
pub(crate) fn send(cx: &mut Cx, sent: Send) -> Result<Ack> {
    let room = joined_room(cx, &sent.session_code)?;
    // So that nothing is kept of a session that ends in this moment.
    Session::get(cx, &sent.session_code)?;
    let said = Said {
        user_id: cx.user()?,
        message: to_raw_value(&sent.message)
            .map_err(|error| Error::invalid_payload(format!("`message`: {error}")))?,
        timestamp: cx.timestamp(),
    };
    let Settings { keep_messages } = cx.settings()?;
    let history = cx.history(&room);
    let message_id = history.append(&said)?;
    history.keep(Some(keep_messages.into()), None)?;
    let message = Message {
        session_code: sent.session_code,
        message_id,
        said,
    };
    cx.emit("messageReceived").to_room(room).send(&message)?;
    Ack::with(&json!({ "messageId": message.message_id }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct React {
    session_code: Id,
    message_id: Id,
    emoji: Text<1, 32>,
}

/// Handles `react`.
pub(crate) fn react(cx: &mut Cx, reaction: React) -> Result<Ack> {
    let room = room_of(cx, &reaction.session_code, &reaction.message_id)?;
    let news = json!({
        "sessionCode": reaction.session_code,
        "messageId": reaction.message_id,
        "userId": cx.user()?,
        "emoji": reaction.emoji,
    });
    cx.emit("reacted").to_room(room).send(&news)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Read {
    session_code: Id,
    message_id: Id,
}

/// Handles `messageRead`.
pub(crate) fn read(cx: &mut Cx, read: Read) -> Result<Ack> {
    let room = room_of(cx, &read.session_code, &read.message_id)?;
    let news = json!({
        "sessionCode": read.session_code,
        "messageId": read.message_id,
        "userId": cx.user()?,
    });
    cx.emit("readUpdated").to_room(room).send(&news)?;
    Ok(Ack::ok())
}

/// Returns the room of a session that this connection has joined, where this message was sent.
fn room_of(cx: &Cx, code: &Id, message: &Id) -> Result<String> {
    let room = joined_room(cx, code)?;
    if cx.history(&room).get::<IgnoredAny>(message)?.is_none() {
        return Err(Error::not_found(format!(
            "there is no message `{message}`, or it is not kept any more"
        )));
    }
    Ok(room)
}
