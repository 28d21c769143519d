//! Instructions, checked as a whole before anything is committed.
//!
//! A plugin's word is not trusted here. It may emit to users, to its event's own connection, to
//! rooms of the prefixes granted to it and to connections in such rooms; it may join and leave only
//! rooms of those prefixes; and what it emits must be JSON whose binary placeholders match its
//! attachments, since one stray placeholder would disconnect every stock client that hears it.

use crate::{
    core::{
        channel::ChannelName,
        code::{Code, Failure},
        event::Event,
        instruction::{Answer, Attachment, Emission, Instruction, Reply, Target},
        names::{ConnectionId, EventName, RoomName, UserId},
        payload,
        presence::Status,
        recipient::Who,
    },
    ports::{Frame, PluginInfo},
    rooms::Rooms,
};
use bytes::Bytes;
use smallvec::SmallVec;
use std::{collections::BTreeSet, sync::Arc};

/// What a reply may ask for at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Targets of all instructions together.
    pub targets: usize,
}

/// Whom an emission names: mostly one, which takes no allocation.
pub type Targets = SmallVec<[Who; 1]>;

/// One instruction, checked.
#[derive(Debug)]
pub enum Step {
    /// Sends a frame.
    Emit {
        /// To the union of these.
        to: Targets,
        /// But not to these.
        except: Targets,
        /// The event.
        frame: Frame,
        /// Whether it may be dropped.
        volatile: bool,
        /// The token for acknowledgements that were asked for.
        ack: Option<Arc<str>>,
    },
    /// Puts connections into a room.
    Join(Who, RoomName),
    /// Takes connections out of a room.
    Leave(Who, RoomName),
    /// The event's own connection types in a room, or stops.
    Type(ConnectionId, RoomName, bool),
    /// A user wants to be seen as something.
    Choose(UserId, Status),
    /// Publishes a message.
    Publish(ChannelName, String),
    /// Ends connections.
    Disconnect {
        /// Which.
        who: Who,
        /// For the operator.
        reason: String,
        /// Whether the transport is closed too.
        transport: bool,
    },
}

/// The value of an acknowledgement, checked.
#[derive(Debug, Clone)]
pub struct CheckedAnswer {
    /// The JSON array of its arguments.
    pub args: String,
    /// What the placeholders in it stand for.
    pub attachments: Vec<Bytes>,
}

/// A reply that can be executed.
#[derive(Debug)]
pub struct Checked {
    /// The acknowledgement, if the plugin has one.
    pub answer: Option<CheckedAnswer>,
    /// What is to be done.
    pub steps: Vec<Step>,
}

/// Why a reply is not executed.
#[derive(Debug)]
pub enum Unacceptable {
    /// It is not valid, which is the plugin's fault; the text is for the operator.
    BadReply(String),
    /// It is valid, and cannot be done for this connection.
    Refused(Failure),
}

impl From<String> for Unacceptable {
    fn from(why: String) -> Self {
        Self::BadReply(why)
    }
}

/// Checks a reply. Nothing has happened yet when it is refused.
///
/// # Errors
/// See [`Unacceptable`].
pub fn check(
    reply: Reply,
    plugin: &PluginInfo,
    event: &Event,
    rooms: &Rooms,
    bounds: &Bounds,
) -> Result<Checked, Unacceptable> {
    let checker = Checker {
        plugin,
        event,
        rooms,
    };
    let targets: usize = reply
        .instructions
        .iter()
        .map(|instruction| match instruction {
            Instruction::Emit(emission) => emission.to.len() + emission.except.len(),
            _ => 1,
        })
        .sum();
    if targets > bounds.targets {
        return Err(Unacceptable::BadReply(format!(
            "{targets} targets in one reply, of at most {}",
            bounds.targets
        )));
    }
    let answer = reply.ack.map(|answer| checker.answer(answer)).transpose()?;
    let steps = reply
        .instructions
        .into_iter()
        .map(|instruction| checker.step(instruction))
        .collect::<Result<Vec<_>, _>>()?;
    checker.capacity(&steps)?;
    Ok(Checked { answer, steps })
}

