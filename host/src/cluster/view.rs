//! What is kept in Redis for other services to read, where `cluster.view` is set: which connections a user
//! has, in which rooms the user is, who is in a room, what a user is seen as, and who types. Hosts never
//! read it.
//!
//! | key | type | lives | what |
//! |---|---|---|---|
//! | `VIEW` `user:{id}:sockets` | set | 1 h | the user's connections |
//! | `VIEW` `user:{id}:rooms` | set | 1 h | rooms that the user is in |
//! | `VIEW` `room:{id}:users` | set | 1 h | users in a room |
//! | `VIEW` `presence:{id}` | JSON | 1 h, 5 min for `offline` | `userId`, `status` (`online`, `away`, also of who is busy, or `offline`), `lastSeenAt`, `socketIds` |
//! | `VIEW` `typing:{room}:{user}` | JSON | 10 s | `userId`, `room`, `isTyping`, `lastTypingAt` |
//!
//! What concerns a user is written by one host, the one that tells plugins of the user, which knows of all
//! others' connections. It writes what is so whenever something has changed, and all of it now and then; so
//! it does not matter what was there before, or is there no more. Of users whom no host knows any more, since
//! all have ended without a word, the sets of rooms are rid by hosts that have somebody in them.

use super::Cluster;
use crate::{
    core::{
        names::{RoomName, RoomPrefix, USER_PREFIX, UserId},
        presence::Status,
        time::rfc_3339,
    },
    link::{Link, Script, is_passing, listener::Health},
    pipeline::{Pipeline, now_ms},
    ports::Journal,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{FromRedisValue, RedisError, RedisResult};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc, oneshot};

/// How long in seconds what is written lives, unless it is written again.
const LIVES: u64 = 3_600;
const OFFLINE_LIVES: u64 = 300;
const TYPING_LIVES: u64 = 10;

/// How often all is written again.
const REWRITE: Duration = Duration::from_mins(10);
/// How long after hosts have come or gone, or Redis was away: then it is known who writes.
const SETTLED: Duration = Duration::from_secs(3);
/// How often it is looked whether that is so, and who types is written again; what could not be written is
/// tried again.
const LOOK: Duration = Duration::from_secs(2);
/// How long it is remembered who has changed and is written by another host, which may die before it has.
const REMEMBERED: Duration = Duration::from_mins(1);
/// What changes within this time is written at once.
const GATHERED: Duration = Duration::from_millis(10);
/// Users that are written at once.
const AT_ONCE: usize = 64;
/// How long what is left may take when the host stops.
const LAST: Duration = Duration::from_secs(2);

/// Whose part of it has to be written.
#[derive(Debug)]
pub(super) struct View {
    prefix: String,
    /// The prefix of the rooms that are shown, without it; none are all, with theirs.
    rooms: Option<RoomPrefix>,
    changed: Mutex<BTreeSet<UserId>>,
    news: Notify,
    last: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl View {
    /// Returns one, and what its writer is asked to write the last of it by.
    pub(super) fn new(
        prefix: String,
        rooms: Option<RoomPrefix>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        let (last, asked) = mpsc::unbounded_channel();
        let view = Self {
            prefix,
            rooms,
            changed: Mutex::default(),
            news: Notify::new(),
            last,
        };
        (Arc::new(view), asked)
    }

    /// Takes note that something about a user has changed.
    pub(super) fn touched(&self, user: &UserId) {
        if self.changed.lock().insert(user.clone()) {
            self.news.notify_one();
        }
    }

    /// Returns when all that has changed is written, or cannot be.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.last.send(done).is_ok() {
            tokio::time::timeout(LAST, written).await.ok();
        }
    }

    /// Returns the name by which a room is shown, none where it is not.
    fn shown(&self, room: &RoomName) -> Option<String> {
        match &self.rooms {
            None => (room.prefix() != USER_PREFIX).then(|| room.as_str().to_owned()),
            Some(prefix) => {
                let (own, rest) = room.as_str().split_once(':')?;
                (own == prefix.as_str()).then(|| rest.to_owned())
            }
        }
    }
}

/// What is to be shown of a user.
struct Shown {
    sockets: BTreeSet<String>,
    rooms: BTreeSet<String>,
    typing: BTreeSet<String>,
}

