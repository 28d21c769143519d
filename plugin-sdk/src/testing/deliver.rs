//! Handling an event as the host does: call, check, commit, execute, and what follows.

use super::{Asked, DEPTH, Heard, ROOMS, Reply, TestHost, check, state::Timer, world};
use crate::bindings::switchboard::plugin::types as wit;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};

/// Something that an instruction caused.
struct Caused {
    connection: String,
    name: &'static str,
    data: Value,
}

/// How long a connection types, unless it is said again.
const TYPING_MS: u64 = 5_000;

fn typing_changed(connection: &str, room: &str, typing: bool) -> Caused {
    Caused {
        connection: connection.to_owned(),
        name: "typing",
        data: json!({ "room": room, "typing": typing }),
    }
}

impl TestHost {
    /// Has an event handled, and what follows from it.
    pub(super) fn run(
        &mut self,
        connection: Option<&str>,
        trigger: wit::Trigger,
        attachments: Vec<Vec<u8>>,
        depth: u8,
    ) -> Reply {
        let message = match &trigger {
            wit::Trigger::Message(message) => connection.map(|id| (id, message.name.clone())),
            _ => None,
        };
        self.is_passive = false;
        let reply = self.run_one(connection, trigger, attachments, depth);
        if let Some((connection, event)) = message
            && !self.is_passive
        {
            self.world.borrow_mut().touch(connection, &event);
        }
        if depth == 0 {
            self.tell_presence();
        }
        reply
    }

    fn run_one(
        &mut self,
        connection: Option<&str>,
        trigger: wit::Trigger,
        attachments: Vec<Vec<u8>>,
        depth: u8,
    ) -> Reply {
        if !self.plugin.takes(&trigger) {
            return match trigger {
                wit::Trigger::Notice(_) => Reply::acknowledged(Vec::new()),
                _ => Reply::failed(
                    json!({ "code": "UNKNOWN_EVENT", "message": "nobody takes the event" }),
                ),
            };
        }
        self.events += 1;
        let event = wit::Event {
            id: format!(
                "0192f0c1-2345-7{:03x}-8def-{:012x}",
                self.events & 0xfff,
                self.events
            ),
            at_ms: self.world.borrow().now_ms,
            namespace: "/".to_owned(),
            peer: connection.map(|connection| wit::Peer {
                connection: connection.to_owned(),
                identity: self.identities.get(connection).cloned(),
            }),
            wants_ack: match &trigger {
                wit::Trigger::Message(_) => self.waiting,
                wit::Trigger::Server(_) => true,
                wit::Trigger::Notice(_) => false,
            },
            trigger,
            attachments: u32::try_from(attachments.len()).unwrap_or(u32::MAX),
        };
        {
            let mut world = self.world.borrow_mut();
            world.attachments.clone_from(&attachments);
            world.has_peer = connection.is_some();
        }
        let checked = match self.handle_twice(event) {
            Ok(reply) => check::reply(self, connection, &reply, attachments.len()).map(|()| reply),
            Err(failure) => match check::failure(&failure) {
                Ok(()) => return Reply::failed(error_of(failure)),
                Err(why) => Err(why),
            },
        };
        let reply = match checked {
            Ok(reply) => reply,
            Err(why) => return refused(&why),
        };
        if self.joins_too_many(connection, &reply) {
            return Reply::failed(json!({
                "code": "RATE_LIMITED",
                "message": "this connection is in as many rooms as it may be; leave one first",
            }));
        }
        let (typing, choices, published) = {
            let staged = &mut self.world.borrow_mut().staged;
            (
                std::mem::take(&mut staged.typing),
                std::mem::take(&mut staged.choices),
                std::mem::take(&mut staged.published),
            )
        };
        let committed = self.world.borrow_mut().commit();
        if let Err(why) = committed {
            return refused(&why);
        }
        let mut caused = VecDeque::new();
        for instruction in reply.instructions {
            caused.extend(self.execute(instruction, &attachments));
        }
        self.world.borrow_mut().choose(choices);
        let stops = typing.iter().any(|(_, starts)| !starts);
        for (room, starts) in typing {
            let Some(connection) = connection else { break };
            let mut world = self.world.borrow_mut();
            let until = starts.then(|| world.now_ms + TYPING_MS);
            if world.set_typing(connection, &room, until) {
                caused.push_back(typing_changed(connection, &room, starts));
            }
        }
        self.world.borrow_mut().published.extend(published);
        while let Some(Caused {
            connection,
            name,
            data,
        }) = caused.pop_front()
        {
            self.notice(&connection, name, &data, depth + 1);
        }
        self.is_passive = stops;
        let answer = reply.ack.map_or_else(
            || vec![json!({ "ok": true })],
            |answer| args_of(&answer.args),
        );
        Reply::acknowledged(answer)
    }

