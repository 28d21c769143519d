//! What plugins import, on the host's side: all but stored state.

use super::{bindings::switchboard::plugin as wit, guest::GuestState};
use crate::{
    core::{
        event::Event,
        instruction::Instruction,
        names::{ConnectionId, RoomName, UserId},
        presence::{Seen, Status},
    },
    metrics,
    ports::Fault,
};
use serde_json::json;

/// Bytes of one line of a plugin's log; the rest is cut.
const LOG_LINE_BYTES: usize = 4096;
/// Lines that one event may log.
const LOG_LINES: u32 = 100;
/// What one event may do to soft state.
const SOFT: usize = 100;
/// Entries of one page, of whatever.
const PAGE: u32 = 1_000;

impl From<Fault> for wit::types::Fault {
    fn from(fault: Fault) -> Self {
        Self {
            code: fault.code.to_owned(),
            message: fault.message,
        }
    }
}

pub(super) type Faulty<T> = Result<T, wit::types::Fault>;

pub(super) fn fault(code: &'static str, message: impl Into<String>) -> wit::types::Fault {
    Fault::new(code, message).into()
}

pub(super) fn invalid(message: impl Into<String>) -> wit::types::Fault {
    fault("INVALID", message)
}

fn page(limit: u32) -> Faulty<usize> {
    match limit {
        1..=PAGE => Ok(limit as usize),
        _ => Err(invalid(format!("limit: expected 1 to {PAGE}, got {limit}"))),
    }
}

impl wit::types::Host for GuestState {}

impl wit::log::Host for GuestState {
    fn write(&mut self, level: wit::log::Level, message: String) {
        let info = &self.about.info;
        self.log_lines += 1;
        if self.log_lines > LOG_LINES {
            let label = metrics::Plugin {
                plugin: info.name().as_str().to_owned().into(),
            };
            self.about
                .metrics
                .log_lines_dropped
                .get_or_create(&label)
                .inc();
            return;
        }
        let line = cut(&message, LOG_LINE_BYTES);
        let event = self.call.as_ref().map(|call| &*call.event);
        macro_rules! write {
            ($level:ident) => {
                tracing::$level!(
                    plugin = %info.name(),
                    version = info.manifest.version,
                    digest = info.digest,
                    event = event.map(|event| event.trigger.name()),
                    id = event.map(|event| tracing::field::display(event.id)),
                    connection = event.and_then(connection_of).map(tracing::field::display),
                    "{line}"
                )
            };
        }
        match level {
            wit::log::Level::Trace => write!(trace),
            wit::log::Level::Debug => write!(debug),
            wit::log::Level::Info => write!(info),
            wit::log::Level::Warn => write!(warn),
            wit::log::Level::Error => write!(error),
        }
    }
}