/// The task that writes.
pub(super) struct Writer {
    view: Arc<View>,
    cluster: Arc<Cluster>,
    pipeline: Arc<Pipeline>,
    link: Link,
    sync: Script,
    add: Script,
    /// Who was written to type, and where.
    typing: BTreeMap<UserId, BTreeSet<String>>,
    rewrite_at: Instant,
    /// Of whom all is to be written, also what should be there already.
    wholly: BTreeSet<UserId>,
    /// Who has changed lately and is written by another host.
    others: BTreeMap<UserId, Instant>,
    /// When it is tried again after a failure.
    retry_at: Instant,
    /// Rooms with somebody on this host whose sets have been looked through for leftovers.
    looked_through: BTreeSet<String>,
    /// Who was in a room's set and not in the room, and when that is looked at again: what another host has
    /// written may be known here a moment later.
    leftovers: Vec<(String, UserId)>,
    leftovers_at: Instant,
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(
        view: Arc<View>,
        cluster: Arc<Cluster>,
        pipeline: Arc<Pipeline>,
        link: Link,
    ) -> Self {
        Self {
            view,
            cluster,
            pipeline,
            link,
            sync: Script::new(include_str!("view/sync.lua")),
            add: Script::new(include_str!("view/add.lua")),
            typing: BTreeMap::new(),
            rewrite_at: Instant::now() + SETTLED,
            wholly: BTreeSet::new(),
            others: BTreeMap::new(),
            retry_at: Instant::now(),
            looked_through: BTreeSet::new(),
            leftovers: Vec::new(),
            leftovers_at: Instant::now(),
            is_failing: false,
        }
    }

