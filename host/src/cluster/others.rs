//! What other nodes have told of their connections. A node whose changes were missed is asked for all
//! of them; one that is not heard of for a while is taken for dead, by who may judge.

use super::letters::{Change, Letter, Member, Said};
use crate::{
    core::names::{ConnectionId, Namespace, RoomName},
    pipeline::relayed::Gone,
    rooms::Rooms,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a node may be silent.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// How long an answer is waited for before a node is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long it is remembered who was taken for dead, and how many.
const REMEMBERED: Duration = Duration::from_secs(3_600);
const BURIED: usize = 10_000;

/// A whole that is not there as a whole yet.
#[derive(Debug)]
struct Parts {
    changes: u64,
    parts: Vec<Option<Vec<Member>>>,
}

#[derive(Debug)]
struct Node {
    heard: Instant,
    /// How many of its changes have been taken; none before it has told all.
    known: Option<u64>,
    asked: Option<Instant>,
    parts: Option<Parts>,
    connections: BTreeMap<ConnectionId, Namespace>,
}

/// See the module's page.
pub(super) struct Others {
    rooms: Arc<Rooms>,
    nodes: HashMap<String, Node>,
    /// When, and as of how many of its changes.
    buried: HashMap<String, (Instant, u64)>,
}

impl Others {
    pub(super) fn new(rooms: Arc<Rooms>) -> Self {
        Self {
            rooms,
            nodes: HashMap::new(),
            buried: HashMap::new(),
        }
    }

    /// Takes a letter of another node; returns what is said to it, if anything.
    pub(super) fn take(&mut self, letter: Letter, now: Instant) -> Option<Said> {
        let Letter { node: name, said } = letter;
        if let Said::Buried { node, changes } = said {
            self.bury(&node, changes, now);
            return None;
        }
        if matches!(said, Said::Bye) {
            self.forget(&name);
            return None;
        }
        if matches!(said, Said::Who | Said::Here(_)) {
            // That is between hosts and operators.
            return None;
        }
        if let Some((_, changes)) = self.buried.get(&name) {
            // It does not know yet.
            let changes = *changes;
            return Some(Said::Buried {
                node: name,
                changes,
            });
        }
        let node = self.nodes.entry(name.clone()).or_insert_with(|| Node {
            heard: now,
            known: None,
            asked: None,
            parts: None,
            connections: BTreeMap::new(),
        });
        node.heard = now;
        let missed = match said {
            Said::Alive { changes } => node.known != Some(changes),
            Said::Changed { first, changes } => {
                let next = first.saturating_add(changes.len() as u64);
                if node.known == Some(first) {
                    node.known = Some(next);
                    for change in changes {
                        node.apply(change, &self.rooms);
                    }
                    false
                } else {
                    node.known.is_none_or(|known| known < next)
                }
            }
            Said::Whole {
                changes,
                part,
                parts,
                connections,
            } => {
                node.take_part(changes, part, parts, connections, &self.rooms);
                false
            }
            Said::Ask { .. } | Said::Buried { .. } | Said::Bye | Said::Who | Said::Here(_) => false,
        };
        let may_ask = node.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
        if missed && may_ask {
            node.asked = Some(now);
            return Some(Said::Ask { of: Some(name) });
        }
        None
    }

    /// Returns the nodes that have been silent for too long.
    pub(super) fn silent(&self, now: Instant) -> Vec<String> {
        let silent = self
            .nodes
            .iter()
            .filter(|(_, node)| now >= node.heard + LEASE);
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// Begins to count anew how long nodes are silent: none could be heard.
    pub(super) fn excuse(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            node.heard = now;
        }
    }

    /// Returns how many changes of a node have been taken.
    pub(super) fn known(&self, name: &str) -> u64 {
        let known = self.nodes.get(name).and_then(|node| node.known);
        known.unwrap_or(0)
    }

    /// Takes a node for dead, as of so many of its changes; returns what has gone with it.
    pub(super) fn bury(&mut self, name: &str, changes: u64, now: Instant) -> Vec<Gone> {
        if self.buried.len() >= BURIED {
            self.buried
                .retain(|_, (since, _)| now < *since + REMEMBERED);
        }
        self.buried.insert(name.to_owned(), (now, changes));
        self.forget(name)
    }

    /// Tells whether this name comes before those of all others.
    pub(super) fn is_first(&self, own: &str) -> bool {
        self.nodes.keys().all(|name| own < name.as_str())
    }

    /// Forgets a node, whatever it had.
    fn forget(&mut self, name: &str) -> Vec<Gone> {
        let Some(node) = self.nodes.remove(name) else {
            return Vec::new();
        };
        let lost = node
            .connections
            .into_iter()
            .filter_map(|(connection, namespace)| {
                let identity = self.rooms.identity(&namespace, connection)?;
                Some(Gone {
                    connection,
                    identity,
                    exits: self.rooms.remove(&namespace, connection),
                    namespace,
                })
            });
        lost.collect()
    }

    /// Returns how many nodes there are, and how many connections they have.
    pub(super) fn count(&self) -> (usize, usize) {
        let connections = self.nodes.values().map(|node| node.connections.len());
        (self.nodes.len(), connections.sum())
    }
}

impl Node {
    fn apply(&mut self, change: Change, rooms: &Rooms) {
        match change {
            Change::Opened(member) => {
                if let Some((connection, namespace, identity)) = member.parts() {
                    rooms.add_far(&namespace, connection, &identity);
                    self.connections.insert(connection, namespace);
                }
            }
            Change::Joined { connection, room } => {
                if let Some((connection, namespace)) = self.own(&connection)
                    && let Some(room) = RoomName::foreign(&room)
                {
                    rooms.join(namespace, connection, &room);
                }
            }
            Change::Left { connection, room } => {
                if let Some((connection, namespace)) = self.own(&connection)
                    && let Some(room) = RoomName::foreign(&room)
                {
                    rooms.leave(namespace, connection, &room);
                }
            }
            Change::Typing {
                connection,
                room,
                typing,
            } => {
                if let Some((connection, namespace)) = self.own(&connection)
                    && let Some(room) = RoomName::foreign(&room)
                {
                    rooms.set_typing(namespace, connection, &room, typing);
                }
            }
            Change::Closed { connection } => {
                if let Some(connection) = ConnectionId::parse(&connection)
                    && let Some(namespace) = self.connections.remove(&connection)
                {
                    rooms.remove(&namespace, connection);
                }
            }
        }
    }

    /// Returns a connection, if it is this node's: nobody tells of another's.
    fn own(&self, connection: &str) -> Option<(ConnectionId, &Namespace)> {
        let connection = ConnectionId::parse(connection)?;
        Some((connection, self.connections.get(&connection)?))
    }

    fn take_part(
        &mut self,
        changes: u64,
        part: usize,
        parts: usize,
        connections: Vec<Member>,
        rooms: &Rooms,
    ) {
        // Somebody else may have asked.
        if self.known == Some(changes) || part >= parts {
            return;
        }
        let collected = self
            .parts
            .take_if(|known| known.changes != changes || known.parts.len() != parts);
        drop(collected);
        let collected = self.parts.get_or_insert_with(|| Parts {
            changes,
            parts: (0..parts.min(100_000)).map(|_| None).collect(),
        });
        if let Some(place) = collected.parts.get_mut(part) {
            *place = Some(connections);
        }
        if collected.parts.iter().any(Option::is_none) {
            return;
        }
        let all: Vec<Member> = collected.parts.drain(..).flatten().flatten().collect();
        self.parts = None;
        self.replace(&all, rooms);
        self.known = Some(changes);
    }

    /// Makes it true that the node has these connections, and no others.
    fn replace(&mut self, all: &[Member], rooms: &Rooms) {
        let mut gone: BTreeSet<ConnectionId> = self.connections.keys().copied().collect();
        for member in all {
            let Some((connection, namespace, identity)) = member.parts() else {
                continue;
            };
            gone.remove(&connection);
            rooms.add_far(&namespace, connection, &identity);
            let wanted: BTreeSet<RoomName> = member.rooms().collect();
            for room in rooms.of_connection(connection) {
                if !wanted.contains(&room) {
                    rooms.leave(&namespace, connection, &room);
                }
            }
            for room in &wanted {
                rooms.join(&namespace, connection, room);
                let typing = member.typing.contains(room.as_str());
                rooms.set_typing(&namespace, connection, room, typing);
            }
            self.connections.insert(connection, namespace);
        }
        for connection in gone {
            if let Some(namespace) = self.connections.remove(&connection) {
                rooms.remove(&namespace, connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::own::Own, *};
    use crate::ports::Alone;
    use proptest::{collection::vec, prelude::*};

    const IDS: usize = 4;

    fn name(number: usize) -> String {
        format!("01890000-0000-7000-8000-00000000000{number}")
    }

    fn rooms() -> Arc<Rooms> {
        Arc::new(Rooms::new(2, Arc::new(Alone)))
    }

    fn change() -> impl Strategy<Value = Change> {
        let room = (0..3_u8).prop_map(|room| format!("room:{room}"));
        (0..IDS, 0..6_u8, room).prop_map(|(number, kind, room)| {
            let connection = name(number);
            match kind {
                0 => Change::Opened(Member {
                    connection,
                    namespace: "/".to_owned(),
                    user: format!("user-{}", number / 2),
                    role: "student".to_owned(),
                    claims: "{}".to_owned(),
                    rooms: BTreeSet::new(),
                    typing: BTreeSet::new(),
                }),
                1 => Change::Joined { connection, room },
                2 => Change::Left { connection, room },
                3 | 4 => Change::Typing {
                    connection,
                    room,
                    typing: kind == 3,
                },
                _ => Change::Closed { connection },
            }
        })
    }

    fn said(said: Said) -> Letter {
        Letter {
            node: "far".to_owned(),
            said,
        }
    }

    type Seen = (Vec<RoomName>, Vec<bool>);

    /// What is known of the far node's connections.
    fn seen(rooms: &Rooms) -> Vec<Option<Seen>> {
        let all = (0..IDS).map(|number| {
            let id = ConnectionId::parse(&name(number)).unwrap();
            let known = rooms.identity(&Namespace::root(), id)?;
            let types = (0..3).map(|room| {
                let room = RoomName::new(&format!("room:{room}")).unwrap();
                let typing = rooms.typing(&Namespace::root(), &room);
                typing.contains(&known.user)
            });
            Some((rooms.of_connection(id), types.collect()))
        });
        all.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is lost on the way, as soon as messages come through both know the same.
        #[test]
        fn all_is_known_again_after_any_loss(
            steps in vec((vec(change(), 0..4), any::<bool>()), 1..40),
        ) {
            let (mut own, mut others) = (Own::default(), Others::new(rooms()));
            let truth = rooms();
            let mut mirror = Others::new(truth.clone());
            let mut now = Instant::now();
            mirror.take(said(own.whole().remove(0)), now);
            for (changes, is_lost) in steps {
                now += Duration::from_millis(100);
                let letter = said(own.change(changes));
                mirror.take(letter.clone(), now);
                if !is_lost && let Some(Said::Ask { .. }) = others.take(letter, now) {
                    for part in own.whole() {
                        others.take(said(part), now);
                    }
                    prop_assert_eq!(seen(&others.rooms), seen(&truth));
                }
            }
            now += ASK_AGAIN;
            if let Some(Said::Ask { .. }) = others.take(said(own.alive()), now) {
                for part in own.whole() {
                    others.take(said(part), now);
                }
            }
            prop_assert_eq!(seen(&others.rooms), seen(&truth));
            prop_assert_eq!(others.take(said(own.alive()), now + ASK_AGAIN), None);
        }
    }

    #[test]
    fn who_is_silent_is_buried_once_and_told_so() {
        let (mut own, mut others) = (Own::default(), Others::new(rooms()));
        let start = Instant::now();
        let opened = Change::Opened(Member {
            connection: name(1),
            namespace: "/".to_owned(),
            user: "ann".to_owned(),
            role: String::new(),
            claims: "{}".to_owned(),
            rooms: ["room:a".to_owned()].into(),
            typing: BTreeSet::new(),
        });
        own.change(vec![opened]);
        others.take(said(own.whole().remove(0)), start);
        assert_eq!(others.count(), (1, 1));
        assert!(others.silent(start + LEASE / 2).is_empty());
        others.excuse(start + LEASE / 2);
        assert!(others.silent(start + LEASE).is_empty());
        let late = start + LEASE * 2;
        assert_eq!(others.silent(late), ["far"]);
        assert_eq!(others.known("far"), 1);
        let lost = others.bury("far", 1, late);
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].exits[0].room.as_str(), "room:a");
        assert!(lost[0].exits[0].last);
        assert!(others.bury("far", 1, late).is_empty());
        let told = others.take(said(own.alive()), late);
        assert_eq!(
            told,
            Some(Said::Buried {
                node: "far".to_owned(),
                changes: 1,
            })
        );
        assert_eq!(others.count(), (0, 0));
    }
}