struct Checker<'a> {
    plugin: &'a PluginInfo,
    event: &'a Event,
    rooms: &'a Rooms,
}

impl Checker<'_> {
    fn step(&self, instruction: Instruction) -> Result<Step, String> {
        Ok(match instruction {
            Instruction::Emit(emission) => self.emission(emission)?,
            Instruction::Join { who, room } => Step::Join(self.who(&who)?, self.room(&room)?),
            Instruction::Leave { who, room } => Step::Leave(self.who(&who)?, self.room(&room)?),
            Instruction::Type { room, typing } => {
                let own = self.event.peer.as_ref().map(|peer| peer.connection);
                let own = own.ok_or("this event is nobody's, and nobody can type")?;
                Step::Type(own, room, typing)
            }
            Instruction::Choose { user, status } => Step::Choose(user, status),
            Instruction::Publish { channel, payload } => Step::Publish(channel, payload),
            Instruction::Disconnect {
                who,
                reason,
                transport,
            } => Step::Disconnect {
                who: self.who(&who)?,
                reason,
                transport,
            },
        })
    }

    fn emission(&self, emission: Emission) -> Result<Step, String> {
        let name = &*emission.name;
        EventName::check(name).map_err(|error| error.to_string())?;
        if EventName::is_reserved(name) {
            return Err(format!("the event name `{name}` is reserved"));
        }
        if emission.ack.as_ref().is_some_and(|token| token.len() > 128) {
            return Err(format!("the token of `{name}` is longer than 128 bytes"));
        }
        let attachments = self.attachments(emission.attachments)?;
        payload::check_args(&emission.args, attachments.len(), payload::OUTGOING_DEPTH)
            .map_err(|error| format!("emission `{name}`: {error}"))?;
        let to = emission.to.iter().map(|target| self.who(target));
        let to = to.collect::<Result<_, _>>()?;
        // Leaving somebody out reaches nobody, so any connection may be named, and what names none
        // leaves nobody out.
        let except = emission
            .except
            .iter()
            .filter_map(|target| match target {
                Target::Connection(text) => {
                    ConnectionId::parse(text).map(|id| Ok(Who::Connection(id)))
                }
                target => Some(self.who(target)),
            })
            .collect::<Result<_, _>>()?;
        Ok(Step::Emit {
            to,
            except,
            frame: Frame {
                packet: payload::join_packet(name, &emission.args),
                attachments,
            },
            volatile: emission.volatile,
            ack: emission.ack.map(Arc::from),
        })
    }

    fn answer(&self, answer: Answer) -> Result<CheckedAnswer, String> {
        let attachments = self.attachments(answer.attachments)?;
        payload::check_args(&answer.args, attachments.len(), payload::OUTGOING_DEPTH)
            .map_err(|error| format!("acknowledgement: {error}"))?;
        Ok(CheckedAnswer {
            args: answer.args,
            attachments,
        })
    }

    fn attachments(&self, attachments: Vec<Attachment>) -> Result<Vec<Bytes>, String> {
        attachments
            .into_iter()
            .map(|attachment| match attachment {
                Attachment::Bytes(bytes) => Ok(bytes),
                Attachment::Received(index) => usize::try_from(index)
                    .ok()
                    .and_then(|index| self.event.attachments.get(index))
                    .cloned()
                    .ok_or_else(|| format!("the event has no attachment {index}")),
            })
            .collect()
    }

    fn room(&self, room: &str) -> Result<RoomName, String> {
        let room = RoomName::new(room).map_err(|error| error.to_string())?;
        if self.plugin.may_use_prefix(room.prefix()) {
            Ok(room)
        } else {
            Err(format!(
                "the room prefix `{}` is not granted to the plugin",
                room.prefix()
            ))
        }
    }

    fn who(&self, target: &Target) -> Result<Who, String> {
        Ok(match target {
            Target::Everyone => Who::Everyone,
            Target::Room(room) => Who::Room(self.room(room)?),
            Target::User(user) => {
                let user = UserId::new(user).map_err(|error| error.to_string())?;
                Who::Room(RoomName::of_user(&user))
            }
            Target::Connection(text) => {
                let id = ConnectionId::parse(text)
                    .ok_or_else(|| "a target is not the id of a connection".to_owned())?;
                let own = self.event.peer.as_ref().map(|peer| peer.connection) == Some(id);
                if own {
                    return Ok(Who::Connection(id));
                }
                // One that has ended meanwhile is in no room; the instruction then does nothing.
                let known = self.rooms.of_connection(id);
                let reachable = known.is_empty()
                    || known
                        .iter()
                        .any(|room| self.plugin.may_use_prefix(room.prefix()));
                if !reachable {
                    return Err(
                        "a target connection is in no room that is granted to the plugin"
                            .to_owned(),
                    );
                }
                Who::Connection(id)
            }
        })
    }

    /// Refuses joins of the event's own connection for which there is no room left, before anything
    /// is committed.
    fn capacity(&self, steps: &[Step]) -> Result<(), Unacceptable> {
        let Some(peer) = &self.event.peer else {
            return Ok(());
        };
        let joins: BTreeSet<&RoomName> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Join(Who::Connection(id), room)
                    if *id == peer.connection && !self.rooms.has_connection(*id, room) =>
                {
                    Some(room)
                }
                _ => None,
            })
            .collect();
        if joins.is_empty() || joins.len() <= self.rooms.capacity_left(peer.connection) {
            return Ok(());
        }
        Err(Unacceptable::Refused(Failure::new(
            Code::RateLimited,
            "this connection is in as many rooms as it may be; leave one first",
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        event::{Identity, Notice, Peer, Trigger},
        manifest::Manifest,
        names::{Namespace, RoomPrefix},
    };
    use uuid::Uuid;

    struct Setting {
        rooms: Rooms,
        plugin: PluginInfo,
        event: Event,
        stranger: ConnectionId,
    }

    fn setting() -> Setting {
        let namespace = Namespace::root();
        let rooms = Rooms::new(2, Arc::new(crate::ports::Alone));
        let (own, stranger) = (ConnectionId::fresh(), ConnectionId::fresh());
        let identity = |user: &str| {
            let (user, role) = (UserId::new(user).unwrap(), "student".to_owned());
            Arc::new(Identity::new(user, role, serde_json::Map::new(), None))
        };
        let ann = identity("ann");
        rooms.add(&namespace, own, &ann, &crate::ports::Nowhere::outbound());
        rooms.add(
            &namespace,
            stranger,
            &identity("ben"),
            &crate::ports::Nowhere::outbound(),
        );
        rooms.join(&namespace, stranger, &RoomName::new("secret:1").unwrap());
        Setting {
            rooms,
            plugin: PluginInfo {
                manifest: Manifest::parse(r#"{"name":"chat","version":"1"}"#).unwrap(),
                namespace: namespace.clone(),
                rooms: [RoomPrefix::new("chat").unwrap()].into(),
                channels: Vec::new(),
                state: crate::ports::StateBounds::default(),
                digest: String::new(),
            },
            event: Event {
                id: Uuid::now_v7(),
                at_ms: 0,
                namespace,
                peer: Some(Peer {
                    connection: own,
                    identity: ann,
                }),
                trigger: Trigger::Notice(Notice::Connected),
                attachments: vec![Bytes::from_static(b"x")],
                wants_ack: false,
                depth: 0,
            },
            stranger,
        }
    }

    impl Setting {
        fn check(&self, instructions: Vec<Instruction>) -> Result<Checked, Unacceptable> {
            let bounds = Bounds { targets: 3 };
            let reply = Reply {
                ack: None,
                instructions,
            };
            check(reply, &self.plugin, &self.event, &self.rooms, &bounds)
        }

        fn refusal(&self, instruction: Instruction) -> String {
            match self.check(vec![instruction]) {
                Err(Unacceptable::BadReply(why)) => why,
                other => panic!("{other:?}"),
            }
        }

        fn own(&self) -> Target {
            Target::Connection(self.event.peer.as_ref().unwrap().connection.to_string())
        }
    }

    fn emission(to: Target, name: &str, args: &str) -> Emission {
        Emission {
            to: vec![to],
            except: Vec::new(),
            name: name.to_owned(),
            args: args.to_owned(),
            attachments: Vec::new(),
            volatile: false,
            ack: None,
        }
    }

    #[test]
    fn what_is_granted_passes() {
        let setting = setting();
        let checked = setting.check(vec![
            Instruction::Emit(emission(Target::User("ben".to_owned()), "hello", "[1]")),
            Instruction::Join {
                who: setting.own(),
                room: "chat:1".to_owned(),
            },
        ]);
        let checked = checked.unwrap();
        assert!(
            matches!(&checked.steps[0], Step::Emit { frame, .. } if frame.packet == r#"["hello",1]"#)
        );
        assert!(matches!(&checked.steps[1], Step::Join(..)));
    }

    #[test]
    fn rooms_of_others_cannot_be_entered_or_reached() {
        let setting = setting();
        for room in ["secret:1", "user:ben", "chatter:1", "chat", "chat:"] {
            let join = Instruction::Join {
                who: setting.own(),
                room: room.to_owned(),
            };
            setting.refusal(join);
            setting.refusal(Instruction::Emit(emission(
                Target::Room(room.to_owned()),
                "x",
                "[]",
            )));
        }
        let stranger = Target::Connection(setting.stranger.to_string());
        let why = setting.refusal(Instruction::Emit(emission(stranger, "x", "[]")));
        assert!(why.contains("no room that is granted"), "{why}");
        // A crafted user id cannot become another room either.
        setting.refusal(Instruction::Emit(emission(
            Target::User("a:b".to_owned()),
            "x",
            "[]",
        )));
    }

    #[test]
    fn what_would_harm_clients_is_refused() {
        let setting = setting();
        for (name, args) in [
            ("disconnect", "[]"),
            ("error", "[]"),
            ("session", "[]"),
            ("a\"b", "[]"),
            ("", "[]"),
            ("x", "{}"),
            ("x", "[1"),
            ("x", r#"[{"_placeholder":true,"num":0}]"#),
        ] {
            setting.refusal(Instruction::Emit(emission(setting.own(), name, args)));
        }
        let mut passed_on = emission(setting.own(), "x", r#"[{"_placeholder":true,"num":0}]"#);
        passed_on.attachments = vec![Attachment::Received(0)];
        assert!(
            setting
                .check(vec![Instruction::Emit(passed_on.clone())])
                .is_ok()
        );
        passed_on.attachments = vec![Attachment::Received(1)];
        setting.refusal(Instruction::Emit(passed_on));
    }

    #[test]
    fn one_bad_instruction_refuses_all_and_numbers_are_bounded() {
        let setting = setting();
        let good = || Instruction::Emit(emission(Target::Everyone, "x", "[]"));
        let bad = Instruction::Leave {
            who: setting.own(),
            room: "other:1".to_owned(),
        };
        assert!(setting.check(vec![good(), bad]).is_err());
        assert!(setting.check(vec![good(), good(), good()]).is_ok());
        assert!(setting.check(vec![good(), good(), good(), good()]).is_err());
    }

    #[test]
    fn a_full_connection_is_told_before_anything_happens() {
        let setting = setting();
        let join = |room: &str| Instruction::Join {
            who: setting.own(),
            room: room.to_owned(),
        };
        assert!(
            setting
                .check(vec![join("chat:1"), join("chat:2"), join("chat:2")])
                .is_ok()
        );
        let refused = setting.check(vec![join("chat:1"), join("chat:2"), join("chat:3")]);
        assert!(
            matches!(refused, Err(Unacceptable::Refused(failure)) if failure.code == "RATE_LIMITED")
        );
    }
}
