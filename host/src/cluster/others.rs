//! What other nodes have told of their connections. A node whose changes were missed is asked for all
//! of them; one that is not heard of for a while is taken for dead, by who may judge.

use super::{
    letters::{Change, Letter, Member, Said},
    names::Names,
};
use crate::{
    core::names::{ConnectionId, Namespace, RoomName, UserId},
    pipeline::{now_ms, relayed::Gone},
    presence::{Known, Presence},
    rooms::{self, Exit, Rooms},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
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

/// What this host and others know of all connections.
#[derive(Clone)]
pub(super) struct Everyone {
    pub(super) rooms: Arc<Rooms>,
    pub(super) presence: Arc<Presence>,
}

impl Everyone {
    /// Takes note of a connection of another node.
    fn open(&self, member: &Member) -> Option<(ConnectionId, Namespace)> {
        let (connection, namespace, identity) = member.parts()?;
        self.rooms.add_far(&namespace, connection, &identity);
        let known = member.known.unwrap_or_default();
        self.presence
            .open(&identity.user, connection, member.idle_ms, known);
        Some((connection, namespace))
    }

    fn turn_idle(&self, connection: ConnectionId, since_ms: Option<u64>) {
        if let Some((identity, _)) = self.rooms.whose(connection) {
            self.presence
                .turn_idle(&identity.user, connection, since_ms);
        }
    }

    /// Takes note that a connection of another node is no more; returns what has gone with it.
    fn close(&self, connection: ConnectionId, namespace: Namespace) -> Option<Gone> {
        let (identity, ended) = self.rooms.whose(connection)?;
        let exits = self.rooms.remove(&namespace, connection);
        let left = exits
            .iter()
            .map(|exit| (namespace.clone(), exit.room.clone()));
        self.presence
            .close(&identity.user, connection, left, now_ms());
        Some(Gone {
            connection,
            namespace,
            identity,
            exits,
            ended,
        })
    }

    /// Takes note that a connection of another node has left a room; returns what nobody has told: its
    /// own node took another one to be there still, which has left it at the same time.
    fn leave(
        &self,
        connection: ConnectionId,
        namespace: &Namespace,
        room: RoomName,
        last: bool,
    ) -> Option<Gone> {
        let (identity, _) = self.rooms.whose(connection)?;
        let left = self.rooms.leave(namespace, connection, &room);
        let is_untold = matches!(left, rooms::Change::Left { last: true, .. }) && !last;
        is_untold.then(|| Gone {
            connection,
            namespace: namespace.clone(),
            identity,
            exits: vec![Exit {
                room,
                last: true,
                lingers: false,
                stopped: false,
            }],
            ended: true,
        })
    }

    /// Takes note that a connection of another node has ended, and which rooms it left at once.
    fn end(&self, connection: ConnectionId, namespace: &Namespace, left: &[String]) {
        self.rooms.end(namespace, connection);
        if let Some((identity, _)) = self.rooms.whose(connection) {
            let rooms = left.iter().filter_map(|room| RoomName::foreign(room));
            let places = rooms.map(|room| (namespace.clone(), room));
            self.presence
                .end(&identity.user, connection, places.collect());
        }
    }

    fn merge(&self, user: &str, known: Known) {
        if let Ok(user) = UserId::new(user) {
            self.presence.merge(&user, known);
        }
    }
}

/// See the module's page.
pub(super) struct Others {
    everyone: Everyone,
    names: Arc<Names>,
    nodes: HashMap<String, Node>,
    /// When, and as of how many of its changes.
    buried: HashMap<String, (Instant, u64)>,
    /// Connections of nodes that have ended in order, whose users linger until then.
    orphans: VecDeque<(Instant, ConnectionId, Namespace)>,
    /// Rooms that users have left, which their nodes did not tell.
    untold: Vec<Gone>,
}

impl Others {
    pub(super) fn new(everyone: Everyone, names: Arc<Names>) -> Self {
        Self {
            everyone,
            names,
            nodes: HashMap::new(),
            buried: HashMap::new(),
            orphans: VecDeque::new(),
            untold: Vec::new(),
        }
    }

    /// Takes the rooms that users have left, which their nodes did not tell.
    pub(super) fn take_untold(&mut self) -> Vec<Gone> {
        std::mem::take(&mut self.untold)
    }

    /// Has it known which nodes there are, when that has changed.
    fn tell_names(&self) {
        let all = self.nodes.iter();
        let names = all.map(|(name, node)| (name.clone(), node.known.is_some()));
        if self.names.set(names.collect()) {
            self.everyone.presence.look_at_all();
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
            self.adopt(&name, now);
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
        if matches!(
            said,
            Said::Alive { changes: 0 } | Said::Changed { first: 0, .. }
        ) {
            // Nothing was said before.
            node.known.get_or_insert(0);
        }
        let everyone = &self.everyone;
        let missed = match said {
            Said::Alive { changes } => node.known != Some(changes),
            Said::Changed { first, changes } => {
                let next = first.saturating_add(changes.len() as u64);
                if node.known == Some(first) {
                    node.known = Some(next);
                    for change in changes {
                        self.untold.extend(node.apply(change, everyone));
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
                users,
            } => {
                for (user, known) in users {
                    everyone.merge(&user, known);
                }
                node.take_part(changes, part, parts, connections, everyone);
                false
            }
            Said::Ask { .. } | Said::Buried { .. } | Said::Bye | Said::Who | Said::Here(_) => false,
        };
        let may_ask = node.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
        let asks = missed && may_ask;
        if asks {
            node.asked = Some(now);
        }
        self.tell_names();
        asks.then_some(Said::Ask { of: Some(name) })
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

    /// Forgets a node, whatever it had; returns what has gone with it.
    fn forget(&mut self, name: &str) -> Vec<Gone> {
        let Some(node) = self.nodes.remove(name) else {
            return Vec::new();
        };
        let all = node.connections.into_iter();
        let gone =
            all.filter_map(|(connection, namespace)| self.everyone.close(connection, namespace));
        let gone = gone.collect();
        self.tell_names();
        gone
    }

    /// Keeps the connections of a node that ends, for who comes back in time.
    fn adopt(&mut self, name: &str, now: Instant) {
        let Some(node) = self.nodes.remove(name) else {
            return;
        };
        let until = now + self.everyone.presence.grace();
        for (connection, namespace) in node.connections {
            self.orphans.push_back((until, connection, namespace));
        }
        self.tell_names();
    }

    /// Forgets those of nodes that have ended who did not come back in time; returns what has gone with
    /// them.
    pub(super) fn take_orphans(&mut self, now: Instant) -> Vec<Gone> {
        let mut gone = Vec::new();
        while let Some((until, ..)) = self.orphans.front()
            && *until <= now
            && let Some((_, connection, namespace)) = self.orphans.pop_front()
        {
            gone.extend(self.everyone.close(connection, namespace));
        }
        gone
    }

    /// Returns how many nodes there are, and how many connections they have.
    pub(super) fn count(&self) -> (usize, usize) {
        let connections = self.nodes.values().map(|node| node.connections.len());
        (self.nodes.len(), connections.sum())
    }
}

impl Node {
    /// Makes a change; returns what nobody has told.
    fn apply(&mut self, change: Change, everyone: &Everyone) -> Option<Gone> {
        let rooms = &everyone.rooms;
        match change {
            Change::Opened(member) => self.connections.extend(everyone.open(&member)),
            Change::Joined { connection, room } => {
                if let Some((connection, namespace)) = self.own(&connection)
                    && let Some(room) = RoomName::foreign(&room)
                {
                    rooms.join(namespace, connection, &room);
                }
            }
            Change::Left {
                connection,
                room,
                last,
            } => {
                let (connection, namespace) = self.own(&connection)?;
                let room = RoomName::foreign(&room)?;
                return everyone.leave(connection, namespace, room, last);
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
            Change::Closed { connection, last } => {
                let connection = ConnectionId::parse(&connection)?;
                let namespace = self.connections.remove(&connection)?;
                let mut gone = everyone.close(connection, namespace)?;
                let is_untold =
                    |exit: &Exit| exit.last && !last.iter().any(|room| room == exit.room.as_str());
                gone.exits.retain(is_untold);
                return (gone.ended && !gone.exits.is_empty()).then_some(gone);
            }
            Change::Idle {
                connection,
                since_ms,
            } => {
                if let Some((connection, _)) = self.own(&connection) {
                    everyone.turn_idle(connection, since_ms);
                }
            }
            Change::Ended { connection, left } => {
                let (connection, namespace) = self.own(&connection)?;
                everyone.end(connection, namespace, &left);
            }
            Change::Known { user, known } => everyone.merge(&user, known),
        }
        None
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
        everyone: &Everyone,
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
        self.replace(&all, everyone);
        self.known = Some(changes);
    }

    /// Makes it true that the node has these connections, and no others.
    fn replace(&mut self, all: &[Member], everyone: &Everyone) {
        let rooms = &everyone.rooms;
        let mut gone: BTreeSet<ConnectionId> = self.connections.keys().copied().collect();
        // By who is the last to leave on purpose the lingering of the user's others ends. So all join before
        // any leaves, and all leave before any ends.
        let mut told = Vec::with_capacity(all.len());
        for member in all {
            let Some((connection, namespace)) = everyone.open(member) else {
                continue;
            };
            gone.remove(&connection);
            everyone.turn_idle(connection, member.idle_ms);
            let wanted: BTreeSet<RoomName> = member.rooms().collect();
            for room in &wanted {
                rooms.join(&namespace, connection, room);
                let typing = member.typing.contains(room.as_str());
                rooms.set_typing(&namespace, connection, room, typing);
            }
            self.connections.insert(connection, namespace.clone());
            told.push((connection, namespace, wanted, member.ended));
        }
        for (connection, namespace, wanted, _) in &told {
            for room in rooms.of_connection(*connection) {
                if !wanted.contains(&room) {
                    rooms.leave(namespace, *connection, &room);
                    rooms.stop_lingering(namespace, *connection, &room);
                }
            }
        }
        for (connection, namespace, ..) in told.iter().filter(|(.., ended)| *ended) {
            rooms.end(namespace, *connection);
        }
        for connection in gone {
            if let Some(namespace) = self.connections.remove(&connection) {
                everyone.close(connection, namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests;
