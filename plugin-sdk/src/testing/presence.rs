//! Presence as the host keeps it, with the clock in the test's hands.

use super::{
    TestHost,
    world::{Faulty, SOFT, World, ask_or_fault, page},
};
use crate::{bindings::switchboard::plugin::types as wit, error::Fault, presence::Status};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How long a user lingers whose last connection has ended, and how long a connection is active that
/// does nothing; both as the host has them where the operator says nothing.
const GRACE_MS: u64 = 5_000;
const IDLE_MS: u64 = 300_000;

/// A client's event that does not make its connection active.
const PASSIVE: &str = "heartbeat";

/// A connection that has ended, and whose user lingers.
#[derive(Debug, Clone)]
struct Lingering {
    user: String,
    rooms: BTreeSet<String>,
    until_ms: u64,
    active_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Presence {
    lingering: BTreeMap<String, Lingering>,
    choices: BTreeMap<String, (Status, u64)>,
    told: BTreeMap<String, Status>,
    /// Who has just come, and is in no room of which others have not heard by the join.
    came: BTreeSet<String>,
    /// What was left with connections that ended, until it is told.
    left: BTreeMap<String, BTreeSet<String>>,
    seen_ms: BTreeMap<String, u64>,
}

impl Presence {
    /// Returns who lingers where.
    pub(super) fn lingering(&self) -> impl Iterator<Item = (&String, &BTreeSet<String>)> {
        let all = self.lingering.values();
        all.map(|lingering| (&lingering.user, &lingering.rooms))
    }

    /// Ends the lingering of a user who leaves a room on purpose.
    pub(super) fn leave(&mut self, user: &str, room: &str) {
        let own = self.lingering.values_mut();
        for lingering in own.filter(|lingering| lingering.user == user) {
            lingering.rooms.remove(room);
        }
    }
}

impl World {
    /// When each device of a user was active last.
    fn devices<'a>(&'a self, user: &'a str) -> impl Iterator<Item = u64> + 'a {
        let connected = self.connections.values();
        let connected = connected.map(|connected| (&connected.user, connected.active_ms));
        let lingering = self.presence.lingering.values();
        let lingering = lingering.map(|lingering| (&lingering.user, lingering.active_ms));
        let all = connected.chain(lingering);
        all.filter(move |(of, _)| *of == user).map(|(_, ms)| ms)
    }

    fn status(&self, user: &str) -> Status {
        let Some(active_ms) = self.devices(user).max() else {
            return Status::Offline;
        };
        if let Some((chosen, _)) = self.presence.choices.get(user) {
            return *chosen;
        }
        match self.now_ms < active_ms + IDLE_MS {
            true => Status::Online,
            false => Status::Away,
        }
    }

    fn seen(&self, user: &str) -> Value {
        let active_ms = self.devices(user).max();
        let seen_ms = match (active_ms, self.presence.choices.get(user)) {
            (None, _) => self.presence.seen_ms.get(user).copied(),
            (Some(_), Some((Status::Offline, said_ms))) => Some(*said_ms),
            (Some(active_ms), _) if self.now_ms < active_ms + IDLE_MS => Some(self.now_ms),
            (Some(active_ms), _) => Some(active_ms),
        };
        json!({ "user": user, "status": self.status(user), "seen": seen_ms })
    }

    /// Takes note that a user connects.
    pub(super) fn come(&mut self, user: &str) {
        if self.devices(user).next().is_none() {
            self.presence.came.insert(user.to_owned());
        }
    }

    /// Takes note of what users want to be seen as.
    pub(super) fn choose(&mut self, choices: Vec<(String, Status)>) {
        for (user, status) in choices {
            if self.devices(&user).next().is_none() {
                continue;
            }
            let now_ms = self.now_ms;
            match status {
                Status::Online => {
                    self.presence.choices.remove(&user);
                }
                _ => {
                    self.presence.choices.insert(user, (status, now_ms));
                }
            }
        }
    }

    /// Has the user of a connection that has ended linger in rooms.
    pub(super) fn linger(
        &mut self,
        connection: &str,
        user: &str,
        rooms: BTreeSet<String>,
        active_ms: u64,
    ) {
        let lingering = Lingering {
            user: user.to_owned(),
            rooms,
            until_ms: self.now_ms + GRACE_MS,
            active_ms,
        };
        let all = &mut self.presence.lingering;
        all.insert(connection.to_owned(), lingering);
    }

    /// Returns who stops lingering first by a time.
    pub(super) fn next_gone(&self, by_ms: u64) -> Option<(u64, String)> {
        let all = self.presence.lingering.iter();
        let over = all.filter(|(_, lingering)| lingering.until_ms <= by_ms);
        over.map(|(id, lingering)| (lingering.until_ms, id.clone()))
            .min()
    }

    /// Returns when somebody is idle first by a time.
    pub(super) fn next_idle(&self, by_ms: u64) -> Option<u64> {
        let all = self.connections.values();
        let ends = all.map(|connected| connected.active_ms + IDLE_MS);
        ends.filter(|end| (self.now_ms + 1..=by_ms).contains(end))
            .min()
    }

