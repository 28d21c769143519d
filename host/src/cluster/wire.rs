//! The messages of Node.js' `@socket.io/redis-adapter` 8 (and of `@socket.io/redis-emitter`), as far
//! as nodes of ours take part.
//!
//! | channel | messages |
//! |---|---|
//! | `KEY#NAMESPACE#` and `KEY#NAMESPACE#ROOM#` | MessagePack: `[uid, packet, options]`, a broadcast |
//! | `KEY-request#NAMESPACE#` | JSON or MessagePack: a request, by its number in `type` |
//! | `KEY-response#NAMESPACE#` | JSON or MessagePack: an answer to a request, by `requestId` |
//!
//! `packet` is `{ type, data: [name, …], nsp }`, `options` is `{ rooms, except, flags }`. A connection is
//! alone in the room of its own id. `switchboard` in a request is ours; Node.js overlooks it.

use super::msgpack::{self, Malformed};
use crate::{
    core::{
        names::{Namespace, PluginName, RoomName},
        payload,
        recipient::Who,
    },
    ports::{Asking, Frame, Relayed},
};
use rmpv::Value;
use std::sync::Arc;

/// A packet that is an event, with or without bytes.
const EVENTS: [u64; 2] = [2, 5];

/// Numbers of requests.
mod number {
    pub(super) const SOCKETS: u64 = 0;
    pub(super) const ALL_ROOMS: u64 = 1;
    pub(super) const JOIN: u64 = 2;
    pub(super) const LEAVE: u64 = 3;
    pub(super) const DISCONNECT: u64 = 4;
    pub(super) const FETCH: u64 = 5;
    pub(super) const SERVER_SIDE_EMIT: u64 = 6;
    pub(super) const BROADCAST: u64 = 7;
    pub(super) const CLIENT_COUNT: u64 = 8;
    pub(super) const ACK: u64 = 9;
}

/// The names of the channels of one namespace.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    pub(super) namespace: Namespace,
    /// Also the prefix of those of single rooms.
    pub(super) broadcast: String,
    pub(super) request: String,
    pub(super) response: String,
}

impl Channels {
    pub(super) fn new(key: &str, namespace: &Namespace) -> Self {
        Self {
            namespace: namespace.clone(),
            broadcast: format!("{key}#{namespace}#"),
            request: format!("{key}-request#{namespace}#"),
            response: format!("{key}-response#{namespace}#"),
        }
    }

    /// Returns the channel for a room.
    fn of_room(&self, room: &str) -> String {
        format!("{}{room}#", self.broadcast)
    }

    /// Returns the room that a channel is for; everybody where it is for none.
    pub(super) fn room_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        let room = channel.strip_prefix(&self.broadcast)?.strip_suffix('#')?;
        (!room.is_empty()).then_some(room)
    }
}

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
    pub(super) id: Option<String>,
    pub(super) request: Request,
}

fn get<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let entries = value.as_map()?;
    let found = entries.iter().find(|(key, _)| key.as_str() == Some(name));
    found.map(|(_, value)| value)
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    get(value, name)?.as_str()
}