    /// Handles an event as a host does when something that it read has changed in the meantime: the
    /// first run counts for nothing, and the second must want the same.
    fn handle_twice(&mut self, event: wit::Event) -> Result<wit::Reply, wit::Failure> {
        let run = |event| {
            self.world.borrow_mut().begin();
            let _entered = world::enter(&self.world);
            self.plugin.handle(event)
        };
        let what = format!("{:?}", event.trigger);
        let logged = self.world.borrow().log.len();
        let first = run(event.clone());
        let staged = std::mem::take(&mut self.world.borrow_mut().staged);
        self.world.borrow_mut().log.truncate(logged);
        let again = run(event);
        let is_same = format!("{first:?}") == format!("{again:?}");
        let world = self.world.borrow();
        assert!(
            is_same && staged == world.staged,
            "the handler does something else when the host runs it again for the same event; it must \
             keep nothing outside of kv, and draw no lots\nevent: {what}\nfirst: {first:#?}\n{staged:#?}\nthen: \
             {again:#?}\n{:#?}",
            world.staged
        );
        again
    }

    /// Tells whether the event's own connection would be in more rooms than it may be.
    fn joins_too_many(&self, own: Option<&str>, reply: &wit::Reply) -> bool {
        let world = self.world.borrow();
        let Some(own) = own.and_then(|own| Some((own, world.connections.get(own)?))) else {
            return false;
        };
        let joined: BTreeSet<&String> = reply
            .instructions
            .iter()
            .filter_map(|instruction| match instruction {
                wit::Instruction::Join(wit::Membership {
                    who: wit::Target::Connection(id),
                    room,
                }) if id == own.0 && !own.1.rooms.contains(room) => Some(room),
                _ => None,
            })
            .collect();
        !joined.is_empty() && own.1.rooms.len() + joined.len() > ROOMS
    }

    pub(super) fn notice(&mut self, connection: &str, name: &str, data: &Value, depth: u8) {
        assert!(
            depth <= DEPTH,
            "the plugin causes events of its own without end; this one would be `{name}` {data}"
        );
        let notice = wit::Notice {
            name: name.to_owned(),
            data: data.to_string(),
        };
        let reply = self.run(
            Some(connection),
            wit::Trigger::Notice(notice),
            Vec::new(),
            depth,
        );
        assert!(
            reply.args.is_ok(),
            "the handler of `{name}` failed, which nobody would be told: {:?}",
            reply.args
        );
    }

    /// Hands a timer that is due to its handler, at its time.
    #[track_caller]
    pub(super) fn fire(&mut self, place: (String, String), timer: &Timer) {
        {
            let mut world = self.world.borrow_mut();
            world.now_ms = world.now_ms.max(timer.due_ms);
            world.firing = Some(place.clone());
        }
        let (partition, name) = place;
        let data = json!({
            "partition": partition, "name": name, "due": timer.due_ms, "payload": timer.payload,
        });
        let notice = wit::Trigger::Notice(wit::Notice {
            name: "timer".to_owned(),
            data: data.to_string(),
        });
        assert!(
            self.plugin.takes(&notice),
            "the timer `{name}` is due, and the plugin handles no timers; add Plugin::on_timer"
        );
        let reply = self.run(None, notice, Vec::new(), 0);
        assert!(
            reply.args.is_ok(),
            "the handler of the timer `{name}` failed; a host would run it again later: {:?}",
            reply.args
        );
    }

    /// Lets a connection stop typing, at its time.
    pub(super) fn fall_silent(&mut self, until: u64, connection: &str, room: &str) {
        let stopped = {
            let mut world = self.world.borrow_mut();
            world.now_ms = world.now_ms.max(until);
            world.set_typing(connection, room, None)
        };
        if stopped {
            let Caused { name, data, .. } = typing_changed(connection, room, false);
            self.notice(connection, name, &data, 0);
        }
    }

    pub(super) fn end(&mut self, connection: &str, reason: &str) {
        let (asked, others) = std::mem::take(&mut self.acks)
            .into_iter()
            .partition(|asked: &Asked| asked.connection == connection);
        self.acks = others;
        for Asked { token, .. } in asked {
            let data = json!({ "token": token, "error": "disconnected" });
            self.notice(connection, "acknowledged", &data, 0);
        }
        let Some(gone) = self.world.borrow_mut().connections.remove(connection) else {
            return;
        };
        let mut lingers = BTreeSet::new();
        for room in &gone.rooms {
            let typing = self.world.borrow().typing_in(room);
            if gone.typing.contains_key(room) && !typing.contains(&gone.user) {
                let Caused { name, data, .. } = typing_changed(connection, room, false);
                self.notice(connection, name, &data, 0);
            }
            if self.is_user_in(&gone.user, room) {
                let data = json!({ "room": room, "last": false, "reason": "disconnected" });
                self.notice(connection, "left", &data, 0);
            } else {
                lingers.insert(room.clone());
            }
        }
        let mut world = self.world.borrow_mut();
        world.linger(connection, &gone.user, lingers, gone.active_ms);
        drop(world);
        let data = json!({ "reason": reason, "rooms": gone.rooms });
        self.notice(connection, "disconnected", &data, 0);
    }

