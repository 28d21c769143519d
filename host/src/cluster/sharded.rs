//! The messages of Node.js' sharded adapter (`createShardedAdapter` of `@socket.io/redis-adapter` 8), as
//! far as nodes of ours take part. All are sharded channels.
//!
//! | channel | messages |
//! |---|---|
//! | `KEY#NAMESPACE#` | what is for everybody, and all requests |
//! | `KEY#NAMESPACE#ROOM#` | broadcasts to one room; heard by nodes with somebody in it |
//! | `KEY#NAMESPACE#UID#` | answers to the node of this name |
//!
//! A message is `{ uid, nsp, type, data }`: JSON, or MessagePack where bytes are in it. `switchboard` in
//! `data` is ours; Node.js overlooks it.

use super::{
    msgpack::{self, Malformed},
    packets::{
        Answer, AnswerTo, Asked, Change, Heard, Outgoing, Request, asking, asking_of, broadcast,
        frame, get, json, map, new_id, options, packet, room_names, rooms_of, selection, take,
        text, texts,
    },
};
use crate::{
    core::{names::Namespace, recipient::Who},
    ports::Relayed,
};
use rmpv::Value;

/// Numbers of messages.
mod number {
    pub(super) const BROADCAST: u64 = 3;
    pub(super) const JOIN: u64 = 4;
    pub(super) const LEAVE: u64 = 5;
    pub(super) const DISCONNECT: u64 = 6;
    pub(super) const FETCH: u64 = 7;
    pub(super) const FETCHED: u64 = 8;
    pub(super) const SERVER_SIDE_EMIT: u64 = 9;
    pub(super) const SERVED: u64 = 10;
    pub(super) const CLIENT_COUNT: u64 = 11;
    pub(super) const ACK: u64 = 12;
    /// That servers live or end: nothing that hosts go by.
    pub(super) const LIFE: [u64; 3] = [1, 2, 13];
}

/// How long a socket's id is in Node.js, which takes any room whose name is as long for one.
const SOCKET_ID: usize = 20;

/// The names of the channels of one namespace.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    pub(super) namespace: Namespace,
    own: String,
    /// Also what those of single rooms and nodes begin with.
    pub(super) main: String,
    pub(super) response: String,
    /// Whether rooms have channels of their own.
    pub(super) by_room: bool,
}

impl Channels {
    pub(super) fn new(key: &str, namespace: &Namespace, own: &str, by_room: bool) -> Self {
        let main = format!("{key}#{namespace}#");
        Self {
            namespace: namespace.clone(),
            own: own.to_owned(),
            response: format!("{main}{own}#"),
            main,
            by_room,
        }
    }

    /// Returns the channel for a room, or for a node.
    pub(super) fn of(&self, name: &str) -> String {
        format!("{}{name}#", self.main)
    }

    /// Returns the room that a channel is for; none where it is for everybody, or for this node.
    pub(super) fn room_of<'a>(&self, channel: &'a str) -> Option<&'a str> {
        let room = channel.strip_prefix(&self.main)?.strip_suffix('#')?;
        (!room.is_empty() && channel != self.response).then_some(room)
    }

    fn message(&self, channel: String, number: u64, data: Value) -> Outgoing {
        let message = map([
            ("uid", self.own.as_str().into()),
            ("nsp", self.namespace.as_str().into()),
            ("type", number.into()),
            ("data", data),
        ]);
        let bytes = match has_bytes(&message) {
            true => msgpack::write(&message),
            false => json(&message),
        };
        Outgoing {
            channel,
            bytes,
            sharded: true,
        }
    }
}

fn has_bytes(value: &Value) -> bool {
    match value {
        Value::Binary(_) => true,
        Value::Array(items) => items.iter().any(has_bytes),
        Value::Map(entries) => entries.iter().any(|(_, item)| has_bytes(item)),
        _ => false,
    }
}

