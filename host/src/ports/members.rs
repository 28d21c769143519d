//! Who is connected and in which rooms, as nodes tell each other.

use crate::core::{
    event::Identity,
    names::{ConnectionId, Namespace, RoomName},
};
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
    /// A connection has ended, and is in no room any more.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
}

/// Is told of what changes on this node, for each connection in its order.
pub trait Journal: Send + Sync {
    /// Takes note. Never waits.
    fn note(&self, moved: Moved);
}

/// The journal of a host that is alone.
impl Journal for super::Alone {
    fn note(&self, _: Moved) {}
}
