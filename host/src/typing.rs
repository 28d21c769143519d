//! Until when who types is taken to type: a while after it was said last.

use crate::core::names::{ConnectionId, RoomName};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The section `[typing]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypingConfig {
    /// After how long without a word of it a user does not type any more.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for TypingConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
        }
    }
}

type Place = (ConnectionId, RoomName);

#[derive(Default)]
struct Ends {
    ends: BTreeMap<Place, Instant>,
    /// The same, the earliest first.
    order: BTreeSet<(Instant, Place)>,
}

/// The connections of this node that type.
pub struct Typing {
    timeout: Duration,
    ends: Mutex<Ends>,
    earlier: Notify,
}

impl Typing {
    /// Returns nobody. Typing stops so long after it was said last.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            ends: Mutex::default(),
            earlier: Notify::new(),
        }
    }

    /// Takes note that a connection types in a room, from now on for a while, or has stopped.
    pub fn set(&self, connection: ConnectionId, room: &RoomName, typing: bool, now: Instant) {
        let place = (connection, room.clone());
        let mut ends = self.ends.lock();
        if let Some(before) = ends.ends.remove(&place) {
            ends.order.remove(&(before, place.clone()));
        }
        if typing {
            let end = now + self.timeout;
            ends.ends.insert(place.clone(), end);
            ends.order.insert((end, place));
            drop(ends);
            self.earlier.notify_one();
        }
    }

    /// Takes those whose time is over.
    pub fn take_over(&self, now: Instant) -> Vec<Place> {
        let mut ends = self.ends.lock();
        let mut over = Vec::new();
        while let Some((end, place)) = ends.order.first().cloned() {
            if end > now {
                break;
            }
            ends.order.pop_first();
            ends.ends.remove(&place);
            over.push(place);
        }
        over
    }

    /// Waits until somebody's time may be over.
    pub async fn over(&self) {
        loop {
            let earlier = self.earlier.notified();
            let next = self.ends.lock().order.first().map(|(end, _)| *end);
            match next {
                None => earlier.await,
                Some(end) if end <= Instant::now() => return,
                // Whoever comes later ends later.
                Some(end) => return tokio::time::sleep_until(end.into()).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_ends_a_while_after_it_was_said_last() {
        let typing = Typing::new(Duration::from_secs(5));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (one, two) = (ConnectionId::fresh(), ConnectionId::fresh());
        let room = RoomName::new("room:a").unwrap();
        typing.set(one, &room, true, at(0));
        typing.set(two, &room, true, at(1));
        typing.set(one, &room, true, at(3));
        assert!(typing.take_over(at(5)).is_empty());
        assert_eq!(typing.take_over(at(6)), [(two, room.clone())]);
        typing.set(one, &room, false, at(7));
        assert!(typing.take_over(at(100)).is_empty());
    }
}
