//! What this node tells others of its connections: changes by number, and all of them for who asks.

use super::{
    letters::{Change, Member, Said},
    others::Everyone,
};
use crate::{
    core::names::{RoomName, UserId},
    presence::Known,
};
use std::collections::BTreeMap;

/// Connections in one part of a whole.
const PART: usize = 500;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Own {
    changes: u64,
    members: BTreeMap<String, Member>,
    /// The number of the change that each was opened by.
    opened: BTreeMap<String, u64>,
}

impl Own {
    /// Takes changes, and returns what is said of them.
    pub(super) fn change(&mut self, changes: Vec<Change>) -> Said {
        let first = self.changes;
        self.changes += changes.len() as u64;
        for (change, number) in changes.iter().zip(first..) {
            self.apply(change, number);
        }
        Said::Changed { first, changes }
    }

    fn apply(&mut self, change: &Change, number: u64) {
        match change {
            Change::Opened(member) => {
                self.opened
                    .entry(member.connection.clone())
                    .or_insert(number);
                let known = self.members.entry(member.connection.clone());
                let rooms = known.and_modify(|known| {
                    let rooms = std::mem::take(&mut known.rooms);
                    let typing = std::mem::take(&mut known.typing);
                    *known = Member {
                        rooms,
                        typing,
                        idle_ms: known.idle_ms,
                        ended: known.ended,
                        ..member.clone()
                    };
                });
                rooms.or_insert_with(|| member.clone());
            }
            Change::Joined { connection, room } => {
                if let Some(member) = self.live(connection) {
                    member.rooms.insert(room.clone());
                }
            }
            Change::Left {
                connection, room, ..
            } => {
                if let Some(member) = self.live(connection) {
                    member.rooms.remove(room);
                    member.typing.remove(room);
                }
            }
            Change::Typing {
                connection,
                room,
                typing,
            } => {
                if let Some(member) = self.live(connection) {
                    match *typing && member.rooms.contains(room) {
                        true => member.typing.insert(room.clone()),
                        false => member.typing.remove(room),
                    };
                }
            }
            Change::Idle {
                connection,
                since_ms,
            } => {
                if let Some(member) = self.members.get_mut(connection) {
                    member.idle_ms = *since_ms;
                }
            }
            Change::Ended { connection, .. } => {
                if let Some(member) = self.members.get_mut(connection) {
                    member.ended = true;
                    member.typing.clear();
                }
            }
            Change::Closed { connection, .. } => {
                self.members.remove(connection);
                self.opened.remove(connection);
            }
            // That is kept where it is merged.
            Change::Known { .. } => {}
        }
    }

    /// Returns a connection that has not ended.
    fn live(&mut self, connection: &str) -> Option<&mut Member> {
        let member = self.members.get_mut(connection)?;
        (!member.ended).then_some(member)
    }

    /// Tells whether who has heard of so many changes knows a connection.
    pub(super) fn is_known_by(&self, changes: u64, connection: &str) -> bool {
        let opened = self.opened.get(connection);
        opened.is_some_and(|opened| *opened < changes)
    }

    /// Returns what is said now and then.
    pub(super) fn alive(&self) -> Said {
        Said::Alive {
            changes: self.changes,
        }
    }

    /// Returns all connections, in parts, with what is known of their users. Where their users linger is
    /// what this node knows itself: it ends when they leave on purpose, by whichever connection on
    /// whichever node.
    pub(super) fn whole(&self, everyone: &Everyone) -> Vec<Said> {
        let presence = &everyone.presence;
        let members: Vec<&Member> = self.members.values().collect();
        let users: Vec<(String, Known)> = presence
            .who_chose()
            .into_iter()
            .map(|(user, known)| (user.as_str().to_owned(), known))
            .collect();
        let (mut members, mut users) = (members.chunks(PART), users.chunks(PART));
        let parts = members.len().max(users.len()).max(1);
        let whole = (0..parts).map(|part| {
            let members = members.next().unwrap_or_default().iter();
            Said::Whole {
                changes: self.changes,
                part,
                parts,
                connections: members.map(|member| as_known(member, everyone)).collect(),
                users: users.next().unwrap_or_default().to_vec(),
            }
        });
        whole.collect()
    }
}

fn as_known(member: &Member, everyone: &Everyone) -> Member {
    let user = UserId::new(&member.user).ok();
    let mut rooms = member.rooms.clone();
    // One that is not there any more has ended for good, and will be told to have.
    if member.ended
        && let Some((connection, namespace, identity)) = member.parts()
        && everyone.rooms.whose(connection).is_some()
    {
        rooms.retain(|room| {
            let (rooms, user) = (&everyone.rooms, &identity.user);
            RoomName::foreign(room)
                .is_some_and(|room| rooms.lingers(&namespace, &room, user, connection))
        });
    }
    Member {
        rooms,
        known: user.map(|user| everyone.presence.known(&user)),
        ..member.clone()
    }
}
