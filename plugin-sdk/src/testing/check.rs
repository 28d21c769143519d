//! What the host would refuse of a reply, and why.

use super::{TestHost, world::World};
use crate::{bindings::switchboard::plugin::types as wit, placeholder};
use serde_json::Value;

type Checked = Result<(), String>;

/// The host's defaults: instructions, targets and bytes that one reply may have.
const INSTRUCTIONS: usize = 10_000;
const TARGETS: usize = 10_000;
const BYTES: usize = 8 << 20;

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

struct Checker<'a> {
    world: &'a World,
    own: Option<&'a str>,
    /// How many attachments the event has.
    received: usize,
}

/// Checks what a handler wants done.
pub(super) fn reply(
    host: &TestHost,
    own: Option<&str>,
    reply: &wit::Reply,
    received: usize,
) -> Checked {
    let world = &host.world.borrow();
    let checker = Checker {
        world,
        own,
        received,
    };
    bounds(reply)?;
    if let Some(answer) = &reply.ack {
        checker.args("the acknowledgement", &answer.args, &answer.attachments)?;
    }
    reply
        .instructions
        .iter()
        .try_for_each(|instruction| checker.instruction(instruction))
}

/// Checks a handler's verdict.
pub(super) fn failure(failure: &wit::Failure) -> Checked {
    let code = &failure.code;
    let well_formed = (1..=64).contains(&code.len())
        && code.starts_with(|c: char| c.is_ascii_uppercase())
        && code
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if well_formed {
        return Ok(());
    }
    Err(format!(
        "the failure's code `{code}` is not UPPER_SNAKE_CASE"
    ))
}

fn bounds(reply: &wit::Reply) -> Checked {
    let (mut targets, mut bytes) = (0, 0);
    for instruction in &reply.instructions {
        match instruction {
            wit::Instruction::Emit(emission) => {
                targets += emission.to.len() + emission.except.len();
                bytes += emission.args.len();
            }
            _ => targets += 1,
        }
    }
    for (what, count, most) in [
        ("instructions", reply.instructions.len(), INSTRUCTIONS),
        ("targets", targets, TARGETS),
        ("bytes", bytes, BYTES),
    ] {
        if count > most {
            return Err(format!("{count} {what} in one reply, of at most {most}"));
        }
    }
    Ok(())
}

impl Checker<'_> {
    fn instruction(&self, instruction: &wit::Instruction) -> Checked {
        match instruction {
            wit::Instruction::Emit(emission) => self.emission(emission),
            wit::Instruction::Join(membership) | wit::Instruction::Leave(membership) => {
                self.room(&membership.room)?;
                self.target(&membership.who)
            }
            wit::Instruction::Disconnect(disconnection) => self.target(&disconnection.who),
        }
    }

    fn emission(&self, emission: &wit::Emission) -> Checked {
        let name = &emission.name;
        if !(1..=128).contains(&name.len())
            || name.contains(|c: char| c.is_control() || c == '"' || c == '\\')
        {
            return Err(format!(
                "the event name {name:?} is not valid: expected 1 to 128 bytes without control characters, quotes or backslashes"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("the event name `{name}` is reserved"));
        }
        if emission.ack.as_ref().is_some_and(|token| token.len() > 128) {
            return Err(format!("the token of `{name}` is longer than 128 bytes"));
        }
        self.args(&format!("`{name}`"), &emission.args, &emission.attachments)?;
        emission
            .to
            .iter()
            .try_for_each(|target| self.target(target))?;
        // Leaving somebody out reaches nobody, so any connection may be named.
        emission
            .except
            .iter()
            .filter(|target| !matches!(target, wit::Target::Connection(_)))
            .try_for_each(|target| self.target(target))
    }

    fn room(&self, room: &str) -> Checked {
        match room.split_once(':') {
            Some((_, rest))
                if rest.is_empty() || room.len() > 512 || room.contains(char::is_control) => {}
            Some((prefix, _)) if self.world.prefixes.contains(&prefix) => return Ok(()),
            Some((prefix, _)) => {
                return Err(format!(
                    "the room prefix `{prefix}` is not granted to the plugin; add it by Plugin::rooms"
                ));
            }
            None => {}
        }
        Err(format!(
            "{room:?} is no room: expected `prefix:name`, at most 512 bytes, without control characters"
        ))
    }

    fn target(&self, target: &wit::Target) -> Checked {
        match target {
            wit::Target::Everyone => Ok(()),
            wit::Target::Room(room) => self.room(room),
            wit::Target::User(user) => crate::Id::new(user.as_str())
                .map(|_| ())
                .map_err(|error| error.message),
            wit::Target::Connection(id) if id.is_empty() => {
                Err("a server event has no connection of its own: say which".to_owned())
            }
            wit::Target::Connection(id) if Some(id.as_str()) == self.own => Ok(()),
            wit::Target::Connection(id) => match self.world.connections.get(id) {
                Some(connected) if connected.rooms.is_empty() => Err(format!(
                    "the connection `{id}` is in no room that is granted to the plugin"
                )),
                _ => Ok(()),
            },
        }
    }

    fn args(&self, what: &str, args: &str, attachments: &[wit::Attachment]) -> Checked {
        let parsed: Value =
            serde_json::from_str(args).map_err(|error| format!("{what}: {error}"))?;
        if !parsed.is_array() {
            return Err(format!(
                "{what}: the arguments are not an array; hand over a tuple"
            ));
        }
        for attachment in attachments {
            if let wit::Attachment::Received(index) = attachment
                && *index as usize >= self.received
            {
                return Err(format!("{what}: the event has no attachment {index}"));
            }
        }
        let mut numbers: Vec<u32> = placeholder::find(args)
            .map_err(|_| format!("{what}: a binary placeholder is malformed"))?
            .iter()
            .map(|found| found.number)
            .collect();
        numbers.sort_unstable();
        if numbers
            .into_iter()
            .map(|it| it as usize)
            .eq(0..attachments.len())
        {
            return Ok(());
        }
        Err(format!(
            "{what}: binary placeholders and attachments do not match one to one"
        ))
    }
}
