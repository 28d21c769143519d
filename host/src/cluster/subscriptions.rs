//! Which rooms of this node have sharded channels that are listened to: those with somebody in them, and
//! each connection, which is a room to other nodes.

use super::{format::Format, sharded::Channels};
use crate::{
    core::{
        names::{ConnectionId, Namespace, RoomName},
        recipient::Who,
    },
    link::shards::Wanted,
    ports::Moved,
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// For how long a room into which others were put is spoken to on the channel of all: they have to
/// subscribe first.
const FRESH: Duration = Duration::from_secs(5);
/// Such rooms at least, before those that are not any more are looked for.
const FRESH_ROOMS: usize = 1_024;

/// See the module's page.
pub(super) struct Subscriptions {
    pub(super) wanted: Wanted,
    channels: HashMap<Namespace, Channels>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: HashMap<ConnectionId, (Namespace, HashSet<RoomName>)>,
    /// How many are in it.
    rooms: HashMap<(Namespace, RoomName), usize>,
    /// When others were last put into it.
    fresh: HashMap<(Namespace, RoomName), Instant>,
    /// How many there were after that was looked for last.
    kept: usize,
}

impl Subscriptions {
    /// Wants the channels that are always listened to.
    pub(super) fn new(formats: &[Format], wanted: Wanted) -> Self {
        let sharded = formats.iter().filter_map(|format| match format {
            Format::Sharded(channels) => Some(channels),
            Format::Classic(..) => None,
        });
        let mut of = HashMap::new();
        for channels in sharded {
            wanted.add(channels.main.clone());
            wanted.add(channels.response.clone());
            if channels.by_room {
                of.insert(channels.namespace.clone(), channels.clone());
            }
        }
        Self {
            wanted,
            channels: of,
            state: Mutex::default(),
        }
    }

    /// Takes note of what changes on this node.
    pub(super) fn note(&self, moved: &Moved) {
        if self.channels.is_empty() {
            return;
        }
        // Under the lock, so that what is wanted is told in the order in which it changes.
        let mut state = self.state.lock();
        match moved {
            Moved::Opened {
                connection,
                namespace,
                ..
            } => {
                if !state.connections.contains_key(connection) {
                    let place = (namespace.clone(), HashSet::new());
                    state.connections.insert(*connection, place);
                    if let Some(channels) = self.channels.get(namespace) {
                        self.wanted.add(channels.of(&connection.to_string()));
                    }
                }
            }
            Moved::Joined { connection, room } => {
                let Some((namespace, rooms)) = state.connections.get_mut(connection) else {
                    return;
                };
                let key = (namespace.clone(), room.clone());
                if rooms.insert(room.clone()) {
                    self.enter(&mut state, key);
                }
            }
            Moved::Left {
                connection, room, ..
            } => {
                let Some((namespace, rooms)) = state.connections.get_mut(connection) else {
                    return;
                };
                let key = (namespace.clone(), room.clone());
                if rooms.remove(room) {
                    self.exit(&mut state, key);
                }
            }
            Moved::Ended { connection, .. } | Moved::Closed { connection, .. } => {
                let Some((namespace, rooms)) = state.connections.remove(connection) else {
                    return;
                };
                for room in rooms {
                    self.exit(&mut state, (namespace.clone(), room));
                }
                if let Some(channels) = self.channels.get(&namespace) {
                    self.wanted.remove(channels.of(&connection.to_string()));
                }
            }
            Moved::Typing { .. }
            | Moved::Idle { .. }
            | Moved::Chose { .. }
            | Moved::Announced { .. } => {}
        }
    }

    fn enter(&self, state: &mut State, key: (Namespace, RoomName)) {
        let channel = self.channel(&key);
        let count = state.rooms.entry(key).or_default();
        *count += 1;
        if let (1, Some(channel)) = (*count, channel) {
            self.wanted.add(channel);
        }
    }

    fn exit(&self, state: &mut State, key: (Namespace, RoomName)) {
        let Some(count) = state.rooms.get_mut(&key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            state.rooms.remove(&key);
            if let Some(channel) = self.channel(&key) {
                self.wanted.remove(channel);
            }
        }
    }

    fn channel(&self, (namespace, room): &(Namespace, RoomName)) -> Option<String> {
        let channels = self.channels.get(namespace)?;
        Some(channels.of(room.as_str()))
    }

    /// Takes note that connections of other nodes are put into a room.
    pub(super) fn put(&self, namespace: &Namespace, room: &RoomName, now: Instant) {
        let mut state = self.state.lock();
        if state.fresh.len() >= FRESH_ROOMS.max(2 * state.kept) {
            state.fresh.retain(|_, since| now < *since + FRESH);
            state.kept = state.fresh.len();
        }
        state.fresh.insert((namespace.clone(), room.clone()), now);
    }

    /// Tells whether who is meant may be there so recently that only the channel of all reaches them.
    pub(super) fn is_fresh(&self, namespace: &Namespace, who: &[Who], now: Instant) -> bool {
        let [Who::Room(room)] = who else {
            return false;
        };
        let state = self.state.lock();
        if state.fresh.is_empty() {
            return false;
        }
        let since = state.fresh.get(&(namespace.clone(), room.clone()));
        since.is_some_and(|since| now < *since + FRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::config::{ClusterConfig, Mode, Subscriptions as Kind},
        core::{event::Identity, names::UserId},
    };
    use std::sync::Arc;

    fn subscriptions(kind: Kind) -> Subscriptions {
        let config = ClusterConfig {
            mode: Mode::Sharded,
            key: "k".to_owned(),
            subscriptions: kind,
            ..ClusterConfig::default()
        };
        let formats = [Format::new(&config, &Namespace::root(), "own")];
        let (wanted, _) = Wanted::new();
        Subscriptions::new(&formats, wanted)
    }

    fn opened(connection: ConnectionId) -> Moved {
        Moved::Opened {
            connection,
            namespace: Namespace::root(),
            identity: Arc::new(Identity {
                user: UserId::new("ann").unwrap(),
                role: String::new(),
                claims: "{}".to_owned(),
                expires_at: None,
            }),
        }
    }

    #[test]
    fn a_room_is_listened_to_while_somebody_is_in_it() {
        let all = subscriptions(Kind::Dynamic);
        let (one, two) = (ConnectionId::fresh(), ConnectionId::fresh());
        let room = RoomName::new("room:a").unwrap();
        let listened = |all: &Subscriptions| all.wanted.has("k#/#room:a#");
        let (joined, left) = (
            |connection| Moved::Joined {
                connection,
                room: room.clone(),
            },
            |connection| Moved::Left {
                connection,
                room: room.clone(),
                last: false,
            },
        );
        assert!(all.wanted.has("k#/#") && all.wanted.has("k#/#own#"));
        for connection in [one, two] {
            all.note(&opened(connection));
            all.note(&opened(connection));
            all.note(&joined(connection));
        }
        assert!(all.wanted.has(&format!("k#/#{one}#")));
        all.note(&left(one));
        assert!(listened(&all));
        all.note(&left(two));
        assert!(!listened(&all));
        all.note(&Moved::Closed {
            connection: one,
            last: Vec::new(),
        });
        assert!(!all.wanted.has(&format!("k#/#{one}#")));
        all.note(&joined(one));
        assert!(!listened(&all));
        let none = subscriptions(Kind::Static);
        none.note(&opened(one));
        none.note(&joined(one));
        assert!(!listened(&none) && none.wanted.has("k#/#"));
    }

    #[test]
    fn a_room_into_which_others_were_put_is_fresh_for_a_while() {
        let (all, root, now) = (
            subscriptions(Kind::Dynamic),
            Namespace::root(),
            Instant::now(),
        );
        let room = RoomName::new("room:a").unwrap();
        let who = [Who::Room(room.clone())];
        assert!(!all.is_fresh(&root, &who, now));
        all.put(&root, &room, now);
        assert!(all.is_fresh(&root, &who, now));
        assert!(!all.is_fresh(&root, &[Who::Everyone], now));
        assert!(!all.is_fresh(&root, &who, now + FRESH));
        for number in 0..2 * FRESH_ROOMS {
            let room = RoomName::new(&format!("room:{number}")).unwrap();
            all.put(&root, &room, now + FRESH);
        }
        assert!(!all.is_fresh(&root, &who, now), "it was forgotten");
    }
}
