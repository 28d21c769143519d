//! What the messages of Node.js' adapters have in common, whatever the adapter: packets, whom they are
//! for, and connections.

use super::msgpack::{self, Malformed};
use crate::{
    core::{
        names::{Namespace, PluginName, RoomName},
        payload,
        recipient::Who,
    },
    ports::{Asking, Frame},
};
use rmpv::Value;
use std::sync::Arc;

/// A packet that is an event, with or without bytes.
pub(super) const EVENTS: [u64; 2] = [2, 5];

/// Whom a message is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selection {
    pub(super) to: Vec<Who>,
    pub(super) except: Vec<Who>,
}

/// A broadcast.
#[derive(Debug, Clone)]
pub(super) struct Broadcast {
    pub(super) selection: Selection,
    pub(super) frame: Frame,
    pub(super) volatile: bool,
}

/// What another node wants.
#[derive(Debug)]
pub(super) enum Request {
    /// The ids of connections.
    Sockets(Selection),
    /// All rooms.
    AllRooms,
    /// Puts connections into rooms; answered when it is about a single one.
    Join(Selection, Vec<RoomName>),
    /// Takes connections out of rooms; answered when it is about a single one.
    Leave(Selection, Vec<RoomName>),
    /// Ends connections, and their transports; answered when it is about a single one.
    Disconnect(Selection, bool),
    /// Connections with their rooms.
    Fetch(Selection),
    /// An event for servers.
    ServerSideEmit(Frame),
    /// A broadcast that asks for acknowledgements.
    Ask(Broadcast, Option<Asking>),
}

/// A request, and how to answer it.
#[derive(Debug)]
pub(super) struct Asked {
    /// None where no answer is waited for.
    pub(super) answer_to: Option<AnswerTo>,
    pub(super) request: Request,
}

/// Where an answer goes.
#[derive(Debug, Clone)]
pub(super) struct AnswerTo {
    pub(super) channel: String,
    /// The request that it answers.
    pub(super) id: String,
}

/// What was heard of another node.
#[derive(Debug)]
pub(super) enum Heard {
    /// A broadcast.
    Broadcast(Broadcast),
    /// A request.
    Asked(Asked),
    /// The first argument of a client's acknowledgement, and what was asked.
    Acknowledged(String, Value),
}

/// A message to other nodes.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) channel: String,
    pub(super) bytes: Vec<u8>,
    /// Whether it is of those that belong to a shard.
    pub(super) sharded: bool,
}

pub(super) fn get<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let entries = value.as_map()?;
    let found = entries.iter().find(|(key, _)| key.as_str() == Some(name));
    found.map(|(_, value)| value)
}

/// Takes out what has this name: it may be large, and is not needed twice.
pub(super) fn take(value: &mut Value, name: &str) -> Option<Value> {
    let Value::Map(entries) = value else {
        return None;
    };
    let mut entries = entries.iter_mut();
    let found = entries.find(|(key, _)| key.as_str() == Some(name));
    found.map(|(_, value)| std::mem::replace(value, Value::Nil))
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    get(value, name)?.as_str()
}

