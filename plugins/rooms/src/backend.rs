//! What backends do: each server event is answered.

use crate::{
    message::{Kind, Stored},
    record::{Metadata, Record, Visibility, key, records, room},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Rooms of one page.
const PAGE: u32 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Create {
    room_id: Option<Id>,
    name: String,
    namespace: Option<String>,
    created_by: Option<Id>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    visibility: Visibility,
    #[serde(default)]
    members: Vec<Id>,
}

/// A room, as backends see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    record: Record,
    /// Users who are in it now.
    member_count: u32,
}

impl Shown {
    fn new(cx: &Cx, record: Record) -> Result<Self> {
        let member_count = cx.rooms().count_users(room(&record.id))?;
        Ok(Self {
            record,
            member_count,
        })
    }
}

#[derive(Serialize)]
struct OneRoom {
    room: Shown,
}

fn answer(cx: &Cx, record: Record) -> Result<Ack> {
    let room = Shown::new(cx, record)?;
    Ack::with(&OneRoom { room })
}

pub(crate) fn create(cx: &mut Cx, request: Create) -> Result<Ack> {
    let id = match request.room_id {
        Some(id) => id,
        None => Id::new(cx.new_id())?,
    };
    if Record::find(cx, &id)?.is_some() {
        return Err(Error::conflict(format!("there is a room `{id}` already")));
    }
    let begun = Record::new(cx, id, request.created_by);
    let record = Record {
        name: request.name,
        namespace: request.namespace.unwrap_or_else(|| begun.namespace.clone()),
        metadata: request.metadata,
        visibility: request.visibility,
        members: request.members,
        ..begun
    };
    record.create(cx)?;
    answer(cx, record)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfRoom {
    room_id: Id,
}

pub(crate) fn get(cx: &mut Cx, request: OfRoom) -> Result<Ack> {
    let record = Record::get(cx, &request.room_id)?;
    answer(cx, record)
}

#[derive(Deserialize)]
pub(crate) struct List {
    namespace: Option<String>,
    after: Option<Id>,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct Listed {
    rooms: Vec<Shown>,
    after: Option<String>,
}

/// Answers a page of rooms, by id. `after` in the answer is where the next page begins; null when
/// there is none.
pub(crate) fn list(cx: &mut Cx, request: List) -> Result<Ack> {
    let limit = request.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(Error::invalid_payload(format!(
            "`limit`: expected 1 to {PAGE}"
        )));
    }
    let mut rooms: Vec<Shown> = Vec::new();
    let mut after = request.after.map(|id| key(&id));
    // Rooms of other namespaces are passed over; the host's bound on reads ends a search that finds
    // too few, so the answer says where to go on.
    for _ in 0..5 {
        let page = records(cx).list::<Record>("room:", after.as_deref(), PAGE)?;
        let more = page.len() == PAGE as usize;
        for (place, record) in page {
            after = Some(place);
            if request
                .namespace
                .as_ref()
                .is_none_or(|wanted| *wanted == record.namespace)
            {
                rooms.push(Shown::new(cx, record)?);
            }
            if rooms.len() == limit as usize {
                break;
            }
        }
        if rooms.len() == limit as usize {
            break;
        }
        if !more {
            after = None;
            break;
        }
    }
    let after = after.and_then(|place| Some(place.strip_prefix("room:")?.to_owned()));
    Ack::with(&Listed { rooms, after })
}

/// Deletes a room; its members are put out.
pub(crate) fn delete(cx: &mut Cx, request: OfRoom) -> Result<Ack> {
    let record = Record::get(cx, &request.room_id)?;
    record.delete(cx)?;
    cx.empty(room(&record.id));
    Ok(Ack::ok())
}

pub(crate) fn members(cx: &mut Cx, request: OfRoom) -> Result<Ack> {
    let id = Record::get(cx, &request.room_id)?.id;
    let mut members: Vec<(String, Vec<String>)> = Vec::new();
    let mut connected = cx.rooms().members(room(&id))?;
    connected.sort_by(|a, b| a.user.cmp(&b.user));
    for member in connected {
        match members.last_mut() {
            Some((user, connections)) if *user == member.user => {
                connections.push(member.connection)
            }
            _ => members.push((member.user, vec![member.connection])),
        }
    }
    let members: Vec<Value> = members
        .into_iter()
        .map(|(user, connections)| json!({ "userId": user, "connections": connections }))
        .collect();
    Ack::with(&json!({ "members": members }))
}

pub(crate) fn stats(cx: &mut Cx, request: OfRoom) -> Result<Ack> {
    let record = Record::get(cx, &request.room_id)?;
    let (messages, last_activity) = record.activity(cx)?;
    Ack::with(&json!({
        "memberCount": cx.rooms().count_users(room(&record.id))?,
        "messageCount": messages,
        "lastActivity": last_activity,
        "createdAt": record.created_at,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Send {
    room_id: Id,
    user_id: Id,
    username: Option<String>,
    content: String,
    #[serde(default, rename = "type")]
    kind: Kind,
    #[serde(default)]
    metadata: Metadata,
}

pub(crate) fn send(cx: &mut Cx, request: Send) -> Result<Ack> {
    let record = Record::get(cx, &request.room_id)?;
    let message = Stored {
        timestamp: cx.timestamp(),
        room_id: record.id,
        username: request
            .username
            .unwrap_or_else(|| request.user_id.to_string()),
        user_id: request.user_id,
        content: request.content,
        kind: request.kind,
        metadata: request.metadata,
    };
    message.publish(cx)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notify {
    user_ids: Vec<Id>,
    #[serde(flatten)]
    notification: Map<String, Value>,
}

pub(crate) fn notify(cx: &mut Cx, request: Notify) -> Result<Ack> {
    if request.user_ids.is_empty() {
        return Err(Error::invalid_payload("`userIds`: expected at least one"));
    }
    cx.emit("notification")
        .to_users(&request.user_ids)
        .send(&request.notification)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
pub(crate) struct Announce {
    message: String,
    /// Connections that are not to hear it.
    #[serde(default)]
    except: Vec<String>,
}

pub(crate) fn announce(cx: &mut Cx, request: Announce) -> Result<Ack> {
    let announcement = json!({ "message": request.message, "timestamp": cx.timestamp() });
    request
        .except
        .into_iter()
        .fold(
            cx.emit("system:announcement").to_everyone(),
            |emit, connection| emit.except_connection(connection),
        )
        .send(&announcement)?;
    Ok(Ack::ok())
}
