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

use super::{
    msgpack::{self, Malformed},
    packets::{
        Answer, AnswerTo, Asked, Broadcast, Change, Outgoing, Request, Selection, asking,
        asking_of, broadcast, frame, get, json, map, new_id, options, packet, room_names, rooms_of,
        selection, take, text, texts,
    },
};
use crate::{
    core::{names::Namespace, recipient::Who},
    ports::Relayed,
};
use rmpv::Value;

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

    /// Returns the channel on which some servers answer the node of this name.
    pub(super) fn response_to(&self, own: &str) -> String {
        format!("{}{own}#", self.response)
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

fn outgoing(channel: &str, bytes: Vec<u8>) -> Outgoing {
    Outgoing {
        channel: channel.to_owned(),
        bytes,
        sharded: false,
    }
}

/// Reads a broadcast; none where this node sent it itself.
pub(super) fn read_broadcast(
    bytes: &[u8],
    own: &str,
    namespace: &Namespace,
) -> Result<Option<Broadcast>, Malformed> {
    const EXPECTED: Malformed = Malformed("expected [uid, packet, options]");
    let Value::Array(parts) = msgpack::read(bytes)? else {
        return Err(EXPECTED);
    };
    let [uid, packet, options] = parts.try_into().map_err(|_| EXPECTED)?;
    // An emitter leaves it out for the namespace `/`.
    let other = text(&packet, "nsp").is_some_and(|name| name != namespace.as_str());
    if uid.as_str() == Some(own) || other {
        return Ok(None);
    }
    broadcast(packet, &options).map(Some)
}

/// Reads a request; none where this node sent it itself.
pub(super) fn read_request(
    channels: &Channels,
    bytes: &[u8],
    own: &str,
) -> Result<Option<Asked>, Malformed> {
    let mut value = msgpack::read(bytes)?;
    let (packet, data) = (take(&mut value, "packet"), take(&mut value, "data"));
    let uid = text(&value, "uid").unwrap_or_default();
    if uid == own {
        return Ok(None);
    }
    let nothing = Value::Nil;
    let options = get(&value, "opts").unwrap_or(&nothing);
    let rooms = || room_names(&value);
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
            let data = data.ok_or(Malformed("data: expected an array"))?;
            Request::ServerSideEmit(frame(data)?)
        }
        number::BROADCAST => {
            let packet = packet.unwrap_or(Value::Nil);
            let asking = get(&value, "switchboard").and_then(asking);
            Request::Ask(broadcast(packet, options)?, asking)
        }
        _ => return Err(Malformed("type: expected the number of a request")),
    };
    let answer_to = text(&value, "requestId").map(|id| AnswerTo {
        channel: channels.response.clone(),
        id: id.to_owned(),
    });
    Ok(Some(Asked { answer_to, request }))
}

/// Reads a response; none where it is not an acknowledgement.
pub(super) fn read_response(bytes: &[u8]) -> Result<Option<(String, Value)>, Malformed> {
    let mut value = msgpack::read(bytes)?;
    let packet = take(&mut value, "packet").unwrap_or(Value::Nil);
    if get(&value, "type").and_then(Value::as_u64) != Some(number::ACK) {
        return Ok(None);
    }
    let id = text(&value, "requestId").ok_or(Malformed("requestId: expected a text"))?;
    Ok(Some((id.to_owned(), packet)))
}

/// Writes an emission, and returns under which id clients are asked.
pub(super) fn write_emission(
    channels: &Channels,
    own: &str,
    emission: Relayed<'_>,
) -> Result<(Outgoing, Option<String>), Malformed> {
    let packet = packet(emission.frame, &channels.namespace)?;
    let options = options(emission.to, emission.except, emission.volatile);
    if let Some(ask) = emission.ask {
        let id = new_id();
        let request = map([
            ("uid", own.into()),
            ("requestId", id.as_str().into()),
            ("type", number::BROADCAST.into()),
            ("packet", packet),
            ("opts", options),
            ("switchboard", asking_of(ask)),
        ]);
        return Ok((
            outgoing(&channels.request, msgpack::write(&request)),
            Some(id),
        ));
    }
    let channel = match rooms_of(emission.to).as_slice() {
        [room] => channels.of_room(room),
        _ => channels.broadcast.clone(),
    };
    let message = Value::Array(vec![own.into(), packet, options]);
    Ok((outgoing(&channel, msgpack::write(&message)), None))
}

/// Writes a change, for the channel of requests.
pub(super) fn write_change(
    channels: &Channels,
    own: &str,
    who: &Who,
    change: Change<'_>,
) -> Outgoing {
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
    outgoing(&channels.request, json(&request))
}

/// Writes an answer, for the channel of responses.
pub(super) fn write_answer(to: &AnswerTo, answer: Answer) -> Outgoing {
    let id = ("requestId", Value::from(to.id.as_str()));
    let bytes = match answer {
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
    };
    outgoing(&to.channel, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::names::{PluginName, RoomName},
        ports::{Asking, Frame},
    };
    use std::sync::Arc;

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
        let (Outgoing { channel, bytes, .. }, _) =
            write_emission(&channels, "one", emission).unwrap();
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
    fn requests_of_node_js_are_understood() {
        let channels = Channels::new("k", &Namespace::root());
        let request = |json: &str| read_request(&channels, json.as_bytes(), "own").unwrap();
        let joined =
            request(r#"{"uid":"abc","type":2,"opts":{"rooms":["a",7],"except":[]},"rooms":["b"]}"#);
        let Some(Asked {
            request: Request::Join(whom, rooms),
            answer_to: None,
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
            answer_to: Some(to),
            ..
        }) = one
        else {
            panic!("{one:?}");
        };
        assert_eq!((whom.to, to.id.as_str()), (who(&["x"]), "r"));
        assert!(request(r#"{"uid":"own","type":1}"#).is_none());
        for bad in [
            r#"{"type":99}"#,
            r#"{"uid":"a"}"#,
            "{",
            r#"{"type":7,"packet":{"type":0}}"#,
            r#"{"uid":"a","type":4,"close":true}"#,
        ] {
            let read = read_request(&channels, bad.as_bytes(), "own");
            assert!(read.is_err(), "{bad}");
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
        let (Outgoing { channel, bytes, .. }, id) =
            write_emission(&channels, "one", emission).unwrap();
        assert_eq!(channel, "k-request#/#");
        let asked = read_request(&channels, &bytes, "two").unwrap().unwrap();
        let Request::Ask(broadcast, asking) = asked.request else {
            panic!("{asked:?}");
        };
        assert_eq!(broadcast.frame.packet, frame.packet);
        assert_eq!(asking, Some(ask));
        let to = asked.answer_to.unwrap();
        let answer = write_answer(&to, Answer::Acknowledged("yes".into()));
        assert_eq!(answer.channel, "k-response#/#");
        let (answered, packet) = read_response(&answer.bytes).unwrap().unwrap();
        assert_eq!((Some(answered), packet), (id, Value::from("yes")));
        let count = write_answer(&to, Answer::Asked(3));
        assert!(read_response(&count.bytes).unwrap().is_none());
    }
}
