//! The traits between the host's own services and what they run on. Layer 4 implements them; the
//! layers between use them; only `app` knows which implementation stands behind each.

mod state;

mod channels;
mod members;
#[cfg(test)]
mod nowhere;
mod relay;

pub use self::channels::Channels;
pub use self::members::{Choice, Dated, Journal, Moved};
#[cfg(test)]
pub(crate) use self::nowhere::Nowhere;
pub use self::relay::{Alone, Asking, Relay, Relayed};
pub use self::state::{
    Appended, Commit, CommitError, Committed, DueTimer, DueTimers, Entry, Fault, Growth,
    HistoryAccess, HistoryWrites, KvAccess, Owner, Page, PartitionOf, Range, Seen, StateAccess,
    StateBounds, StateStore, StateVersions, Stored, TimersAccess, Unsent, Version, Versioned,
    Visitor, Write,
};

use crate::core::{
    channel::ChannelGrant,
    code::{Code, Failure},
    event::{Event, Identity},
    instruction::Reply,
    manifest::Manifest,
    names::{ConnectionId, Namespace, PluginName, RoomName, RoomPrefix, UserId},
    presence::Seen as UserSeen,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

// ---- sockets ------------------------------------------------------------------------------------

/// One event for clients, checked and ready to be sent to any number of connections.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The JSON array of the event's name and its arguments.
    pub packet: String,
    /// What the placeholders in it stand for.
    pub attachments: Vec<Bytes>,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The connection's outgoing queue is full: its client does not read.
    Full,
    /// The connection is gone.
    Closed,
}

/// How many connections lost a frame that was sent to a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Those that have gone meanwhile.
    pub closed: usize,
    /// Those whose transport is full of packets that the host does not count: answers of the Socket.IO server's
    /// own to a client that does not read them. It ends such a transport when the next ping finds no place.
    pub full: usize,
}

/// Why a transport is closed by the host; the word that the log and the metrics use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// A plugin or the server API asked for it.
    Requested,
    /// The client does not read what it is sent.
    SlowConsumer,
    /// The client sends far more than the host takes.
    Flooding,
    /// No namespace is entered on it any more.
    Unused,
    /// The host shuts down.
    Draining,
    /// Other hosts have taken this one for dead.
    LostLease,
}

impl CloseReason {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::SlowConsumer => "slow-consumer",
            Self::Flooding => "flooding",
            Self::Unused => "unused",
            Self::Draining => "draining",
            Self::LostLease => "lost-lease",
        }
    }
}

/// The outgoing side of one connection. Nothing here waits.
pub trait Outbound: Send + Sync {
    /// Queues a frame. A volatile one may be lost later.
    ///
    /// # Errors
    /// When it was not queued.
    fn emit(&self, frame: &Frame, volatile: bool) -> Result<(), SendError>;

    /// Returns by what name the connection is left out of what is sent to a room. No other has had it.
    fn name(&self) -> &str;

    /// Lets the connection get what is sent to a room, until it ends.
    fn enter(&self, room: &RoomName);

    /// Lets the connection get that no more.
    fn exit(&self, room: &RoomName);

    /// Brings into the processor's caches what [`Outbound::take`] touches. The memory of several connections
    /// for which that is done before is waited for together, and not one after the other.
    fn prefetch(&self) {}

    /// Counts a frame that is about to be queued by [`Outbound::emit_to_room`]; a volatile one is not counted.
    ///
    /// # Errors
    /// When it cannot be queued, and was not counted.
    fn take(&self, frame: &Frame, volatile: bool) -> Result<(), SendError>;

    /// Queues a frame for all connections of this one's namespace that have entered a room, but for those with
    /// some names. It is encoded once. Whether it can be queued for them was asked before.
    ///
    /// # Errors
    /// How many of them it was not queued for all the same. Not for a volatile frame.
    fn emit_to_room(
        &self,
        room: &RoomName,
        except: &[&str],
        frame: &Frame,
        volatile: bool,
    ) -> Result<(), Lost>;

    /// Queues a frame that asks for an acknowledgement, and returns what resolves to the JSON array and attachments
    /// of the client's answer, or to `timeout`, `disconnected`, `invalid`, or `full` when it was not queued.
    fn emit_with_ack(
        &self,
        frame: &Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(String, Vec<Bytes>), &'static str>>;

    /// Closes the namespace. Stock clients do not come back by themselves.
    fn disconnect(&self);

    /// Closes the transport under all of the client's namespaces, so that stock clients reconnect.
    fn close_transport(&self, reason: CloseReason);
}

/// The place for the one acknowledgement of one client event.
pub trait Acknowledge: Send {
    /// Sends the acknowledgement: the JSON array of its arguments, checked.
    ///
    /// # Errors
    /// When it was not queued.
    fn send(self: Box<Self>, args: String, attachments: Vec<Bytes>) -> Result<(), SendError>;
}

// ---- authentication -----------------------------------------------------------------------------

/// A refusal of authentication.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .code.as_str())]
pub struct Refused {
    /// Which refusal.
    pub code: Code,
    /// For the client: never says more than which check failed.
    pub message: String,
}

/// What a guest says of itself in the query of its handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestRequest {
    /// At most 128 characters are kept.
    pub username: String,
    /// At most 254 characters are kept.
    pub email: Option<String>,
}

