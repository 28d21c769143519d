//! What this node tells others of its connections: changes by number, and all of them for who asks.

use super::letters::{Change, Member, Said};
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
                        ..member.clone()
                    };
                });
                rooms.or_insert_with(|| member.clone());
            }
            Change::Joined { connection, room } => {
                if let Some(member) = self.members.get_mut(connection) {
                    member.rooms.insert(room.clone());
                }
            }
            Change::Left { connection, room } => {
                if let Some(member) = self.members.get_mut(connection) {
                    member.rooms.remove(room);
                    member.typing.remove(room);
                }
            }
            Change::Typing {
                connection,
                room,
                typing,
            } => {
                if let Some(member) = self.members.get_mut(connection) {
                    match *typing && member.rooms.contains(room) {
                        true => member.typing.insert(room.clone()),
                        false => member.typing.remove(room),
                    };
                }
            }
            Change::Closed { connection } => {
                self.members.remove(connection);
                self.opened.remove(connection);
            }
        }
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

    /// Returns all connections, in parts.
    pub(super) fn whole(&self) -> Vec<Said> {
        let members: Vec<&Member> = self.members.values().collect();
        let mut chunks: Vec<&[&Member]> = members.chunks(PART).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let parts = chunks.len();
        let whole = chunks
            .into_iter()
            .enumerate()
            .map(|(part, chunk)| Said::Whole {
                changes: self.changes,
                part,
                parts,
                connections: chunk.iter().map(|member| (*member).clone()).collect(),
            });
        whole.collect()
    }
}