    /// Writes until the host ends.
    pub(super) async fn write(mut self, mut last: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut health = self.cluster.health.clone();
        let view = self.view.clone();
        let mut others = self.cluster.names.all();
        loop {
            let done = tokio::select! {
                () = view.news.notified() => {
                    tokio::time::sleep(GATHERED).await;
                    None
                }
                _ = look.tick() => {
                    view.changed.lock().extend(self.typing.keys().cloned());
                    None
                }
                Ok(()) = health.changed() => {
                    if *health.borrow_and_update() == Health::Listening {
                        self.rewrite_at = Instant::now() + SETTLED;
                    }
                    None
                }
                Some(done) = last.recv() => Some(done),
            };
            let now = Instant::now();
            let names = self.cluster.names.all();
            if names != others {
                others = names;
                self.rewrite_at = self.rewrite_at.min(now + SETTLED);
            }
            // Until it is known who writes it, it waits.
            if self.cluster.may_speak() && (now >= self.retry_at || done.is_some()) {
                if let Err((what, error)) = self.write_all(now).await {
                    self.retry_at = now + LOOK;
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(what, %error, "what other services read cannot be written (cluster.view)");
                    }
                } else if std::mem::take(&mut self.is_failing) {
                    tracing::info!("what other services read is written again");
                }
            }
            if let Some(done) = done {
                done.send(()).ok();
            }
        }
    }

    async fn write_all(&mut self, now: Instant) -> Result<(), (String, RedisError)> {
        if now >= self.rewrite_at {
            self.looked_through.clear();
            self.rewrite_at = now + REWRITE;
            let everybody = self.pipeline.executor.presence.everybody().into_iter();
            let lately = std::mem::take(&mut self.others).into_keys();
            self.wholly.extend(everybody.chain(lately));
            self.view.changed.lock().extend(self.wholly.iter().cloned());
        }
        let written = self.write_changed(now).await;
        if now >= self.leftovers_at {
            self.leftovers_at = now + LOOK;
            self.remove_leftovers().await?;
            self.find_leftovers().await?;
        }
        written
    }

    /// Writes who has changed. One who cannot be written keeps nobody else from it.
    async fn write_changed(&mut self, now: Instant) -> Result<(), (String, RedisError)> {
        let changed = std::mem::take(&mut *self.view.changed.lock()).into_iter();
        let (mut own, others): (Vec<UserId>, Vec<UserId>) =
            changed.partition(|user| self.cluster.speaks_for(user));
        self.others.retain(|_, since| now < *since + REMEMBERED);
        self.others
            .extend(others.into_iter().map(|user| (user, now)));
        self.wholly.retain(|user| own.binary_search(user).is_ok());
        self.typing.retain(|user, _| self.cluster.speaks_for(user));
        let mut outcome = Ok(());
        while !own.is_empty() {
            let some: Vec<UserId> = own.drain(..own.len().min(AT_ONCE)).collect();
            let shown: Vec<_> = some.iter().map(|user| self.shown(user)).collect();
            let written = some.iter().zip(&shown);
            let written = written.map(|(user, shown)| self.write_one(user, shown));
            let written = join_all(written).await;
            for ((user, Shown { typing, .. }), written) in some.into_iter().zip(shown).zip(written)
            {
                if let Err(error) = written {
                    let is_away = is_passing(&error);
                    outcome = Err((format!("user {user}"), error));
                    self.wholly.insert(user.clone());
                    self.view.changed.lock().insert(user);
                    if is_away {
                        // So would all others.
                        self.wholly.extend(own.iter().cloned());
                        self.view.changed.lock().extend(own.drain(..));
                    }
                    continue;
                }
                self.wholly.remove(&user);
                match typing.is_empty() {
                    true => self.typing.remove(&user),
                    false => self.typing.insert(user, typing),
                };
            }
        }
        outcome
    }

    // ---- what nobody takes out -----------------------------------------------------------------

    /// Looks for those who are in the set of a room in which this host has somebody, and not in the room:
    /// once when that begins, and whenever all is written again.
    async fn find_leftovers(&mut self) -> Result<(), (String, RedisError)> {
        let rooms = self.cluster.formats.iter().flat_map(|format| {
            let rooms = self.pipeline.executor.rooms.all_here(format.namespace());
            rooms.into_iter().filter_map(|room| self.view.shown(&room))
        });
        let rooms: BTreeSet<String> = rooms.collect();
        self.looked_through.retain(|room| rooms.contains(room));
        let mut outcome = Ok(());
        for room in rooms {
            if self.looked_through.contains(&room) {
                continue;
            }
            let key = format!("room:{room}:users");
            let members = match self.members(&key).await {
                Ok(members) => members,
                Err(error) if is_passing(&error) => return Err((key, error)),
                Err(error) => {
                    outcome = Err((key, error));
                    continue;
                }
            };
            let users = members.iter().filter_map(|user| UserId::new(user).ok());
            let left: Vec<UserId> = users.filter(|user| !self.is_in(&room, user)).collect();
            let left = left.into_iter().map(|user| (room.clone(), user));
            self.leftovers.extend(left);
            self.looked_through.insert(room);
        }
        outcome
    }

    async fn remove_leftovers(&mut self) -> Result<(), (String, RedisError)> {
        for (room, user) in std::mem::take(&mut self.leftovers) {
            if self.is_in(&room, &user) {
                continue;
            }
            let key = format!("room:{room}:users");
            let mut command = redis::cmd("SREM");
            command.arg(self.key(&key)).arg(user.as_str());
            let removed = self.link.run(&command).await;
            removed.map_err(|error| (key, error))?;
        }
        Ok(())
    }

    /// Tells whether a user is in a room, by the name by which it is shown, in any namespace.
    fn is_in(&self, room: &str, user: &UserId) -> bool {
        let room = match &self.view.rooms {
            None => RoomName::new(room),
            Some(prefix) => RoomName::new(&format!("{prefix}:{room}")),
        };
        let rooms = &self.pipeline.executor.rooms;
        room.is_ok_and(|room| {
            let mut formats = self.cluster.formats.iter();
            formats.any(|format| rooms.has_user(format.namespace(), &room, user))
        })
    }

    // ---- one user ------------------------------------------------------------------------------

    fn shown(&self, user: &UserId) -> Shown {
        let (rooms, presence) = (
            &self.pipeline.executor.rooms,
            &self.pipeline.executor.presence,
        );
        let devices = presence.devices(user);
        let is_there = |id: &&_| rooms.whose(**id).is_some_and(|(_, ended)| !ended);
        let sockets = devices.iter().filter(is_there);
        let sockets = sockets.map(ToString::to_string).collect();
        let places = devices.iter().flat_map(|id| rooms.places(*id));
        let mut shown = Shown {
            sockets,
            rooms: BTreeSet::new(),
            typing: BTreeSet::new(),
        };
        for (namespace, room) in places {
            let Some(name) = self.view.shown(&room) else {
                continue;
            };
            if rooms.types(&namespace, &room, user) {
                shown.typing.insert(name.clone());
            }
            shown.rooms.insert(name);
        }
        shown
    }

    fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.view.prefix)
    }

    async fn write_one(&self, user: &UserId, shown: &Shown) -> RedisResult<()> {
        let (rooms, own) = (&shown.rooms, format!("user:{user}:rooms"));
        let is_whole = self.wholly.contains(user);
        let before = self.members(&own).await?;
        // Where a user may be in a room's set the room is in the user's, so that whoever goes on after
        // this has failed knows of it.
        let all = before.union(rooms).cloned().collect();
        self.sync(&own, &all).await?;
        for room in before.difference(rooms) {
            let mut command = redis::cmd("SREM");
            command.arg(self.key(&format!("room:{room}:users")));
            self.link.run(command.arg(user.as_str())).await?;
        }
        let lives = LIVES.to_string();
        let missing = |room: &&String| is_whole || !before.contains(*room);
        for room in rooms.iter().filter(missing) {
            let keys = [self.key(&format!("room:{room}:users"))];
            let arguments = [lives.as_str(), user.as_str()];
            self.link
                .script(&self.add, &keys, arguments.into_iter())
                .await?;
        }
        if !before.is_subset(rooms) {
            self.sync(&own, rooms).await?;
        }
        let sockets = &shown.sockets;
        self.sync(&format!("user:{user}:sockets"), sockets).await?;
        self.write_presence(user, sockets).await?;
        self.write_typing(user, &shown.typing).await
    }

    async fn members(&self, key: &str) -> RedisResult<BTreeSet<String>> {
        let mut command = redis::cmd("SMEMBERS");
        let members = self.link.run(command.arg(self.key(key))).await?;
        BTreeSet::from_redis_value(members).map_err(Into::into)
    }

    /// Makes a set have these members and no others.
    async fn sync(&self, key: &str, members: &BTreeSet<String>) -> RedisResult<()> {
        let (keys, lives) = ([self.key(key)], LIVES.to_string());
        let members = members.iter().map(String::as_str);
        let arguments = std::iter::once(lives.as_str()).chain(members);
        self.link.script(&self.sync, &keys, arguments).await?;
        Ok(())
    }

    async fn write_presence(&self, user: &UserId, sockets: &BTreeSet<String>) -> RedisResult<()> {
        let seen = self.pipeline.executor.presence.seen(user, now_ms());
        let key = format!("presence:{user}");
        let at_ms = match seen.at_ms {
            Some(at_ms) => at_ms,
            None if self.seems_gone(&key).await? => return Ok(()),
            // Gone so shortly that nothing is known of the user any more.
            None => now_ms(),
        };
        // What other services know are three states.
        let status = match seen.status {
            Status::Busy => Status::Away,
            status => status,
        };
        let presence = json!({
            "userId": user.as_str(),
            "status": status,
            "lastSeenAt": rfc_3339(at_ms),
            "socketIds": sockets,
        });
        let lives = match seen.status {
            Status::Offline => OFFLINE_LIVES,
            _ => LIVES,
        };
        self.set(&key, &presence, lives).await
    }

    /// Tells whether nothing, or `offline`, is written of a user.
    async fn seems_gone(&self, key: &str) -> RedisResult<bool> {
        let mut command = redis::cmd("GET");
        let written = self.link.run(command.arg(self.key(key))).await?;
        let written = Option::<String>::from_redis_value(written)?;
        let status = written.and_then(|text| {
            let presence: serde_json::Value = serde_json::from_str(&text).ok()?;
            serde_json::from_value(presence.get("status")?.clone()).ok()
        });
        Ok(status.is_none_or(|status: Status| status == Status::Offline))
    }

    async fn write_typing(&self, user: &UserId, rooms: &BTreeSet<String>) -> RedisResult<()> {
        let before = self.typing.get(user).into_iter().flatten();
        for room in before.filter(|room| !rooms.contains(*room)) {
            let mut command = redis::cmd("DEL");
            command.arg(self.key(&format!("typing:{room}:{user}")));
            self.link.run(&command).await?;
        }
        for room in rooms {
            let typing = json!({
                "userId": user.as_str(),
                "room": room,
                "isTyping": true,
                "lastTypingAt": rfc_3339(now_ms()),
            });
            self.set(&format!("typing:{room}:{user}"), &typing, TYPING_LIVES)
                .await?;
        }
        Ok(())
    }

    async fn set(&self, key: &str, value: &serde_json::Value, lives: u64) -> RedisResult<()> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(value.to_string());
        self.link.run(command.arg("EX").arg(lives)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_shown_with_their_prefix_or_only_those_of_one_without() {
        let room = |name: &str| RoomName::new(name).unwrap();
        let shown = |rooms: Option<&str>, name: &str| {
            let (view, _) = View::new(
                String::new(),
                rooms.map(|rooms| RoomPrefix::new(rooms).unwrap()),
            );
            view.shown(&room(name))
        };
        assert_eq!(shown(None, "chat:c1").as_deref(), Some("chat:c1"));
        assert_eq!(shown(Some("chat"), "chat:c1:x").as_deref(), Some("c1:x"));
        assert_eq!(shown(Some("chat"), "chats:c1"), None);
        let (view, _) = View::new(String::new(), None);
        let own = RoomName::of_user(&UserId::new("ann").unwrap());
        assert_eq!(view.shown(&own), None);
    }
}