fn connection_of(event: &Event) -> Option<ConnectionId> {
    event.peer.as_ref().map(|peer| peer.connection)
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

impl wit::settings::Host for GuestState {
    fn get(&mut self) -> String {
        self.about.settings.clone()
    }
}

impl wit::attachments::Host for GuestState {
    fn size(&mut self, index: u32) -> Option<u64> {
        self.attachment(index).map(|bytes| bytes.len() as u64)
    }

    fn read(&mut self, index: u32) -> Option<Vec<u8>> {
        self.attachment(index).map(|bytes| bytes.to_vec())
    }
}

impl GuestState {
    fn attachment(&self, index: u32) -> Option<&bytes::Bytes> {
        self.call.as_ref()?.event.attachments.get(index as usize)
    }

    /// Returns the room of a name, if the plugin may see it.
    fn room(&self, name: &str) -> Faulty<RoomName> {
        let room = RoomName::new(name).map_err(|error| invalid(error.to_string()))?;
        if self.about.info.may_use_prefix(room.prefix()) {
            Ok(room)
        } else {
            Err(fault(
                "NOT_GRANTED",
                format!(
                    "the room prefix `{}` is not granted to this plugin",
                    room.prefix()
                ),
            ))
        }
    }

    fn visible(&self, rooms: Vec<RoomName>) -> Vec<String> {
        rooms
            .into_iter()
            .filter(|room| self.about.info.may_use_prefix(room.prefix()))
            .map(String::from)
            .collect()
    }
}

fn user(id: &str) -> Faulty<UserId> {
    UserId::new(id).map_err(|error| invalid(error.to_string()))
}

impl GuestState {
    /// Takes something that the event does to soft state.
    fn soft(&mut self, instruction: Instruction) -> Faulty<()> {
        let is_soft = |soft: &&Instruction| !matches!(soft, Instruction::Publish { .. });
        if self.soft.iter().filter(is_soft).count() >= SOFT {
            let why = format!("more than {SOFT} changes of typing and presence in one event");
            return Err(fault("TOO_MANY", why));
        }
        self.soft.push(instruction);
        Ok(())
    }

    fn set_typing(&mut self, room: &str, typing: bool) -> Faulty<()> {
        let room = self.room(room)?;
        let peer = self.call.as_ref().and_then(|call| call.event.peer.as_ref());
        if peer.is_none() {
            return Err(invalid("this event is nobody's, and nobody can type"));
        }
        self.soft(Instruction::Type { room, typing })
    }

    fn seen(&self, users: impl IntoIterator<Item = UserId>) -> String {
        let seen = users.into_iter().map(|user| {
            let Seen { status, at_ms } = self.about.views.presence.seen(&user);
            json!({ "user": user, "status": status, "seen": at_ms })
        });
        json!(seen.collect::<Vec<_>>()).to_string()
    }
}

impl wit::presence::Host for GuestState {
    fn get(&mut self, users: Vec<String>) -> Faulty<String> {
        if users.len() > PAGE as usize {
            let why = format!("{} users at once, of at most {PAGE}", users.len());
            return Err(fault("TOO_MANY", why));
        }
        let users: Vec<_> = users.iter().map(|id| user(id)).collect::<Faulty<_>>()?;
        Ok(self.seen(users))
    }

    fn of_room(&mut self, room: String, after: Option<String>, limit: u32) -> Faulty<String> {
        let (room, limit) = (self.room(&room)?, page(limit)?);
        let (rooms, namespace) = (&self.about.views.rooms, &self.about.info.namespace);
        let users = rooms.users(namespace, &room, after.as_deref(), limit);
        Ok(self.seen(users))
    }

    fn choose(&mut self, id: String, status: String) -> Faulty<()> {
        let user = user(&id)?;
        let status = Status::parse(&status).ok_or_else(|| {
            let all = Status::ALL.map(Status::as_str).join(", ");
            invalid(format!("status: expected one of {all}, got `{status}`"))
        })?;
        self.soft(Instruction::Choose { user, status })
    }
}

impl wit::typing::Host for GuestState {
    fn start(&mut self, room: String) -> Faulty<()> {
        self.set_typing(&room, true)
    }

    fn stop(&mut self, room: String) -> Faulty<()> {
        self.set_typing(&room, false)
    }

    fn users(&mut self, room: String) -> Faulty<Vec<String>> {
        let room = self.room(&room)?;
        let namespace = &self.about.info.namespace;
        let users = self.about.views.rooms.typing(namespace, &room).into_iter();
        Ok(users
            .take(PAGE as usize)
            .map(|user| user.as_str().to_owned())
            .collect())
    }
}

impl wit::rooms::Host for GuestState {
    fn members(&mut self, room: String, after: Option<String>, limit: u32) -> Faulty<String> {
        let (room, limit) = (self.room(&room)?, page(limit)?);
        let after = after
            .map(|id| {
                ConnectionId::parse(&id).ok_or_else(|| invalid("after: not the id of a connection"))
            })
            .transpose()?;
        let members: Vec<_> = self
            .about
            .views
            .rooms
            .members(&self.about.info.namespace, &room, after, limit)
            .into_iter()
            .map(|member| {
                json!({
                    "connection": member.connection.to_string(),
                    "user": member.user,
                    "role": member.role,
                })
            })
            .collect();
        Ok(json!(members).to_string())
    }

    fn count_users(&mut self, room: String) -> Faulty<u32> {
        let room = self.room(&room)?;
        let count = self
            .about
            .views
            .rooms
            .count_users(&self.about.info.namespace, &room);
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn users(&mut self, room: String, after: Option<String>, limit: u32) -> Faulty<Vec<String>> {
        let (room, limit) = (self.room(&room)?, page(limit)?);
        let users = self.about.views.rooms.users(
            &self.about.info.namespace,
            &room,
            after.as_deref(),
            limit,
        );
        Ok(users.into_iter().map(String::from).collect())
    }

    fn has_connection(&mut self, room: String, connection: String) -> Faulty<bool> {
        let room = self.room(&room)?;
        Ok(ConnectionId::parse(&connection).is_some_and(|id| {
            self.about
                .views
                .rooms
                .has_connection(&self.about.info.namespace, &room, id)
        }))
    }

    fn has_user(&mut self, room: String, id: String) -> Faulty<bool> {
        let (room, user) = (self.room(&room)?, user(&id)?);
        Ok(self
            .about
            .views
            .rooms
            .has_user(&self.about.info.namespace, &room, &user))
    }

    fn of_connection(&mut self, connection: String) -> Faulty<Vec<String>> {
        let Some(id) = ConnectionId::parse(&connection) else {
            return Ok(Vec::new());
        };
        Ok(self.visible(
            self.about
                .views
                .rooms
                .of_connection(&self.about.info.namespace, id),
        ))
    }

    fn of_user(&mut self, id: String) -> Faulty<Vec<String>> {
        let user = user(&id)?;
        Ok(self.visible(
            self.about
                .views
                .rooms
                .of_user(&self.about.info.namespace, &user),
        ))
    }

    fn connections_of_user(&mut self, id: String) -> Faulty<Vec<String>> {
        let user = user(&id)?;
        Ok(self
            .about
            .views
            .rooms
            .connections_of_user(&self.about.info.namespace, &user)
            .iter()
            .map(ConnectionId::to_string)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 9), "aé");
    }
}
