//! What users are seen as, on all nodes: of this node's connections the truth, of other nodes' what these
//! have told. Who is told of a change, by whom, and when time has passed is others' business; here it is
//! only known what is so, and what has been told.
//!
//! The first of these that holds, as the dialects' page on presence has it:
//!
//! 1. no connection anywhere, and none that ended a moment ago: `offline`;
//! 2. the user has chosen `offline`, `busy` or `away`: that;
//! 3. some connection has been active within a while: `online`;
//! 4. `away`.

mod person;

pub use self::person::{Change, Known};

use self::person::{Device, Person, change_of};
use crate::{
    core::{
        names::{ConnectionId, Namespace, RoomName, UserId},
        presence::{Seen, Status},
    },
    ports::{Choice, Journal, Moved},
};
use dashmap::DashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The section `[presence]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceConfig {
    /// How long a user whose last connection has ended is taken to be there.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// After how long without an event a connection is not active any more.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// Clients' events that do not make a connection active.
    pub passive_events: Vec<String>,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(5),
            idle: Duration::from_mins(5),
            passive_events: vec!["heartbeat".to_owned()],
        }
    }
}

/// Rooms in their namespaces.
pub type Places = BTreeSet<(Namespace, RoomName)>;

/// A connection of this node that has ended, and whose user lingers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lingering {
    /// Which.
    pub connection: ConnectionId,
    /// Where.
    pub namespace: Namespace,
}

#[derive(Default)]
struct Own {
    /// When each connection of this node was active last.
    active: BTreeMap<ConnectionId, (UserId, Instant)>,
    /// Those that have ended, the first to be forgotten first.
    lingering: BTreeMap<(Instant, ConnectionId), Lingering>,
}

/// See the module's page.
pub struct Presence {
    config: PresenceConfig,
    journal: Arc<dyn Journal>,
    people: DashMap<UserId, Person>,
    own: Mutex<Own>,
    changed: Mutex<BTreeSet<UserId>>,
    news: Notify,
    ended: Notify,
}

impl Presence {
    /// Returns nobody. What becomes of this node's connections is noted in the journal.
    #[must_use]
    pub fn new(config: PresenceConfig, journal: Arc<dyn Journal>) -> Self {
        Self {
            config,
            journal,
            people: DashMap::new(),
            own: Mutex::default(),
            changed: Mutex::default(),
            news: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// Tells whether a client's event of this name leaves a connection as idle as it was.
    #[must_use]
    pub fn is_passive(&self, event: &str) -> bool {
        self.config.passive_events.iter().any(|name| name == event)
    }

    /// Returns how long users linger.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.config.grace
    }

    /// Returns how often it is looked which connections are idle.
    #[must_use]
    pub fn look_every(&self) -> Duration {
        let tenth = self.config.idle / 10;
        tenth.clamp(Duration::from_millis(50), Duration::from_secs(10))
    }

    // ---- connections ----------------------------------------------------------------------------

    /// Takes note of a connection of this node, which is active.
    pub fn open_here(&self, user: &UserId, connection: ConnectionId, now: Instant) {
        let mut own = self.own.lock();
        own.active.insert(connection, (user.clone(), now));
        drop(own);
        self.open(user, connection, None, Known::default());
    }

    /// Takes note of a connection of any node, since when it is idle if it is, and what its node knows of
    /// its user. One that is known already stays as it is.
    pub fn open(
        &self,
        user: &UserId,
        connection: ConnectionId,
        idle_since_ms: Option<u64>,
        known: Known,
    ) {
        let mut person = self.people.entry(user.clone()).or_default();
        person.came |= person.devices.is_empty();
        person.known.choice.merge(known.choice);
        person.known.announced.merge(known.announced);
        person.devices.entry(connection).or_insert_with(|| Device {
            idle_since_ms,
            left: Places::new(),
        });
        drop(person);
        self.look_at(user);
    }

    /// Takes note that a connection of this node is active.
    pub fn touch(&self, connection: ConnectionId, now: Instant) {
        let mut own = self.own.lock();
        let Some((user, last)) = own.active.get_mut(&connection) else {
            return;
        };
        *last = now;
        let user = user.clone();
        drop(own);
        self.turn_idle_here(&user, connection, None);
    }

    /// Finds out which connections of this node have not been active for a while; returns them.
    pub fn find_idle(&self, now: Instant, now_ms: u64) -> Vec<ConnectionId> {
        let over: Vec<_> = {
            let own = self.own.lock();
            let all = own.active.iter();
            let over = all.filter(|(_, (_, last))| now >= *last + self.config.idle);
            over.map(|(connection, (user, last))| (*connection, user.clone(), now - *last))
                .collect()
        };
        for (connection, user, since) in &over {
            let since_ms = now_ms.saturating_sub(since.as_millis() as u64);
            self.turn_idle_here(user, *connection, Some(since_ms));
        }
        over.into_iter()
            .map(|(connection, ..)| connection)
            .collect()
    }

    fn turn_idle_here(&self, user: &UserId, connection: ConnectionId, since_ms: Option<u64>) {
        let Some(mut person) = self.people.get_mut(user) else {
            return;
        };
        let is_news = person.turn_idle(connection, since_ms, |before| {
            before.is_some() != since_ms.is_some()
        });
        if is_news {
            // Under the entry's lock, so that others hear of it in the order in which it changes.
            self.journal.note(Moved::Idle {
                connection,
                since_ms,
            });
        }
        drop(person);
        if is_news {
            self.look_at(user);
        }
    }

    /// Takes note that a connection of any node is idle, or is not.
    pub fn turn_idle(&self, user: &UserId, connection: ConnectionId, since_ms: Option<u64>) {
        let is_news = self
            .people
            .get_mut(user)
            .is_some_and(|mut person| person.turn_idle(connection, since_ms, |_| true));
        if is_news {
            self.look_at(user);
        }
    }

    /// Takes note of the rooms that a connection of any node has left at once when it ended.
    pub fn end(&self, user: &UserId, connection: ConnectionId, left: Places) {
        if let Some(mut person) = self.people.get_mut(user)
            && let Some(device) = person.devices.get_mut(&connection)
        {
            device.left = left;
        }
    }

    /// Has the user of a connection of this node that has ended linger for a while.
    pub fn end_here(&self, namespace: &Namespace, connection: ConnectionId, now: Instant) {
        let mut own = self.own.lock();
        own.active.remove(&connection);
        let lingering = Lingering {
            connection,
            namespace: namespace.clone(),
        };
        let until = now + self.config.grace;
        own.lingering.insert((until, connection), lingering);
        drop(own);
        self.ended.notify_one();
    }

    /// Takes the connections of this node whose users have lingered long enough by a time.
    pub fn take_over(&self, now: Instant) -> Vec<Lingering> {
        let mut own = self.own.lock();
        let mut over = Vec::new();
        while let Some(first) = own.lingering.first_entry() {
            if first.key().0 > now {
                break;
            }
            over.push(first.remove());
        }
        over
    }

    /// Takes all connections of this node whose users linger.
    pub fn take_all(&self) -> Vec<Lingering> {
        let lingering = std::mem::take(&mut self.own.lock().lingering);
        lingering.into_values().collect()
    }

    /// Waits until somebody may have lingered long enough.
    pub async fn over(&self) {
        loop {
            let ended = self.ended.notified();
            let next = self.own.lock().lingering.keys().next().copied();
            match next {
                None => ended.await,
                Some((until, _)) if until <= Instant::now() => return,
                // Who ends later lingers for longer.
                Some((until, _)) => return tokio::time::sleep_until(until.into()).await,
            }
        }
    }

    /// Takes note that a connection of this node is no more, and which rooms were left with it.
    pub fn close_here(
        &self,
        user: &UserId,
        connection: ConnectionId,
        left: impl IntoIterator<Item = (Namespace, RoomName)>,
        now_ms: u64,
    ) {
        self.own.lock().active.remove(&connection);
        self.close(user, connection, left, now_ms);
    }

    /// Takes note that a connection of any node is no more, and which rooms were left with it.
    pub fn close(
        &self,
        user: &UserId,
        connection: ConnectionId,
        left: impl IntoIterator<Item = (Namespace, RoomName)>,
        now_ms: u64,
    ) {
        let Some(mut person) = self.people.get_mut(user) else {
            return;
        };
        let Some(device) = person.devices.remove(&connection) else {
            return;
        };
        if person.known.choice.what != Some(Status::Offline) {
            person.left.extend(device.left);
            person.left.extend(left);
        }
        if person.devices.is_empty() {
            person.seen_ms = Some(device.idle_since_ms.unwrap_or(now_ms));
        }
        drop(person);
        self.look_at(user);
    }

    // ---- users ----------------------------------------------------------------------------------

    /// Takes note of what a user wants to be seen as. Who is connected nowhere has no choice.
    pub fn choose(&self, user: &UserId, status: Status, now_ms: u64) {
        let Some(mut person) = self.people.get_mut(user) else {
            return;
        };
        // Also what is so already: another node may know of something else that was chosen.
        let wanted = (status != Status::Online).then_some(status);
        person.came = false;
        self.set_choice(&mut person, user, wanted, now_ms);
        drop(person);
        self.look_at(user);
    }

    fn set_choice(&self, person: &mut Person, user: &UserId, what: Option<Status>, now_ms: u64) {
        let choice = person.known.choice.replaced(what, now_ms);
        person.known.choice = choice;
        let user = user.clone();
        self.journal.note(Moved::Chose { user, choice });
    }

    /// Takes what another node knows of a user.
    pub fn merge(&self, user: &UserId, known: Known) {
        let Some(mut person) = self.people.get_mut(user) else {
            return;
        };
        let chosen = person.known.choice.merge(known.choice);
        let announced = person.known.announced.merge(known.announced);
        if announced && known.announced.what == Status::Offline && person.devices.is_empty() {
            // The node that told it has told this, too.
            person.left.clear();
        }
        drop(person);
        if chosen || announced {
            self.look_at(user);
        }
        self.forget(user);
    }

    /// Returns what is known of a user.
    #[must_use]
    pub fn known(&self, user: &UserId) -> Known {
        let person = self.people.get(user);
        person.map(|person| person.known).unwrap_or_default()
    }

    /// Returns what is known of those who have chosen what they want to be seen as.
    #[must_use]
    pub fn who_chose(&self) -> Vec<(UserId, Known)> {
        let chosen = self.people.iter().filter(|entry| {
            let choice = entry.value().known.choice;
            choice != Choice::default()
        });
        chosen
            .map(|entry| (entry.key().clone(), entry.value().known))
            .collect()
    }

    /// Returns since when a connection is idle, none when it is active.
    #[must_use]
    pub fn idle_since(&self, user: &UserId, connection: ConnectionId) -> Option<u64> {
        let person = self.people.get(user)?;
        person.devices.get(&connection)?.idle_since_ms
    }

    /// Returns what a user is seen as now.
    #[must_use]
    pub fn seen(&self, user: &UserId, now_ms: u64) -> Seen {
        let nobody = Seen {
            status: Status::Offline,
            at_ms: None,
        };
        let person = self.people.get(user);
        person.map_or(nobody, |person| person.seen(now_ms))
    }

    /// Returns the connections of a user, those among them whose user lingers.
    #[must_use]
    pub fn devices(&self, user: &UserId) -> Vec<ConnectionId> {
        let person = self.people.get(user);
        person
            .map(|person| person.devices.keys().copied().collect())
            .unwrap_or_default()
    }

    /// Returns all users of whom anything is known.
    #[must_use]
    pub fn everybody(&self) -> Vec<UserId> {
        self.people
            .iter()
            .map(|entry| entry.key().clone())
            .collect()
    }

    // ---- telling --------------------------------------------------------------------------------

    fn look_at(&self, user: &UserId) {
        self.journal.touched(user);
        self.changed.lock().insert(user.clone());
        self.news.notify_one();
    }

    /// Has everybody looked at of whom plugins have been told something else than what is so: who tells
    /// may be another node now.
    pub fn look_at_all(&self) {
        let differs = |person: &Person| {
            person.status() != person.known.announced.what || !person.left.is_empty()
        };
        let all = self.people.iter().filter(|entry| differs(entry.value()));
        let users: Vec<UserId> = all.map(|entry| entry.key().clone()).collect();
        self.changed.lock().extend(users);
        self.news.notify_one();
    }

    /// Waits until something may have changed; returns of whom.
    pub async fn changes(&self) -> BTreeSet<UserId> {
        loop {
            let news = self.news.notified();
            let changed = self.take_changes();
            if !changed.is_empty() {
                return changed;
            }
            news.await;
        }
    }

    /// Returns of whom something may have changed.
    pub fn take_changes(&self) -> BTreeSet<UserId> {
        std::mem::take(&mut self.changed.lock())
    }

    /// Returns what plugins are to be told of a user, if anything; then nobody else is told to before
    /// [`told`](Self::told) is called.
    pub fn begin_telling(&self, user: &UserId, now_ms: u64) -> Option<Change> {
        // Asked first: what it takes is never waited for with an entry in hand.
        let is_ours = self.journal.speaks_for(user);
        let person = self.people.get_mut(user);
        let change = person.and_then(|mut person| {
            if is_ours && person.devices.is_empty() && person.known.choice.what.is_some() {
                // With the last connection ends what was chosen.
                self.set_choice(&mut person, user, None, now_ms);
            }
            change_of(&mut person, now_ms, is_ours)
        });
        if change.is_none() {
            self.forget(user);
        }
        change
    }

    /// Takes note that plugins have been told what a user is seen as.
    pub fn told(&self, user: &UserId, status: Status, now_ms: u64) {
        let Some(mut person) = self.people.get_mut(user) else {
            return;
        };
        person.telling = false;
        let announced = person.known.announced.replaced(status, now_ms);
        person.known.announced = announced;
        drop(person);
        let user = user.clone();
        self.look_at(&user);
        self.journal.note(Moved::Announced {
            user,
            status: announced,
        });
    }

    /// Forgets a user of whom nothing is to be remembered.
    fn forget(&self, user: &UserId) {
        self.people.remove_if(user, |_, person| person.is_nobody());
    }

    /// Forgets those who are gone and were never told of by the node that should have. Not while nodes
    /// are out of each other's reach: then none tells.
    pub fn sweep(&self, now_ms: u64, after: Duration) {
        let after_ms = after.as_millis() as u64;
        self.people.retain(|user, person| {
            let is_gone = person.devices.is_empty() && !person.telling;
            let since_ms = person.seen_ms.unwrap_or(0);
            let is_old = since_ms.saturating_add(after_ms) < now_ms;
            !(person.is_nobody() || is_gone && is_old && !self.journal.speaks_for(user))
        });
    }
}

#[cfg(test)]
mod tests;