/// Decides who a connection belongs to.
pub trait Authenticator: Send + Sync {
    /// Returns whose token this is.
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, Refused>>;

    /// Returns an identity for a guest, none where guests are not allowed.
    fn guest(&self, request: &GuestRequest) -> Option<Identity>;
}

// ---- plugins ------------------------------------------------------------------------------------

/// What is fixed for one generation of a plugin: a version together with the operator's settings.
#[derive(Debug)]
pub struct PluginInfo {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Where it is mounted.
    pub namespace: Namespace,
    /// The prefixes that it was granted.
    pub rooms: BTreeSet<RoomPrefix>,
    /// The channels that it was granted to publish to.
    pub channels: Vec<ChannelGrant>,
    /// How much it may store.
    pub state: StateBounds,
    /// The first 12 hexadecimal digits of the content's SHA-256.
    pub digest: String,
}

impl PluginInfo {
    /// Returns the plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.manifest.name
    }

    /// Tells whether the plugin was granted the prefix of a room.
    #[must_use]
    pub fn may_use_prefix(&self, prefix: &str) -> bool {
        self.rooms.contains(prefix)
    }
}

/// Why a call gave no reply. A handler's own verdict is no such thing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// It did not answer in time.
    #[error("no answer within its deadline, {0:?}")]
    Timeout(Duration),
    /// It trapped; the text is for the operator.
    #[error("trap: {0}")]
    Trap(String),
    /// It answered what is not valid; the text is for the operator.
    #[error("bad reply: {0}")]
    BadReply(String),
    /// It failed too often.
    #[error("quarantined for another {retry_after_ms} ms")]
    Quarantined {
        /// When trying again may help.
        retry_after_ms: u64,
    },
    /// The host could not run it now, or not go on with it. Not the plugin's fault.
    #[error("it could not be run: {0}")]
    Unavailable(String),
}

impl CallError {
    /// Returns what the sender of the event sees.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        match self {
            Self::Timeout(_) => {
                Failure::new(Code::PluginTimeout, "the plugin did not answer in time")
            }
            Self::Trap(_) | Self::BadReply(_) => {
                Failure::new(Code::PluginFailed, "the plugin failed on this event")
            }
            Self::Quarantined { retry_after_ms } => {
                Failure::new(Code::PluginQuarantined, "the plugin is disabled for now")
                    .with_details(serde_json::json!({ "retryAfterMs": retry_after_ms }))
            }
            Self::Unavailable(_) => Failure::new(Code::Unavailable, "the plugin cannot be run now"),
        }
    }
}

/// What a handler returned: a reply, or its verdict that the event cannot be done.
pub type Verdict = Result<Reply, Failure>;

/// One generation of a plugin, ready to be called.
pub trait Plugin: Send + Sync {
    /// Returns what is fixed for this generation.
    fn info(&self) -> &PluginInfo;

    /// Hands it an event. The state it reads and stages is in `state`; nothing is committed here.
    /// Counts faults of its own, by the event's user, towards quarantine.
    fn call<'a>(
        &'a self,
        event: &'a Arc<Event>,
        state: &'a Arc<dyn StateAccess>,
    ) -> BoxFuture<'a, Result<Verdict, CallError>>;

    /// Takes note that a call's reply turned out to be valid.
    fn report_good_reply(&self);

    /// Counts a fault that was found only after the call: a reply that is not valid.
    fn report_bad_reply(&self, event: &Event, why: &str);
}

/// A connection in a room, as plugins see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub user: UserId,
    /// The user's role on it.
    pub role: String,
}

/// Who is in which room, as plugins ask for it. What a plugin may see is for the caller to decide.
pub trait RoomsView: Send + Sync {
    /// Returns a page of the connections in a room, in order of their ids.
    fn members(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Vec<Member>;

    /// Returns how many different users are in a room.
    fn count_users(&self, namespace: &Namespace, room: &RoomName) -> usize;

    /// Returns a page of the different users in a room, in order of their ids.
    fn users(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<UserId>;

    /// Tells whether a connection of the namespace is in a room.
    fn has_connection(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        connection: ConnectionId,
    ) -> bool;

    /// Tells whether any connection of a user is in a room.
    fn has_user(&self, namespace: &Namespace, room: &RoomName, user: &UserId) -> bool;

    /// Returns the rooms that a connection of the namespace is in, sorted.
    fn of_connection(&self, namespace: &Namespace, connection: ConnectionId) -> Vec<RoomName>;

    /// Returns the rooms that any connection of a user is in, sorted.
    fn of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<RoomName>;

    /// Returns the users who type in a room, sorted.
    fn typing(&self, namespace: &Namespace, room: &RoomName) -> Vec<UserId>;

    /// Returns a user's connections in a namespace, sorted.
    fn connections_of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<ConnectionId>;
}

/// What users are seen as, as plugins ask for it.
pub trait PresenceView: Send + Sync {
    /// Returns what a user is seen as now.
    fn seen(&self, user: &UserId) -> UserSeen;
}

/// What plugins can ask for.
#[derive(Clone)]
pub struct Views {
    /// Who is in which room.
    pub rooms: Arc<dyn RoomsView>,
    /// What users are seen as.
    pub presence: Arc<dyn PresenceView>,
}
