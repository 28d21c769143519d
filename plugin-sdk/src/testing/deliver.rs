//! Handling an event as the host does: call, check, commit, execute, and what follows.

use super::{Asked, DEPTH, Heard, Reply, TestHost, world};
use crate::bindings::switchboard::plugin::types as wit;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};

/// Something that an instruction caused.
struct Caused {
    connection: String,
    name: &'static str,
    data: Value,
}

/// The names that Socket.IO or the host keep for themselves.
const RESERVED: [&str; 12] = [
    "connect",
    "connect_error",
    "connection",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "error",
    "auth",
    "auth-success",
    "session",
    "token-expiring",
];

impl TestHost {
    pub(super) fn run(
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
            trigger,
            attachments: u32::try_from(attachments.len()).unwrap_or(u32::MAX),
            wants_ack: true,
        };
        {
            let mut world = self.world.borrow_mut();
            world.attachments.clone_from(&attachments);
            world.begin();
        }
        let verdict = {
            let _entered = world::enter(&self.world);
            self.plugin.handle(event)
        };
        let reply = match verdict {
            Ok(reply) => reply,
            Err(failure) => return Reply::failed(error_of(failure)),
        };
        if let Err(why) = self.check(connection, &reply, attachments.len()) {
            return refused(&why);
        }
        let committed = self.world.borrow_mut().commit();
        if let Err(why) = committed {
            return refused(&why);
        }
        let mut caused = VecDeque::new();
        for instruction in reply.instructions {
            caused.extend(self.execute(instruction, &attachments));
        }
        while let Some(Caused {
            connection,
            name,
            data,
        }) = caused.pop_front()
        {
            self.notice(&connection, name, &data, depth + 1);
        }
        let answer = reply.ack.map_or_else(
            || vec![json!({ "ok": true })],
            |answer| args_of(&answer.args),
        );
        Reply::acknowledged(answer)
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

    pub(super) fn end(&mut self, connection: &str, reason: &str) {
        let Some(gone) = self.world.borrow_mut().connections.remove(connection) else {
            return;
        };
        self.acks.retain(|asked| asked.connection != connection);
        for room in &gone.rooms {
            let last = !self.is_user_in(&gone.user, room);
            let data = json!({ "room": room, "last": last, "reason": "disconnected" });
            self.notice(connection, "left", &data, 0);
        }
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

    // ---- what the host would refuse ------------------------------------------------------------

    fn check(&self, own: Option<&str>, reply: &wit::Reply, received: usize) -> Result<(), String> {
        if let Some(answer) = &reply.ack {
            check_args(
                "the acknowledgement",
                &answer.args,
                &answer.attachments,
                received,
            )?;
        }
        for instruction in &reply.instructions {
            match instruction {
                wit::Instruction::Emit(emission) => {
                    let name = &emission.name;
                    if RESERVED.contains(&name.as_str()) || name.is_empty() {
                        return Err(format!("the event name `{name}` is reserved"));
                    }
                    if emission.to.is_empty() {
                        return Err(format!("`{name}` is emitted to nobody: say to whom"));
                    }
                    check_args(
                        &format!("`{name}`"),
                        &emission.args,
                        &emission.attachments,
                        received,
                    )?;
                    for target in &emission.to {
                        self.check_target(own, target)?;
                    }
                    for target in &emission.except {
                        // Leaving somebody out reaches nobody.
                        if !matches!(target, wit::Target::Connection(_)) {
                            self.check_target(own, target)?;
                        }
                    }
                }
                wit::Instruction::Join(membership) | wit::Instruction::Leave(membership) => {
                    self.check_room(&membership.room)?;
                    self.check_target(own, &membership.who)?;
                }
                wit::Instruction::Disconnect(disconnection) => {
                    self.check_target(own, &disconnection.who)?
                }
            }
        }
        Ok(())
    }

    fn check_room(&self, room: &str) -> Result<(), String> {
        match room.split_once(':') {
            Some((prefix, rest)) if !rest.is_empty() => {
                if self.plugin.rooms.contains(&prefix) {
                    return Ok(());
                }
                Err(format!(
                    "the room prefix `{prefix}` is not granted to the plugin; add it by Plugin::rooms"
                ))
            }
            _ => Err(format!("`{room}` is no room: expected `prefix:name`")),
        }
    }

    fn check_target(&self, own: Option<&str>, target: &wit::Target) -> Result<(), String> {
        match target {
            wit::Target::Everyone => Ok(()),
            wit::Target::Room(room) => self.check_room(room),
            wit::Target::User(user) => crate::Id::new(user.as_str())
                .map(|_| ())
                .map_err(|error| error.message),
            wit::Target::Connection(id) if id.is_empty() => {
                Err("a server event has no connection of its own".to_owned())
            }
            wit::Target::Connection(id) if Some(id.as_str()) == own => Ok(()),
            wit::Target::Connection(id) => {
                let world = self.world.borrow();
                let reachable = world
                    .connections
                    .get(id)
                    .is_none_or(|connected| !connected.rooms.is_empty());
                if reachable {
                    return Ok(());
                }
                Err(format!(
                    "the connection `{id}` is in no room that is granted to the plugin"
                ))
            }
        }
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
            let user = {
                let mut world = self.world.borrow_mut();
                let Some(connected) = world.connections.get_mut(&connection) else {
                    continue;
                };
                if !apply(&mut connected.rooms, &membership.room) {
                    continue;
                }
                connected.user.clone()
            };
            let world = self.world.borrow();
            let alone = !world.connections.iter().any(|(id, other)| {
                *id != connection && other.user == user && other.rooms.contains(&membership.room)
            });
            let (name, data) = notice(alone);
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

fn check_args(
    what: &str,
    args: &str,
    attachments: &[wit::Attachment],
    received: usize,
) -> Result<(), String> {
    let parsed: Value = serde_json::from_str(args).map_err(|error| format!("{what}: {error}"))?;
    if !parsed.is_array() {
        return Err(format!("{what}: the arguments are not an array"));
    }
    for attachment in attachments {
        if let wit::Attachment::Received(index) = attachment
            && *index as usize >= received
        {
            return Err(format!("{what}: the event has no attachment {index}"));
        }
    }
    let mut numbers = Vec::new();
    placeholders(&parsed, &mut numbers);
    numbers.sort_unstable();
    let expected: Vec<u64> = (0..attachments.len() as u64).collect();
    if numbers == expected {
        return Ok(());
    }
    Err(format!(
        "{what}: binary placeholders and attachments do not match one to one"
    ))
}

fn placeholders(value: &Value, numbers: &mut Vec<u64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| placeholders(item, numbers)),
        Value::Object(object) if object.get("_placeholder") == Some(&Value::Bool(true)) => {
            numbers.push(
                object
                    .get("num")
                    .and_then(Value::as_u64)
                    .unwrap_or(u64::MAX),
            );
        }
        Value::Object(object) => object.values().for_each(|item| placeholders(item, numbers)),
        _ => {}
    }
}