/// Reads a message; none where this node sent it itself, or it is not for anybody here.
pub(super) fn read(channels: &Channels, bytes: &[u8]) -> Result<Option<Heard>, Malformed> {
    let mut value = msgpack::read(bytes)?;
    let mut data = take(&mut value, "data").unwrap_or(Value::Nil);
    let packet = take(&mut data, "packet");
    let data = &data;
    let uid = text(&value, "uid").ok_or(Malformed("uid: expected a text"))?;
    let is_other = text(&value, "nsp") != Some(channels.namespace.as_str());
    if uid == channels.own || is_other {
        return Ok(None);
    }
    let nothing = Value::Nil;
    let options = get(data, "opts").unwrap_or(&nothing);
    let number = get(&value, "type").and_then(Value::as_u64);
    let id = text(data, "requestId");
    let request = match number.ok_or(Malformed("type: expected a number"))? {
        number::BROADCAST => {
            let broadcast = broadcast(packet.unwrap_or(Value::Nil), options)?;
            match id {
                None => return Ok(Some(Heard::Broadcast(broadcast))),
                Some(_) => Request::Ask(broadcast, get(data, "switchboard").and_then(asking)),
            }
        }
        number::JOIN => Request::Join(selection(options)?, room_names(data)),
        number::LEAVE => Request::Leave(selection(options)?, room_names(data)),
        number::DISCONNECT => {
            let close = get(data, "close").and_then(Value::as_bool);
            Request::Disconnect(selection(options)?, close == Some(true))
        }
        number::FETCH => Request::Fetch(selection(options)?),
        number::SERVER_SIDE_EMIT => {
            let packet = packet.ok_or(Malformed("packet: expected an array"))?;
            Request::ServerSideEmit(frame(packet)?)
        }
        number::ACK => {
            let id = id.ok_or(Malformed("requestId: expected a text"))?;
            let packet = packet.unwrap_or(Value::Nil);
            return Ok(Some(Heard::Acknowledged(id.to_owned(), packet)));
        }
        // How many they are is not asked, and nobody here has asked the rest.
        number::CLIENT_COUNT | number::FETCHED | number::SERVED => return Ok(None),
        number if number::LIFE.contains(&number) => return Ok(None),
        _ => return Err(Malformed("type: expected the number of a message")),
    };
    let answer_to = id.map(|id| AnswerTo {
        channel: channels.of(uid),
        id: id.to_owned(),
    });
    Ok(Some(Heard::Asked(Asked { answer_to, request })))
}

/// Writes an emission, and returns under which id clients are asked. To everybody's channel where it must
/// not come before what is said there.
pub(super) fn write_emission(
    channels: &Channels,
    emission: Relayed<'_>,
    to_all: bool,
) -> Result<(Outgoing, Option<String>), Malformed> {
    let id = emission.ask.map(|_| new_id());
    let mut data = vec![
        (
            "packet".into(),
            packet(emission.frame, &channels.namespace)?,
        ),
        (
            "opts".into(),
            options(emission.to, emission.except, emission.volatile),
        ),
    ];
    if let (Some(id), Some(ask)) = (&id, emission.ask) {
        data.push(("requestId".into(), id.as_str().into()));
        data.push(("switchboard".into(), asking_of(ask)));
    }
    let channel = match rooms_of(emission.to).as_slice() {
        [room] if id.is_none() && channels.by_room && !to_all && !looks_like_socket(room) => {
            channels.of(room)
        }
        _ => channels.main.clone(),
    };
    let message = channels.message(channel, number::BROADCAST, Value::Map(data));
    Ok((message, id))
}

fn looks_like_socket(room: &str) -> bool {
    room.encode_utf16().count() == SOCKET_ID
}

/// Writes a change.
pub(super) fn write_change(channels: &Channels, who: &Who, change: Change<'_>) -> Outgoing {
    let rooms = |room: &str| ("rooms", texts([room.to_owned()]));
    let (number, what) = match change {
        Change::Join(room) => (number::JOIN, rooms(room.as_str())),
        Change::Leave(room) => (number::LEAVE, rooms(room.as_str())),
        Change::Disconnect { transport } => (number::DISCONNECT, ("close", transport.into())),
    };
    let options = options(std::slice::from_ref(who), &[], false);
    let data = map([("opts", options), what]);
    channels.message(channels.main.clone(), number, data)
}

