//! Whom something is about, checked; and what that is called among the nodes of a cluster.

use super::names::{ConnectionId, RoomName};

/// Whom something is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// One connection.
    Connection(ConnectionId),
    /// Those in a room; a user's connections are those in the user's room.
    Room(RoomName),
    /// Every authenticated connection of the namespace.
    Everyone,
}

impl Who {
    /// Returns who is meant by what another node calls a room: on all nodes, those of Node.js too,
    /// a connection is alone in the room of its own id. None where nobody can be in such a room.
    #[must_use]
    pub fn of_room(name: &str) -> Option<Self> {
        match ConnectionId::parse(name) {
            Some(id) => Some(Self::Connection(id)),
            None => RoomName::foreign(name).map(Self::Room),
        }
    }

    /// Returns the room by which other nodes know them, none for everyone.
    #[must_use]
    pub fn room(&self) -> Option<String> {
        match self {
            Self::Connection(id) => Some(id.to_string()),
            Self::Room(room) => Some(room.as_str().to_owned()),
            Self::Everyone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_nodes_know_everybody_by_a_room() {
        let connection = Who::Connection(ConnectionId::fresh());
        for who in [
            connection,
            Who::Room(RoomName::new("room:lobby").unwrap()),
            Who::of_room("a name that no plugin could have").unwrap(),
        ] {
            assert_eq!(Who::of_room(&who.room().unwrap()), Some(who));
        }
        assert_eq!(Who::Everyone.room(), None);
    }
}
