//! What clients do.

use crate::{
    message::{Kind, Stored},
    record::{Metadata, Record, room},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use switchboard_plugin::{
    Ack, Cx, Error, Id, Joined, Json, Left, PresenceChanged, Result, Seen, Status, TypingChanged,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    create_on_join: bool,
    presence: Audience,
}

/// Who hears what a user is seen as.
#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Audience {
    /// Who shares a room.
    Shared,
    Everyone,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            create_on_join: true,
            presence: Audience::Shared,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InRoom {
    room_id: Id,
}

pub(crate) fn join(cx: &mut Cx, request: InRoom) -> Result<Ack> {
    let (id, user) = (request.room_id, cx.user()?);
    let record = match Record::find(cx, &id)? {
        Some(record) => record,
        None if cx.settings::<Settings>()?.create_on_join => {
            let record = Record::new(cx, id.clone(), Some(user.clone()));
            record.create(cx)?;
            record
        }
        None => return Err(Error::not_found(format!("there is no room `{id}`"))),
    };
    if !record.admits(&user) {
        return Err(Error::forbidden(format!("the room `{id}` is private")));
    }
    let member_count = others(cx, &id, &user)? + 1;
    cx.join(room(&id));
    answer(&record, member_count)
}

pub(crate) fn leave(cx: &mut Cx, request: InRoom) -> Result<Ack> {
    let (id, user) = (request.room_id, cx.user()?);
    require_in_room(cx, &id)?;
    let record = Record::get(cx, &id)?;
    let mut stays = false;
    for connection in cx.rooms().connections_of_user(&user)? {
        stays |=
            connection != cx.connection() && cx.rooms().has_connection(room(&id), &connection)?;
    }
    let member_count = others(cx, &id, &user)? + u32::from(stays);
    cx.leave(room(&id));
    answer(&record, member_count)
}

/// Counts the users in a room beside one.
fn others(cx: &Cx, id: &Id, user: &Id) -> Result<u32> {
    let users = cx.rooms().count_users(room(id))?;
    // Between the two questions the user may have joined by another connection.
    Ok(users.saturating_sub(cx.rooms().has_user(room(id), user)?.into()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Room<'a> {
    id: &'a Id,
    name: &'a str,
    metadata: &'a Metadata,
    member_count: u32,
}

fn answer(record: &Record, member_count: u32) -> Result<Ack> {
    let room = Room {
        id: &record.id,
        name: &record.name,
        metadata: &record.metadata,
        member_count,
    };
    Ack::with(&BTreeMap::from([("room", room)]))
}

/// A user joins with the first of their connections; the others hear of it. The room may have been
/// deleted, or made anew for others, while the join was under way: then they are out again.
pub(crate) fn joined(cx: &mut Cx, joined: Joined) -> Result<()> {
    let user = cx.user()?;
    let id = joined.room.strip_prefix("room:").map(Id::new).transpose()?;
    let record = id.map(|id| Record::find(cx, &id)).transpose()?.flatten();
    if !record.is_some_and(|record| record.admits(&user)) {
        cx.leave(joined.room);
        return Ok(());
    }
    if !joined.first {
        return Ok(());
    }
    announce(cx, "user:joined", joined.room.clone())?;
    // Where everyone hears each change, they have heard of it by now.
    if to_everyone(cx)? {
        return Ok(());
    }
    let seen = cx.presence().of([&user])?.into_iter();
    for seen in seen.filter(|seen| seen.status != Status::Offline) {
        let status = cx.emit("user:status").to_room(&joined.room);
        status.except_user(&user).send(&status_of(&seen))?;
    }
    Ok(())
}

/// A user leaves with the last of their connections.
pub(crate) fn left(cx: &mut Cx, left: Left) -> Result<()> {
    if !left.last {
        return Ok(());
    }
    announce(cx, "user:left", left.room)
}

fn announce(cx: &mut Cx, event: &str, room: String) -> Result<()> {
    let user = cx.user()?;
    let news = json!({
        "roomId": room.strip_prefix("room:"),
        "userId": user,
        "username": username(cx, &user),
        "timestamp": cx.timestamp(),
    });
    cx.emit(event).to_room(room).except_user(&user).send(&news)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewMessage {
    room_id: Id,
    content: String,
    #[serde(default, rename = "type")]
    kind: Kind,
    #[serde(default)]
    metadata: Metadata,
}

pub(crate) fn message(cx: &mut Cx, message: NewMessage) -> Result<Ack> {
    require_in_room(cx, &message.room_id)?;
    if message.kind == Kind::System {
        return Err(Error::invalid_payload(
            "`type`: messages of the type `system` come from backends only",
        ));
    }
    let user = cx.user()?;
    let message = Stored {
        timestamp: cx.timestamp(),
        room_id: message.room_id,
        username: username(cx, &user),
        user_id: user,
        content: message.content,
        kind: message.kind,
        metadata: message.metadata,
    };
    message.publish(cx)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edit {
    room_id: Id,
    changes: Json,
    #[serde(default)]
    cursor: Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Edited {
    room_id: Id,
    user_id: Id,
    changes: Json,
    cursor: Json,
}

/// Relays an edit, binary or not, as it came. Nothing of it is stored.
pub(crate) fn edit(cx: &mut Cx, edit: Edit) -> Result<Ack> {
    require_in_room(cx, &edit.room_id)?;
    let room = room(&edit.room_id);
    let edited = Edited {
        user_id: cx.user()?,
        room_id: edit.room_id,
        changes: edit.changes,
        cursor: edit.cursor,
    };
    cx.emit("document:edit")
        .to_room(room)
        .except_self()
        .send(&edited)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Types {
    room_id: Id,
    is_typing: bool,
}

pub(crate) fn typing(cx: &mut Cx, types: Types) -> Result<Ack> {
    require_in_room(cx, &types.room_id)?;
    let room = room(&types.room_id);
    match types.is_typing {
        true => cx.typing().start(room)?,
        false => cx.typing().stop(room)?,
    }
    Ok(Ack::ok())
}

/// The others hear of it: once when a user begins, and once when they stop, or have been silent.
pub(crate) fn typing_changed(cx: &mut Cx, change: TypingChanged) -> Result<()> {
    let user = cx.user()?;
    let news = json!({
        "roomId": change.room.strip_prefix("room:"),
        "userId": user,
        "username": username(cx, &user),
        "isTyping": change.typing,
    });
    cx.emit("typing")
        .to_room(change.room)
        .except_user(&user)
        .send(&news)
}

/// Others hear what a user is seen as.
pub(crate) fn presence_changed(cx: &mut Cx, change: PresenceChanged) -> Result<()> {
    let to_all = to_everyone(cx)?;
    if !to_all && change.rooms.is_empty() {
        return Ok(());
    }
    let news = cx.emit("user:status");
    let news = match to_all {
        true => news.to_everyone(),
        false => news.to_rooms(change.rooms),
    };
    let user = &change.now.user;
    news.except_user(user).send(&status_of(&change.now))
}

/// Tells whether everyone hears what a user is seen as, and not only who shares a room.
fn to_everyone(cx: &Cx) -> Result<bool> {
    Ok(cx.settings::<Settings>()?.presence == Audience::Everyone)
}

fn status_of(seen: &Seen) -> serde_json::Value {
    json!({ "userId": seen.user, "status": seen.status })
}

pub(crate) fn require_in_room(cx: &Cx, id: &Id) -> Result<()> {
    if cx.rooms().has_connection(room(id), cx.connection())? {
        return Ok(());
    }
    Err(Error::not_in_room(format!("join the room `{id}` first")))
}

fn username(cx: &Cx, user: &Id) -> String {
    ["username", "name"]
        .iter()
        .find_map(|name| cx.claim(name)?.as_str().map(str::to_owned))
        .unwrap_or_else(|| user.to_string())
}