/// Writes an answer; none where nobody waits for one.
pub(super) fn write_answer(channels: &Channels, to: &AnswerTo, answer: Answer) -> Option<Outgoing> {
    let (number, what) = match answer {
        Answer::Acknowledged(packet) => (number::ACK, ("packet", packet)),
        Answer::Asked(count) => (number::CLIENT_COUNT, ("clientCount", (count as u64).into())),
        Answer::Served(packet) => (number::SERVED, ("packet", packet)),
        Answer::Sockets(sockets) => (number::FETCHED, ("sockets", Value::Array(sockets))),
        Answer::Done | Answer::Rooms(_) => return None,
    };
    let data = map([("requestId", to.id.as_str().into()), what]);
    Some(channels.message(to.channel.clone(), number, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::names::{PluginName, RoomName},
        ports::{Asking, Frame},
    };
    use std::sync::Arc;

    fn channels(own: &str) -> Channels {
        Channels::new("k", &Namespace::root(), own, true)
    }

    fn who(names: &[&str]) -> Vec<Who> {
        names.iter().filter_map(|name| Who::of_room(name)).collect()
    }

    fn written(to: &[Who], frame: &Frame, ask: Option<&Asking>, to_all: bool) -> Outgoing {
        let namespace = Namespace::root();
        let emission = Relayed {
            namespace: &namespace,
            to,
            except: &[],
            frame,
            volatile: false,
            ask,
        };
        let (message, id) = write_emission(&channels("one"), emission, to_all).unwrap();
        assert_eq!(id.is_some(), ask.is_some());
        message
    }

    fn plain() -> Frame {
        Frame {
            packet: r#"["hello",{"a":1}]"#.to_owned(),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn a_broadcast_goes_where_its_room_is_heard() {
        let frame = plain();
        let channel = |names: &[&str]| written(&who(names), &frame, None, false).channel;
        assert_eq!(channel(&["room:a"]), "k#/#room:a#");
        assert_eq!(channel(&["room:a", "room:b"]), "k#/#");
        assert_eq!(
            channel(&["SdoRmqlSyjTHjFTXAAAB"]),
            "k#/#",
            "an id of Node.js"
        );
        assert_eq!(
            written(&[Who::Everyone], &frame, None, false).channel,
            "k#/#"
        );
        let to = who(&["room:a"]);
        assert_eq!(written(&to, &frame, None, true).channel, "k#/#");
        let one = channels("one");
        assert_eq!(one.room_of("k#/#room:a#"), Some("room:a"));
        assert_eq!((one.room_of("k#/#"), one.room_of("k#/#one#")), (None, None));
    }

    #[test]
    fn a_broadcast_is_read_as_it_was_written_with_bytes_and_without() {
        let bytes = Frame {
            packet: r#"["hello",{"_placeholder":true,"num":0}]"#.to_owned(),
            attachments: vec![bytes::Bytes::from_static(b"bytes")],
        };
        let to = who(&["room:a"]);
        for (frame, first) in [(plain(), Some(&b'{')), (bytes, Some(&0x84))] {
            let message = written(&to, &frame, None, false);
            assert_eq!(message.bytes.first(), first);
            assert!(message.sharded);
            assert!(read(&channels("one"), &message.bytes).unwrap().is_none());
            let heard = read(&channels("two"), &message.bytes).unwrap();
            let Some(Heard::Broadcast(broadcast)) = heard else {
                panic!("{heard:?}");
            };
            assert_eq!(broadcast.selection.to, to);
            assert_eq!(broadcast.frame.packet, frame.packet);
            assert_eq!(broadcast.frame.attachments, frame.attachments);
        }
    }

    #[test]
    fn a_question_names_who_asks_and_its_answer_comes_back() {
        let ask = Asking {
            plugin: PluginName::new("chat").unwrap(),
            token: Arc::from("t"),
            depth: 2,
        };
        let message = written(&who(&["room:a"]), &plain(), Some(&ask), false);
        assert_eq!(message.channel, "k#/#");
        let two = channels("two");
        let heard = read(&two, &message.bytes).unwrap();
        let Some(Heard::Asked(Asked {
            answer_to: Some(to),
            request: Request::Ask(_, asking),
        })) = heard
        else {
            panic!("{heard:?}");
        };
        assert_eq!(asking, Some(ask));
        let answer = write_answer(&two, &to, Answer::Acknowledged("yes".into())).unwrap();
        assert_eq!(answer.channel, "k#/#one#");
        let heard = read(&channels("one"), &answer.bytes).unwrap();
        let Some(Heard::Acknowledged(id, packet)) = heard else {
            panic!("{heard:?}");
        };
        assert_eq!((id, packet), (to.id, Value::from("yes")));
    }

    #[test]
    fn messages_of_node_js_are_understood() {
        let heard = |json: &str| read(&channels("own"), json.as_bytes()).unwrap();
        let joined = heard(
            r#"{"uid":"a","nsp":"/","type":4,"data":{"opts":{"rooms":["a",7],"except":[]},"rooms":["b"]}}"#,
        );
        let Some(Heard::Asked(Asked {
            answer_to: None,
            request: Request::Join(whom, rooms),
        })) = joined
        else {
            panic!("{joined:?}");
        };
        assert_eq!(whom.to, who(&["a", "7"]));
        assert_eq!(rooms, [RoomName::foreign("b").unwrap()]);
        let served = heard(
            r#"{"uid":"a","nsp":"/","type":9,"data":{"packet":["hello",1],"requestId":"r"}}"#,
        );
        let Some(Heard::Asked(Asked {
            answer_to: Some(to),
            request: Request::ServerSideEmit(frame),
        })) = served
        else {
            panic!("{served:?}");
        };
        assert_eq!((to.channel.as_str(), to.id.as_str()), ("k#/#a#", "r"));
        assert_eq!(frame.packet, r#"["hello",1]"#);
        for nothing in [
            r#"{"uid":"own","nsp":"/","type":6}"#,
            r#"{"uid":"a","nsp":"/other","type":6}"#,
            r#"{"uid":"a","nsp":"/","type":2}"#,
        ] {
            assert!(heard(nothing).is_none(), "{nothing}");
        }
        for bad in [
            "{",
            "null",
            r#"{"nsp":"/","type":3}"#,
            r#"{"uid":"a","nsp":"/"}"#,
            r#"{"uid":"a","nsp":"/","type":99}"#,
            r#"{"uid":"a","nsp":"/","type":6,"data":{"close":true}}"#,
            r#"{"uid":"a","nsp":"/","type":12,"data":{}}"#,
        ] {
            assert!(read(&channels("own"), bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