/// Returns the name of a room, which Node.js also writes as a number. None where nobody can be in it.
pub(super) fn room_name(item: &Value) -> Option<String> {
    match item {
        Value::String(text) => text.as_str().map(str::to_owned),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns whom options are about. Who is named by what is no name is nobody, and never everyone.
pub(super) fn selection(options: &Value) -> Result<Selection, Malformed> {
    let all = |name| get(options, name).and_then(Value::as_array);
    let named = |items: &[Value]| -> Vec<Who> {
        let names = items.iter().filter_map(room_name);
        names.filter_map(|name| Who::of_room(&name)).collect()
    };
    let rooms = all("rooms").ok_or(Malformed("rooms: expected an array"))?;
    let to = match rooms.is_empty() {
        true => vec![Who::Everyone],
        false => named(rooms),
    };
    Ok(Selection {
        to,
        except: all("except").map(|items| named(items)).unwrap_or_default(),
    })
}

pub(super) fn broadcast(mut packet: Value, options: &Value) -> Result<Broadcast, Malformed> {
    let is_event = get(&packet, "type").and_then(Value::as_u64);
    if !is_event.is_some_and(|number| EVENTS.contains(&number)) {
        return Err(Malformed("packet.type: expected an event"));
    }
    let data = take(&mut packet, "data").ok_or(Malformed("packet.data: expected an array"))?;
    let flags = get(options, "flags");
    let volatile = flags.and_then(|flags| get(flags, "volatile")?.as_bool());
    Ok(Broadcast {
        selection: selection(options)?,
        frame: frame(data)?,
        volatile: volatile == Some(true),
    })
}

/// Returns an event as clients get it.
pub(super) fn frame(data: Value) -> Result<Frame, Malformed> {
    let (packet, attachments) = msgpack::to_json(data)?;
    let Ok((_, args)) = payload::split_packet(&packet) else {
        return Err(Malformed("data: expected an array that begins with a name"));
    };
    payload::check_args(&args, attachments.len(), payload::OUTGOING_DEPTH)
        .map_err(|_| Malformed("data: expected arguments that clients can read"))?;
    Ok(Frame {
        packet,
        attachments,
    })
}

pub(super) fn asking(value: &Value) -> Option<Asking> {
    Some(Asking {
        plugin: PluginName::new(text(value, "plugin")?).ok()?,
        token: Arc::from(text(value, "token")?),
        depth: u8::try_from(get(value, "depth")?.as_u64()?).ok()?,
    })
}

pub(super) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.into_iter();
    Value::Map(entries.map(|(name, value)| (name.into(), value)).collect())
}

pub(super) fn texts(all: impl IntoIterator<Item = String>) -> Value {
    Value::Array(all.into_iter().map(Value::from).collect())
}

/// Returns the rooms of what a message is about. Everyone is no room at all, and swallows all others.
pub(super) fn rooms_of(all: &[Who]) -> Vec<String> {
    if all.contains(&Who::Everyone) {
        return Vec::new();
    }
    all.iter().filter_map(Who::room).collect()
}

pub(super) fn options(to: &[Who], except: &[Who], volatile: bool) -> Value {
    let flags = match volatile {
        true => map([("volatile", true.into())]),
        false => map([]),
    };
    map([
        ("rooms", texts(rooms_of(to))),
        ("except", texts(rooms_of(except))),
        ("flags", flags),
    ])
}

pub(super) fn packet(frame: &Frame, namespace: &Namespace) -> Result<Value, Malformed> {
    Ok(map([
        ("type", EVENTS[0].into()),
        (
            "data",
            msgpack::from_json(&frame.packet, &frame.attachments)?,
        ),
        ("nsp", namespace.as_str().into()),
    ]))
}

/// Writes who asks clients for acknowledgements.
pub(super) fn asking_of(ask: &Asking) -> Value {
    map([
        ("plugin", ask.plugin.as_str().into()),
        ("token", (*ask.token).into()),
        ("depth", ask.depth.into()),
    ])
}

/// Returns an id for a request.
pub(super) fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// Reads rooms to join or leave: all in `rooms`, and one in `room`.
pub(super) fn room_names(value: &Value) -> Vec<RoomName> {
    let one = get(value, "room").into_iter();
    let all = get(value, "rooms").and_then(Value::as_array);
    let all = all.into_iter().flatten().chain(one);
    all.filter_map(room_name)
        .filter_map(|room| RoomName::foreign(&room))
        .collect()
}

/// A change of connections that other nodes have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    Join(&'a RoomName),
    Leave(&'a RoomName),
    Disconnect { transport: bool },
}

/// What a request is answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// How many clients are asked for acknowledgements.
    Asked(usize),
    /// The first argument of a client's acknowledgement.
    Acknowledged(Value),
    /// The first argument of a server's acknowledgement.
    Served(Value),
    /// Ids of connections, or connections with their rooms.
    Sockets(Vec<Value>),
    /// Rooms.
    Rooms(Vec<String>),
}

/// A connection, as other nodes see it.
pub(super) fn socket(id: &str, rooms: Vec<String>, user: &str, role: &str) -> Value {
    // What the handshake held is nobody's business but this node's.
    let handshake = map([("headers", map([])), ("query", map([])), ("auth", map([]))]);
    let data = map([("userId", user.into()), ("role", role.into())]);
    map([
        ("id", id.into()),
        ("handshake", handshake),
        ("rooms", texts(rooms)),
        ("data", data),
    ])
}

pub(super) fn json(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(names: &[&str]) -> Vec<Who> {
        names.iter().filter_map(|name| Who::of_room(name)).collect()
    }

    #[test]
    fn everyone_swallows_all_rooms() {
        let all = [who(&["room:a"]).remove(0), Who::Everyone];
        assert_eq!(rooms_of(&all), Vec::<String>::new());
        let nobody_named = map([("rooms", Value::Array(Vec::new()))]);
        assert_eq!(selection(&nobody_named).unwrap().to, [Who::Everyone]);
        // What is no name names nobody: `io.in(undefined).disconnectSockets()`.
        for no_name in [Value::Nil, Value::Boolean(true), Value::F64(1.5)] {
            let options = map([("rooms", Value::Array(vec![no_name]))]);
            assert_eq!(selection(&options).unwrap().to, []);
        }
        assert!(selection(&map([("rooms", "room:a".into())])).is_err());
    }
}