    fn is_user_in(&self, user: &str, room: &str) -> bool {
        let world = self.world.borrow();
        world
            .connections
            .values()
            .any(|connected| connected.user == user && connected.rooms.contains(room))
    }

    // ---- instructions --------------------------------------------------------------------------

    fn resolve(&self, target: &wit::Target) -> Vec<String> {
        let world = self.world.borrow();
        world
            .connections
            .iter()
            .filter(|(id, connected)| match target {
                wit::Target::Connection(connection) => *id == connection,
                wit::Target::User(user) => connected.user == *user,
                wit::Target::Room(room) => connected.rooms.contains(room),
                wit::Target::Everyone => true,
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn execute(&mut self, instruction: wit::Instruction, received: &[Vec<u8>]) -> Vec<Caused> {
        match instruction {
            wit::Instruction::Emit(emission) => {
                self.deliver(emission, received);
                Vec::new()
            }
            wit::Instruction::Join(membership) => self.change(
                &membership,
                |rooms, room| rooms.insert(room.to_owned()),
                |first| ("joined", json!({ "room": membership.room, "first": first })),
            ),
            wit::Instruction::Leave(membership) => self.change(
                &membership,
                |rooms, room| rooms.remove(room),
                |last| {
                    (
                        "left",
                        json!({ "room": membership.room, "last": last, "reason": "left" }),
                    )
                },
            ),
            wit::Instruction::Disconnect(disconnection) => {
                for connection in self.resolve(&disconnection.who) {
                    self.end(&connection, &disconnection.reason);
                }
                Vec::new()
            }
        }
    }

    fn change(
        &mut self,
        membership: &wit::Membership,
        apply: impl Fn(&mut BTreeSet<String>, &str) -> bool,
        notice: impl Fn(bool) -> (&'static str, Value),
    ) -> Vec<Caused> {
        let mut caused = Vec::new();
        for connection in self.resolve(&membership.who) {
            let types = self.world.borrow().typing_in(&membership.room);
            let user = {
                let mut world = self.world.borrow_mut();
                let Some(connected) = world.connections.get_mut(&connection) else {
                    continue;
                };
                if !apply(&mut connected.rooms, &membership.room) {
                    continue;
                }
                if !connected.rooms.contains(&membership.room) {
                    connected.typing.remove(&membership.room);
                }
                connected.user.clone()
            };
            let mut world = self.world.borrow_mut();
            if types != world.typing_in(&membership.room) {
                caused.push(typing_changed(&connection, &membership.room, false));
            }
            let joined = world
                .connections
                .get(&connection)
                .is_some_and(|connected| connected.rooms.contains(&membership.room));
            let others = world.connections.iter().any(|(id, other)| {
                *id != connection && other.user == user && other.rooms.contains(&membership.room)
            });
            if !joined && !others {
                world.presence.leave(&user, &membership.room);
            }
            let mut lingering = world.presence.lingering();
            let lingers =
                lingering.any(|(of, rooms)| *of == user && rooms.contains(&membership.room));
            let (name, data) = notice(!others && !lingers);
            caused.push(Caused {
                connection,
                name,
                data,
            });
        }
        caused
    }

    fn deliver(&mut self, emission: wit::Emission, received: &[Vec<u8>]) {
        let all = |targets: &[wit::Target]| -> BTreeSet<String> {
            targets
                .iter()
                .flat_map(|target| self.resolve(target))
                .collect()
        };
        let (to, except) = (all(&emission.to), all(&emission.except));
        let attachments: Vec<Vec<u8>> = emission
            .attachments
            .into_iter()
            .map(|attachment| match attachment {
                wit::Attachment::Bytes(bytes) => bytes,
                wit::Attachment::Received(index) => {
                    received.get(index as usize).cloned().unwrap_or_default()
                }
            })
            .collect();
        for connection in to.difference(&except) {
            if let Some(token) = &emission.ack {
                self.acks.push(Asked {
                    connection: connection.clone(),
                    token: token.clone(),
                });
            }
            if let Some(inbox) = self.inboxes.get_mut(connection) {
                inbox.push(Heard {
                    event: emission.name.clone(),
                    args: args_of(&emission.args),
                    attachments: attachments.clone(),
                });
            }
        }
    }
}

fn args_of(args: &str) -> Vec<Value> {
    serde_json::from_str(args).unwrap_or_default()
}

fn error_of(failure: wit::Failure) -> Value {
    let mut error = json!({ "code": failure.code, "message": failure.message });
    let details = failure
        .details
        .and_then(|details| serde_json::from_str::<Value>(&details).ok());
    if let (Some(details), Some(object)) = (details, error.as_object_mut()) {
        object.insert("details".to_owned(), details);
    }
    error
}

/// What a client would be told, and for the test's reader why.
fn refused(why: &str) -> Reply {
    Reply::failed(json!({
        "code": "PLUGIN_FAILED",
        "message": "the plugin failed on this event",
        "details": { "the host would refuse this reply": why },
    }))
}
