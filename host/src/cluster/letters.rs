//! What hosts tell each other about their connections. It is ours alone; Node.js knows nothing of it.

use crate::{
    core::{
        event::Identity,
        names::{ConnectionId, Namespace, RoomName, UserId},
    },
    ports::Moved,
    presence::Known,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// Who says it: a host, for as long as it is not taken for dead.
    pub(super) node: String,
    pub(super) said: Said,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    /// That it lives, and how many changes it has told of.
    Alive { changes: u64 },
    /// Changes, the first of which has this number.
    Changed { first: u64, changes: Vec<Change> },
    /// Asks a host for all of its connections, or every one of them.
    Ask { of: Option<String> },
    /// All connections as of so many changes, in so many parts.
    Whole {
        changes: u64,
        part: usize,
        parts: usize,
        connections: Vec<Member>,
        /// Those of whom more is known than where they are connected.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        users: Vec<(String, Known)>,
    },
    /// That another host was taken for dead, and what it had has been dealt with, as of so many of its
    /// changes.
    Buried { node: String, changes: u64 },
    /// That it ends, in order.
    Bye,
    /// Asks every host about itself; said by who is none.
    Who,
    /// What a host says about itself.
    Here(About),
}

/// What a host says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Where it listens.
    pub address: String,
    /// Its version.
    pub version: String,
    /// For how many seconds it has been there.
    pub seconds: u64,
    /// Its own connections.
    pub connections: usize,
    /// How many other hosts it knows of.
    pub others: usize,
    /// Its plugins.
    pub plugins: Vec<Running>,
}

/// A plugin that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The first digits of its content's hash.
    pub digest: String,
}

/// A connection, and where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) connection: String,
    pub(super) namespace: String,
    pub(super) user: String,
    pub(super) role: String,
    pub(super) claims: String,
    pub(super) rooms: BTreeSet<String>,
    /// Those of the rooms in which it types.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) typing: BTreeSet<String>,
    /// Whether it has ended, and its user lingers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) ended: bool,
    /// Since when it is idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) idle_ms: Option<u64>,
    /// What is known of its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) known: Option<Known>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Member {
    /// Returns its parts as the host has them; none where they are no such parts.
    pub(super) fn parts(&self) -> Option<(ConnectionId, Namespace, Arc<Identity>)> {
        let identity = Identity {
            user: UserId::new(&self.user).ok()?,
            role: self.role.clone(),
            claims: self.claims.clone(),
            expires_at: None,
        };
        Some((
            ConnectionId::parse(&self.connection)?,
            Namespace::new(&self.namespace).ok()?,
            Arc::new(identity),
        ))
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = RoomName> {
        self.rooms.iter().filter_map(|room| RoomName::foreign(room))
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    Opened(Member),
    Joined {
        connection: String,
        room: String,
    },
    Left {
        connection: String,
        room: String,
        /// Whether plugins are told that its user has left.
        last: bool,
    },
    Typing {
        connection: String,
        room: String,
        typing: bool,
    },
    Idle {
        connection: String,
        since_ms: Option<u64>,
    },
    Ended {
        connection: String,
        /// The rooms that it has left at once.
        left: Vec<String>,
    },
    Closed {
        connection: String,
        /// The rooms of which plugins were told that its user has left.
        last: Vec<String>,
    },
    /// What is known of a user.
    Known {
        user: String,
        known: Known,
    },
}

impl From<Moved> for Change {
    fn from(moved: Moved) -> Self {
        match moved {
            Moved::Opened {
                connection,
                namespace,
                identity,
            } => Self::Opened(Member {
                connection: connection.to_string(),
                namespace: namespace.as_str().to_owned(),
                user: identity.user.as_str().to_owned(),
                role: identity.role.clone(),
                claims: identity.claims.clone(),
                rooms: BTreeSet::new(),
                typing: BTreeSet::new(),
                ended: false,
                idle_ms: None,
                known: None,
            }),
            Moved::Joined { connection, room } => Self::Joined {
                connection: connection.to_string(),
                room: room.as_str().to_owned(),
            },
            Moved::Left {
                connection,
                room,
                last,
            } => Self::Left {
                connection: connection.to_string(),
                room: room.as_str().to_owned(),
                last,
            },
            Moved::Typing {
                connection,
                room,
                typing,
            } => Self::Typing {
                connection: connection.to_string(),
                room: room.as_str().to_owned(),
                typing,
            },
            Moved::Idle {
                connection,
                since_ms,
            } => Self::Idle {
                connection: connection.to_string(),
                since_ms,
            },
            Moved::Ended { connection, left } => Self::Ended {
                connection: connection.to_string(),
                left: texts(&left),
            },
            Moved::Closed { connection, last } => Self::Closed {
                connection: connection.to_string(),
                last: texts(&last),
            },
            Moved::Chose { user, choice } => Self::Known {
                user: user.as_str().to_owned(),
                known: Known {
                    choice,
                    ..Known::default()
                },
            },
            Moved::Announced { user, status } => Self::Known {
                user: user.as_str().to_owned(),
                known: Known {
                    announced: status,
                    ..Known::default()
                },
            },
        }
    }
}

fn texts(rooms: &[RoomName]) -> Vec<String> {
    let rooms = rooms.iter();
    rooms.map(|room| room.as_str().to_owned()).collect()
}