    /// Takes note that a connection's client has done something.
    pub(super) fn touch(&mut self, connection: &str, event: &str) {
        let now_ms = self.now_ms;
        if event != PASSIVE
            && let Some(connected) = self.connections.get_mut(connection)
        {
            connected.active_ms = now_ms;
        }
    }

    /// Returns of whom plugins are to be told next.
    fn next_told(&mut self) -> Option<Value> {
        let known = self.presence.told.keys().cloned();
        let connected = self.connections.values();
        let all: BTreeSet<String> = known
            .chain(connected.map(|connected| connected.user.clone()))
            .collect();
        let (user, status, before) = all.into_iter().find_map(|user| {
            let told = self.presence.told.get(&user).copied();
            let (status, before) = (self.status(&user), told.unwrap_or(Status::Offline));
            (status != before).then_some((user, status, before))
        })?;
        if status != Status::Offline {
            self.presence.left.remove(&user);
        }
        let mut data = self.seen(&user);
        let mut rooms = self.presence.left.remove(&user).unwrap_or_default();
        let has_just_come = self.presence.came.remove(&user) && status == Status::Online;
        if !has_just_come && self.devices(&user).next().is_some() {
            let own = self.connections.values().filter(|one| one.user == user);
            rooms = own.flat_map(|one| one.rooms.iter().cloned()).collect();
            let lingering = self.presence.lingering().filter(|(of, _)| **of == user);
            rooms.extend(lingering.flat_map(|(_, rooms)| rooms.iter().cloned()));
        }
        if let Some(object) = data.as_object_mut() {
            object.insert("before".to_owned(), json!(before));
            object.insert("rooms".to_owned(), json!(rooms));
        }
        self.presence.told.insert(user, status);
        Some(data)
    }
}

impl TestHost {
    /// Ends the lingering of somebody, at its time.
    pub(super) fn go(&mut self, until_ms: u64, connection: &str) {
        let gone = {
            let mut world = self.world.borrow_mut();
            world.now_ms = world.now_ms.max(until_ms);
            world.presence.lingering.remove(connection)
        };
        let Some(gone) = gone else { return };
        {
            let mut world = self.world.borrow_mut();
            let choice = world.presence.choices.get(&gone.user);
            if choice.is_none_or(|(chosen, _)| *chosen != Status::Offline) {
                let left = world.presence.left.entry(gone.user.clone()).or_default();
                left.extend(gone.rooms.iter().cloned());
            }
            if world.devices(&gone.user).next().is_none() {
                let is_idle = world.now_ms >= gone.active_ms + IDLE_MS;
                let seen_ms = if is_idle {
                    gone.active_ms
                } else {
                    world.now_ms
                };
                world.presence.seen_ms.insert(gone.user.clone(), seen_ms);
                world.presence.choices.remove(&gone.user);
            }
        }
        for room in &gone.rooms {
            let last = !self.world.borrow().users_in(room).contains(&gone.user);
            let data = json!({ "room": room, "last": last, "reason": "disconnected" });
            self.notice(connection, "left", &data, 0);
        }
        self.tell_presence();
    }

    /// Tells the plugin of what users are seen as where that has changed.
    pub(super) fn tell_presence(&mut self) {
        loop {
            let told = self.world.borrow_mut().next_told();
            let Some(data) = told else { return };
            let notice = wit::Notice {
                name: "presence".to_owned(),
                data: data.to_string(),
            };
            let reply = self.run(None, wit::Trigger::Notice(notice), Vec::new(), 1);
            assert!(
                reply.args.is_ok(),
                "the handler of `presence` failed, which nobody would be told: {:?}",
                reply.args
            );
        }
    }
}

fn seen(world: &World, users: impl IntoIterator<Item = String>) -> String {
    let seen: Vec<Value> = users.into_iter().map(|user| world.seen(&user)).collect();
    json!(seen).to_string()
}

pub(crate) fn presence_get(users: &[String]) -> Faulty<String> {
    ask_or_fault(|world| {
        world.needs("presence")?;
        if users.len() > 1_000 {
            let why = format!("{} users at once, of at most 1000", users.len());
            return Err(Fault::TooMany(why));
        }
        Ok(seen(world, users.iter().cloned()))
    })
}

pub(crate) fn presence_of_room(room: &str, after: Option<&str>, limit: u32) -> Faulty<String> {
    ask_or_fault(|world| {
        world.needs("presence")?;
        world.own_room(room)?;
        let users = world.users_in(room).into_iter();
        let rest = users.filter(|user| after.is_none_or(|after| user.as_str() > after));
        Ok(seen(world, page(rest, limit)?))
    })
}

pub(crate) fn presence_choose(user: &str, status: &str) -> Faulty<()> {
    ask_or_fault(|world| {
        world.needs("presence")?;
        let status = serde_json::from_value(json!(status))
            .map_err(|error| Fault::Invalid(format!("status: {error}")))?;
        if world.staged.soft() >= SOFT {
            return Err(Fault::TooMany(format!(
                "more than {SOFT} changes of typing and presence in one event"
            )));
        }
        world.staged.choices.push((user.to_owned(), status));
        Ok(())
    })
}