/// Returns the name of a room, which Node.js also writes as a number. None where nobody can be in it.
fn room_name(item: &Value) -> Option<String> {
    match item {
        Value::String(text) => text.as_str().map(str::to_owned),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns whom options are about. Who is named by what is no name is nobody, and never everyone.
fn selection(options: &Value) -> Result<Selection, Malformed> {
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

fn broadcast(packet: &Value, options: &Value) -> Result<Broadcast, Malformed> {
    let is_event = get(packet, "type").and_then(Value::as_u64);
    if !is_event.is_some_and(|number| EVENTS.contains(&number)) {
        return Err(Malformed("packet.type: expected an event"));
    }
    let data = get(packet, "data").ok_or(Malformed("packet.data: expected an array"))?;
    let flags = get(options, "flags");
    let volatile = flags.and_then(|flags| get(flags, "volatile")?.as_bool());
    Ok(Broadcast {
        selection: selection(options)?,
        frame: frame(data)?,
        volatile: volatile == Some(true),
    })
}

/// Returns an event as clients get it.
fn frame(data: &Value) -> Result<Frame, Malformed> {
    let (packet, attachments) = msgpack::to_json(data.clone())?;
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

/// Reads a broadcast; none where this node sent it itself.
pub(super) fn read_broadcast(
    bytes: &[u8],
    own: &str,
    namespace: &Namespace,
) -> Result<Option<Broadcast>, Malformed> {
    let value = msgpack::read(bytes)?;
    let Some([uid, packet, options]) = value.as_array().map(Vec::as_slice) else {
        return Err(Malformed("expected [uid, packet, options]"));
    };
    // An emitter leaves it out for the namespace `/`.
    let other = text(packet, "nsp").is_some_and(|name| name != namespace.as_str());
    if uid.as_str() == Some(own) || other {
        return Ok(None);
    }
    broadcast(packet, options).map(Some)
}

/// Reads a request; none where this node sent it itself.
pub(super) fn read_request(bytes: &[u8], own: &str) -> Result<Option<Asked>, Malformed> {
    let value = msgpack::read(bytes)?;
    let uid = text(&value, "uid").unwrap_or_default();
    if uid == own {
        return Ok(None);
    }
    let nothing = Value::Nil;
    let options = get(&value, "opts").unwrap_or(&nothing);
    let rooms = || {
        let one = get(&value, "room").into_iter();
        let all = get(&value, "rooms").and_then(Value::as_array);
        let all = all.into_iter().flatten().chain(one);
        all.filter_map(room_name)
            .filter_map(|room| RoomName::foreign(&room))
            .collect()
    };
    // Older servers name one socket and wait for an answer.
    let whom = || match text(&value, "sid") {
        Some(id) => Ok(Selection {
            to: Who::of_room(id).into_iter().collect(),
            except: Vec::new(),
        }),
        None => selection(options),
    };
    let number = get(&value, "type").and_then(Value::as_u64);
    let request = match number.ok_or(Malformed("type: expected a number"))? {
        number::SOCKETS => Request::Sockets(selection(&value)?),
        number::ALL_ROOMS => Request::AllRooms,
        number::JOIN => Request::Join(whom()?, rooms()),
        number::LEAVE => Request::Leave(whom()?, rooms()),
        number::DISCONNECT => {
            let close = get(&value, "close").and_then(Value::as_bool);
            Request::Disconnect(whom()?, close == Some(true))
        }
        number::FETCH => Request::Fetch(selection(options)?),
        number::SERVER_SIDE_EMIT => {
            let data = get(&value, "data").ok_or(Malformed("data: expected an array"))?;
            Request::ServerSideEmit(frame(data)?)
        }
        number::BROADCAST => {
            let packet = get(&value, "packet").unwrap_or(&nothing);
            let asking = get(&value, "switchboard").and_then(asking);
            Request::Ask(broadcast(packet, options)?, asking)
        }
        _ => return Err(Malformed("type: expected the number of a request")),
    };
    Ok(Some(Asked {
        id: text(&value, "requestId").map(str::to_owned),
        request,
    }))
}

fn asking(value: &Value) -> Option<Asking> {
    Some(Asking {
        plugin: PluginName::new(text(value, "plugin")?).ok()?,
        token: Arc::from(text(value, "token")?),
        depth: u8::try_from(get(value, "depth")?.as_u64()?).ok()?,
    })
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.into_iter();
    Value::Map(entries.map(|(name, value)| (name.into(), value)).collect())
}

fn texts(all: impl IntoIterator<Item = String>) -> Value {
    Value::Array(all.into_iter().map(Value::from).collect())
}

/// Returns the rooms of what a message is about. Everyone is no room at all, and swallows all others.
fn rooms_of(all: &[Who]) -> Vec<String> {
    if all.contains(&Who::Everyone) {
        return Vec::new();
    }
    all.iter().filter_map(Who::room).collect()
}

fn options(to: &[Who], except: &[Who], volatile: bool) -> Value {
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

fn packet(frame: &Frame, namespace: &Namespace) -> Result<Value, Malformed> {
    Ok(map([
        ("type", EVENTS[0].into()),
        (
            "data",
            msgpack::from_json(&frame.packet, &frame.attachments)?,
        ),
        ("nsp", namespace.as_str().into()),
    ]))
}

/// Writes an emission: the channel, and the message.
pub(super) fn write_emission(
    channels: &Channels,
    own: &str,
    emission: Relayed<'_>,
) -> Result<(String, Vec<u8>), Malformed> {
    let packet = packet(emission.frame, &channels.namespace)?;
    let options = options(emission.to, emission.except, emission.volatile);
    if let Some(ask) = emission.ask {
        let asking = map([
            ("plugin", ask.plugin.as_str().into()),
            ("token", (*ask.token).into()),
            ("depth", ask.depth.into()),
        ]);
        let request = map([
            ("uid", own.into()),
            (
                "requestId",
                uuid::Uuid::now_v7().simple().to_string().into(),
            ),
            ("type", number::BROADCAST.into()),
            ("packet", packet),
            ("opts", options),
            ("switchboard", asking),
        ]);
        return Ok((channels.request.clone(), msgpack::write(&request)));
    }
    let channel = match rooms_of(emission.to).as_slice() {
        [room] => channels.of_room(room),
        _ => channels.broadcast.clone(),
    };
    let message = Value::Array(vec![own.into(), packet, options]);
    Ok((channel, msgpack::write(&message)))
}

/// A change of connections that other nodes have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    Join(&'a RoomName),
    Leave(&'a RoomName),
    Disconnect { transport: bool },
}

/// Writes a change, for the channel of requests.
pub(super) fn write_change(own: &str, who: &Who, change: Change<'_>) -> Vec<u8> {
    let (number, (name, value)) = match change {
        Change::Join(room) => (number::JOIN, ("rooms", texts([room.as_str().to_owned()]))),
        Change::Leave(room) => (number::LEAVE, ("rooms", texts([room.as_str().to_owned()]))),
        Change::Disconnect { transport } => (number::DISCONNECT, ("close", transport.into())),
    };
    let whom = map([
        ("rooms", texts(who.room())),
        ("except", Value::Array(Vec::new())),
    ]);
    let request = map([
        ("uid", own.into()),
        ("type", number.into()),
        ("opts", whom),
        (name, value),
    ]);
    // As Node.js writes it.
    serde_json::to_vec(&request).unwrap_or_default()
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

/// Writes an answer, for the channel of responses.
pub(super) fn write_answer(id: &str, answer: Answer) -> Vec<u8> {
    let id = ("requestId", Value::from(id));
    match answer {
        Answer::Acknowledged(packet) => {
            msgpack::write(&map([("type", number::ACK.into()), id, ("packet", packet)]))
        }
        Answer::Asked(count) => json(&map([
            ("type", number::CLIENT_COUNT.into()),
            id,
            ("clientCount", (count as u64).into()),
        ])),
        Answer::Served(data) => json(&map([
            ("type", number::SERVER_SIDE_EMIT.into()),
            id,
            ("data", data),
        ])),
        Answer::Done => json(&map([id])),
        Answer::Sockets(sockets) => json(&map([id, ("sockets", Value::Array(sockets))])),
        Answer::Rooms(rooms) => json(&map([id, ("rooms", texts(rooms))])),
    }
}

fn json(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(names: &[&str]) -> Vec<Who> {
        names.iter().filter_map(|name| Who::of_room(name)).collect()
    }

    #[test]
    fn a_broadcast_is_read_as_it_was_written() {
        let channels = Channels::new("socket.io", &Namespace::root());
        let frame = Frame {
            packet: r#"["hello",{"a":{"_placeholder":true,"num":0}}]"#.to_owned(),
            attachments: vec![bytes::Bytes::from_static(b"bytes")],
        };
        let (to, except) = (who(&["room:a"]), who(&["user:ann"]));
        let emission = Relayed {
            namespace: &channels.namespace,
            to: &to,
            except: &except,
            frame: &frame,
            volatile: true,
            ask: None,
        };
        let (channel, bytes) = write_emission(&channels, "one", emission).unwrap();
        assert_eq!(channel, "socket.io#/#room:a#");
        assert_eq!(channels.room_of(&channel), Some("room:a"));
        assert_eq!(channels.room_of("socket.io#/#"), None);
        let root = Namespace::root();
        assert!(read_broadcast(&bytes, "one", &root).unwrap().is_none());
        let read = read_broadcast(&bytes, "two", &root).unwrap().unwrap();
        assert_eq!(read.selection, Selection { to, except });
        assert_eq!(read.frame.packet, frame.packet);
        assert_eq!(read.frame.attachments, frame.attachments);
        assert!(read.volatile);
        let elsewhere = Namespace::new("/elsewhere").unwrap();
        assert!(read_broadcast(&bytes, "two", &elsewhere).unwrap().is_none());
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
        assert!(read_request(br#"{"uid":"a","type":4,"close":true}"#, "own").is_err());
    }

    #[test]
    fn requests_of_node_js_are_understood() {
        let request = |json: &str| read_request(json.as_bytes(), "own").unwrap();
        let joined =
            request(r#"{"uid":"abc","type":2,"opts":{"rooms":["a",7],"except":[]},"rooms":["b"]}"#);
        let Some(Asked {
            request: Request::Join(whom, rooms),
            id: None,
            ..
        }) = joined
        else {
            panic!("{joined:?}");
        };
        assert_eq!(whom.to, who(&["a", "7"]));
        assert_eq!(rooms, [RoomName::foreign("b").unwrap()]);
        let one = request(r#"{"uid":"abc","requestId":"r","type":4,"sid":"x","close":true}"#);
        let Some(Asked {
            request: Request::Disconnect(whom, true),
            id: Some(id),
            ..
        }) = one
        else {
            panic!("{one:?}");
        };
        assert_eq!((whom.to, id.as_str()), (who(&["x"]), "r"));
        assert!(request(r#"{"uid":"own","type":1}"#).is_none());
        for bad in [
            r#"{"type":99}"#,
            r#"{"uid":"a"}"#,
            "{",
            r#"{"type":7,"packet":{"type":0}}"#,
        ] {
            assert!(read_request(bad.as_bytes(), "own").is_err(), "{bad}");
        }
    }

    #[test]
    fn who_asks_for_acknowledgements_crosses_nodes() {
        let channels = Channels::new("k", &Namespace::root());
        let ask = Asking {
            plugin: PluginName::new("chat").unwrap(),
            token: Arc::from("t"),
            depth: 2,
        };
        let frame = Frame {
            packet: r#"["hello"]"#.to_owned(),
            attachments: Vec::new(),
        };
        let emission = Relayed {
            namespace: &channels.namespace,
            to: &[Who::Everyone],
            except: &[],
            frame: &frame,
            volatile: false,
            ask: Some(&ask),
        };
        let (channel, bytes) = write_emission(&channels, "one", emission).unwrap();
        assert_eq!(channel, "k-request#/#");
        let asked = read_request(&bytes, "two").unwrap().unwrap();
        let Request::Ask(broadcast, asking) = asked.request else {
            panic!("{asked:?}");
        };
        assert_eq!(broadcast.frame.packet, frame.packet);
        assert_eq!(asking, Some(ask));
        assert!(asked.id.is_some());
    }
}
