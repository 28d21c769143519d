//! Who is connected and in which rooms, as nodes tell each other.

use crate::core::{
    event::Identity,
    names::{ConnectionId, Namespace, RoomName, UserId},
    presence::Status,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something that has changed on this node.
#[derive(Debug, Clone, PartialEq)]
pub enum Moved {
    /// A connection is somebody's; or it was already, and its token was renewed.
    Opened {
        /// Which.
        connection: ConnectionId,
        /// Where.
        namespace: Namespace,
        /// Whose.
        identity: Arc<Identity>,
    },
    /// A connection has joined a room.
    Joined {
        /// Which.
        connection: ConnectionId,
        /// The room.
        room: RoomName,
    },
    /// A connection has left a room.
    Left {
        /// Which.
        connection: ConnectionId,
        /// The room.
        room: RoomName,
        /// Whether plugins are told that its user has left.
        last: bool,
    },
    /// A connection has begun to type in a room that it is in, or has stopped.
    Typing {
        /// Which.
        connection: ConnectionId,
        /// The room.
        room: RoomName,
        /// Whether it types.
        typing: bool,
    },
    /// A connection has not been active for a while, or is again.
    Idle {
        /// Which.
        connection: ConnectionId,
        /// When it was active last, in milliseconds since 1970 UTC; none when it is.
        since_ms: Option<u64>,
    },
    /// A connection has ended, and plugins have been told. Its user lingers in the rooms that it was in.
    Ended {
        /// Which.
        connection: ConnectionId,
        /// The rooms that it has left at once, since others of its user were there.
        left: Vec<RoomName>,
    },
    /// Nobody lingers for a connection that has ended any more, and plugins have been told.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// The rooms of which plugins were told that its user has left.
        last: Vec<RoomName>,
    },
    /// A user wants to be seen as something, or as what they are.
    Chose {
        /// Who.
        user: UserId,
        /// As what.
        choice: Choice,
    },
    /// Plugins have been told of what a user is seen as.
    Announced {
        /// Who.
        user: UserId,
        /// As what, and when.
        status: Dated<Status>,
    },
}

/// Something that was said at some time; of two the later holds, on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Dated<T> {
    /// In milliseconds since 1970 UTC, and later than what it replaces whatever the clocks say.
    pub at_ms: u64,
    /// What.
    pub what: T,
}

/// As what a user wants to be seen; none is as what they are.
pub type Choice = Dated<Option<Status>>;

impl<T: Copy + Ord> Dated<T> {
    /// Returns what replaces this.
    #[must_use]
    pub fn replaced(&self, what: T, now_ms: u64) -> Self {
        Self {
            at_ms: now_ms.max(self.at_ms.saturating_add(1)),
            what,
        }
    }

    /// Takes the later one; returns whether that changed anything.
    pub fn merge(&mut self, other: Self) -> bool {
        let is_later = other > *self;
        if is_later {
            *self = other;
        }
        is_later
    }
}

/// Is told of what changes on this node, for each connection in its order, and knows which other nodes
/// are told.
pub trait Journal: Send + Sync {
    /// Takes note. Never waits.
    fn note(&self, moved: Moved);

    /// Takes note that something about a user may have changed, on this node or another one: connections,
    /// rooms, typing, or what the user is seen as. Never waits, and takes no lock of others.
    fn touched(&self, _user: &UserId) {}

    /// Tells whether it is this node that tells plugins what a user is seen as. It is one of all, and
    /// while they do not reach each other it may be none.
    fn speaks_for(&self, user: &UserId) -> bool;

    /// Tells whether there is no other node that could go on when this one ends.
    fn is_alone(&self) -> bool;
}

/// The journal of a host that is alone.
impl Journal for super::Alone {
    fn note(&self, _: Moved) {}
    fn speaks_for(&self, _: &UserId) -> bool {
        true
    }
    fn is_alone(&self) -> bool {
        true
    }
}
