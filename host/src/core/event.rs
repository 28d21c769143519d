//! What happened, and to whom.

use super::{
    names::{ConnectionId, EventName, Namespace, RoomName, UserId},
    presence::{Seen, Status},
};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::sync::Arc;
use uuid::{ContextV7, Timestamp, Uuid, timestamp::context::ThreadLocalContext};

/// Returns an id that nothing has had, in the order of times, which are in milliseconds since 1970 UTC; ids
/// that two threads make for the same millisecond are in no order.
#[must_use]
pub fn fresh_id(at_ms: u64) -> Uuid {
    // The library's own is one for all threads, which would wait for each other at every event.
    thread_local! {
        static CONTEXT: ContextV7 = const { ContextV7::new() };
    }
    let nanos = u32::try_from(at_ms % 1_000).unwrap_or_default() * 1_000_000;
    let context = ThreadLocalContext::new(&CONTEXT);
    Uuid::new_v7(Timestamp::from_unix(context, at_ms / 1_000, nanos))
}

/// Who a connection belongs to, as its token said when it was last accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The role after the operator's aliases have been applied.
    pub role: String,
    /// Every claim that the host does not interpret, as one JSON object.
    pub claims: String,
    /// When the token runs out, in seconds since 1970 UTC; never, for guests.
    pub expires_at: Option<u64>,
}

impl Identity {
    /// Returns an identity from its parts, the claims written as JSON.
    #[must_use]
    pub fn new(
        user: UserId,
        role: String,
        claims: Map<String, Value>,
        expires_at: Option<u64>,
    ) -> Self {
        Self {
            user,
            role,
            claims: Value::Object(claims).to_string(),
            expires_at,
        }
    }
}

/// The connection that an event belongs to.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub identity: Arc<Identity>,
}

/// What the host observed.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Authenticated, and before any message.
    Connected,
    /// The connection's last event; it is in no room any more.
    Disconnected {
        /// Why, in a word or two for the operator.
        reason: Arc<str>,
        /// The rooms it was in.
        rooms: Arc<[RoomName]>,
    },
    /// A join took effect.
    Joined {
        /// The room.
        room: RoomName,
        /// Whether no other connection of the user was in the room.
        first: bool,
    },
    /// A leave took effect, or the connection was lost.
    Left {
        /// The room.
        room: RoomName,
        /// Whether no other connection of the user remains.
        last: bool,
        /// Whether it was for a disconnect.
        disconnected: bool,
    },
    /// A user has begun to type in a room, or has stopped.
    Typing {
        /// The room.
        room: RoomName,
        /// Whether the user types now.
        typing: bool,
    },
    /// What a user is seen as has changed. It is no connection's event.
    Presence {
        /// Who.
        user: UserId,
        /// What the user is seen as now.
        seen: Seen,
        /// What plugins were told before.
        before: Status,
        /// The rooms that the user is in; when the last connection has ended, was in.
        rooms: Arc<[(Namespace, RoomName)]>,
    },
    /// A client acknowledged an emission, or did not.
    Acknowledged {
        /// What the plugin called the emission.
        token: Arc<str>,
        /// Which plugin that was.
        plugin: Arc<str>,
        /// The JSON array of the acknowledgement, or `timeout` or `disconnected`.
        outcome: Result<String, &'static str>,
    },
    /// A timer is due.
    Timer {
        /// Where it is.
        partition: Arc<str>,
        /// What the plugin calls it.
        name: Arc<str>,
        /// When it was due, in milliseconds since 1970 UTC.
        due_ms: u64,
        /// What the plugin gave it, JSON.
        payload: Arc<str>,
    },
}

impl Notice {
    /// Returns the name that plugins subscribe to.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::Joined { .. } => "joined",
            Self::Left { .. } => "left",
            Self::Typing { .. } => "typing",
            Self::Presence { .. } => "presence",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Timer { .. } => TIMER_NOTICE,
        }
    }

    /// The names that a plugin can subscribe to.
    pub const NAMES: [&'static str; 8] = [
        "connected",
        "disconnected",
        "joined",
        "left",
        "typing",
        "presence",
        "acknowledged",
        TIMER_NOTICE,
    ];
}

/// The notice that a timer is due.
pub const TIMER_NOTICE: &str = "timer";

/// What caused an event.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// A client sent it.
    Message {
        /// Its name.
        name: EventName,
        /// The JSON array of its arguments.
        args: String,
    },
    /// The host observed it.
    Notice(Notice),
    /// A backend sent it.
    Server {
        /// Its name.
        name: EventName,
        /// The JSON array of its arguments.
        args: String,
        /// Where it came in.
        source: &'static str,
    },
}

impl Trigger {
    /// Returns the name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Message { name, .. } | Self::Server { name, .. } => name.as_str(),
            Self::Notice(notice) => notice.name(),
        }
    }
}

/// One event on its way through the pipeline.
#[derive(Debug, Clone)]
pub struct Event {
    /// A UUIDv7, the same again when a handler is run again.
    pub id: Uuid,
    /// When the host received it, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Where it belongs; a server event is seen by plugins of every namespace, each in its own.
    pub namespace: Namespace,
    /// Absent for a server event.
    pub peer: Option<Peer>,
    /// What caused it.
    pub trigger: Trigger,
    /// The binary attachments of a message.
    pub attachments: Vec<Bytes>,
    /// Whether the sender waits for an acknowledgement.
    pub wants_ack: bool,
    /// How many events of plugins' making led to this one.
    pub depth: u8,
}
