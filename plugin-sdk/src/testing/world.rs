//! The capabilities in native code: memory, with the semantics that the host has.

use super::{
    presence::Presence,
    state::{History, Timer, Timers},
};
use crate::{bindings::switchboard::plugin::log::Level, error::Fault, presence::Status};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

pub(super) type Faulty<T> = Result<T, Fault>;

/// Bytes of the name of a partition or a key, and of a value; see `wit/capabilities.wit`.
const NAME_BYTES: usize = 512;
const VALUE_BYTES: usize = 65_536;
const READS: usize = 1_000;
const WRITES: usize = 1_000;
pub(super) const SOFT: usize = 100;
const WRITTEN_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    value: String,
    expires_at: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Write {
    Set(Stored),
    Delete,
    Add(i64),
}

/// A connection as the world knows it.
#[derive(Debug, Clone)]
pub(super) struct Connected {
    pub(super) user: String,
    pub(super) role: String,
    pub(super) rooms: BTreeSet<String>,
    /// Where it types, and until when unless it is said again.
    pub(super) typing: BTreeMap<String, u64>,
    /// When its client did something last.
    pub(super) active_ms: u64,
}

/// What one event has read and staged.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Staged {
    partition: Option<String>,
    writes: BTreeMap<String, Write>,
    /// As they will be.
    pub(super) histories: BTreeMap<String, History>,
    pub(super) timers: BTreeMap<(String, String), Option<Timer>>,
    /// Rooms in which the event's connection begins to type, or stops.
    pub(super) typing: Vec<(String, bool)>,
    /// What users are to be seen as.
    pub(super) choices: Vec<(String, Status)>,
    /// Messages for channels, and their bytes.
    pub(super) published: Vec<(String, Value)>,
    pub(super) published_bytes: usize,
    /// Entries so far.
    pub(super) appended: u64,
    reads: usize,
    written: usize,
    bytes: usize,
}

impl Staged {
    /// Returns how many changes of soft state there are.
    pub(super) fn soft(&self) -> usize {
        self.typing.len() + self.choices.len()
    }
}

/// Everything that outlives an event.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) settings: Value,
    pub(super) prefixes: Vec<&'static str>,
    pub(super) capabilities: Vec<&'static str>,
    /// Channels that are granted, and whether there is no Redis.
    pub(super) channels: Vec<String>,
    pub(super) is_alone: bool,
    /// What was published.
    pub(super) published: Vec<(String, Value)>,
    pub(super) connections: BTreeMap<String, Connected>,
    pub(super) presence: Presence,
    pub(super) attachments: Vec<Vec<u8>>,
    /// Whether the event is some connection's.
    pub(super) has_peer: bool,
    pub(super) log: Vec<(Level, String)>,
    pub(super) stored: BTreeMap<(String, String), Stored>,
    pub(super) histories: BTreeMap<String, History>,
    pub(super) timers: Timers,
    /// The timer that is being handled.
    pub(super) firing: Option<(String, String)>,
    pub(super) staged: Staged,
}

thread_local! {
    /// The world of the event that is being handled on this thread.
    static CURRENT: RefCell<Option<Rc<RefCell<World>>>> = const { RefCell::new(None) };
}

/// Makes a world the one that capabilities ask, until what is returned is dropped.
pub(super) fn enter(world: &Rc<RefCell<World>>) -> Entered {
    Entered(CURRENT.replace(Some(world.clone())))
}

pub(super) struct Entered(Option<Rc<RefCell<World>>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
}

/// Asks the current world. Outside of a `TestHost` there is none.
fn ask<T>(question: impl FnOnce(&mut World) -> T) -> Option<T> {
    let world = CURRENT.with_borrow(Clone::clone)?;
    let mut world = world.borrow_mut();
    Some(question(&mut world))
}

fn nowhere<T>() -> Faulty<T> {
    Err(Fault::NotGranted(
        "capabilities are only there while a TestHost handles an event".to_owned(),
    ))
}

pub(super) fn ask_or_fault<T>(question: impl FnOnce(&mut World) -> Faulty<T>) -> Faulty<T> {
    ask(question).unwrap_or_else(nowhere)
}

impl World {
    pub(super) fn is_live(&self, stored: &Stored) -> bool {
        stored.expires_at.is_none_or(|at| at > self.now_ms)
    }

    /// Forgets what the event before staged.
    pub(super) fn begin(&mut self) {
        self.staged = Staged::default();
    }

    /// Commits what was staged.
    pub(super) fn commit(&mut self) -> Result<(), String> {
        let mut staged = std::mem::take(&mut self.staged);
        let mut done = Vec::new();
        let partition = staged.partition.clone().unwrap_or_default();
        for (key, write) in std::mem::take(&mut staged.writes) {
            let place = (partition.clone(), key);
            let stored = match write {
                Write::Set(stored) => Some(stored),
                Write::Delete => None,
                Write::Add(delta) => {
                    let live = self
                        .stored
                        .get(&place)
                        .filter(|stored| self.is_live(stored));
                    Some(Stored {
                        value: added(live.map(|stored| stored.value.as_str()), delta)?,
                        expires_at: live.and_then(|stored| stored.expires_at),
                    })
                }
            };
            done.push((place, stored));
        }
        for (place, stored) in done {
            match stored {
                Some(stored) => self.stored.insert(place, stored),
                None => self.stored.remove(&place),
            };
        }
        self.commit_state(staged);
        Ok(())
    }

    /// Returns a committed value.
    pub(super) fn committed(&self, partition: &str, key: &str) -> Option<&str> {
        self.stored
            .get(&(partition.to_owned(), key.to_owned()))
            .filter(|stored| self.is_live(stored))
            .map(|stored| stored.value.as_str())
    }

    pub(super) fn needs(&self, capability: &str) -> Faulty<()> {
        if self.capabilities.contains(&capability) {
            return Ok(());
        }
        Err(Fault::NotGranted(format!(
            "the plugin does not say that it needs `{capability}`; add it by Plugin::needs"
        )))
    }

    fn room(&self, room: &str) -> Faulty<()> {
        self.needs("rooms")?;
        self.own_room(room)
    }

    pub(super) fn own_room(&self, room: &str) -> Faulty<()> {
        let prefix = room.split_once(':').map(|(prefix, _)| prefix);
        match prefix {
            Some(prefix) if self.prefixes.contains(&prefix) => Ok(()),
            Some(prefix) => Err(Fault::NotGranted(format!(
                "the room prefix `{prefix}` is not the plugin's; add it by Plugin::rooms"
            ))),
            None => Err(Fault::Invalid(format!(
                "`{room}` is no room: expected `prefix:name`"
            ))),
        }
    }

    /// Returns the users in a room, those who linger among them.
    pub(super) fn users_in(&self, room: &str) -> BTreeSet<String> {
        let connected = self.connections.values();
        let connected = connected.map(|connected| (&connected.user, &connected.rooms));
        let users = connected.chain(self.presence.lingering());
        users
            .filter(|(_, rooms)| rooms.contains(room))
            .map(|(user, _)| user.clone())
            .collect()
    }

    /// Returns the users who type in a room.
    pub(super) fn typing_in(&self, room: &str) -> BTreeSet<String> {
        let connections = self.connections.values();
        let types = connections.filter(|connected| connected.typing.contains_key(room));
        types.map(|connected| connected.user.clone()).collect()
    }

    /// Makes a connection type in a room that it is in, until a time, or not any more. Returns whether
    /// its user has begun to, or has stopped.
    pub(super) fn set_typing(&mut self, connection: &str, room: &str, until: Option<u64>) -> bool {
        let before = self.typing_in(room);
        let Some(connected) = self.connections.get_mut(connection) else {
            return false;
        };
        match until {
            Some(until) if connected.rooms.contains(room) => {
                connected.typing.insert(room.to_owned(), until);
            }
            Some(_) => {}
            None => {
                connected.typing.remove(room);
            }
        }
        before != self.typing_in(room)
    }

    /// Returns who stops typing first by a time, because it was not said again.
    pub(super) fn next_silence(&self, by_ms: u64) -> Option<(u64, String, String)> {
        let all = self.connections.iter().flat_map(|(id, connected)| {
            let typing = connected.typing.iter();
            typing.map(move |(room, until)| (*until, id.clone(), room.clone()))
        });
        all.filter(|(until, ..)| *until <= by_ms).min()
    }

    fn value(&mut self, partition: &str, key: &str) -> Faulty<Option<String>> {
        let here = self.staged.partition.as_deref() == Some(partition);
        let committed = self.committed(partition, key).map(str::to_owned);
        match here.then(|| self.staged.writes.get(key)).flatten() {
            None => Ok(committed),
            Some(Write::Delete) => Ok(None),
            Some(Write::Set(stored)) => Ok(self.is_live(stored).then(|| stored.value.clone())),
            Some(Write::Add(delta)) => added(committed.as_deref(), *delta)
                .map(Some)
                .map_err(Fault::Invalid),
        }
    }

    pub(super) fn count_reads(&mut self, count: usize) -> Faulty<()> {
        self.staged.reads += count;
        if self.staged.reads > READS {
            return Err(Fault::TooMany(format!(
                "more than {READS} reads in one event"
            )));
        }
        Ok(())
    }

    /// Makes place for a write of so many bytes in a partition.
    pub(super) fn write_in(&mut self, partition: &str, bytes: usize) -> Faulty<()> {
        name("partition", partition)?;
        let staged = &mut self.staged;
        if let Some(written) = staged
            .partition
            .as_ref()
            .filter(|written| *written != partition)
        {
            return Err(Fault::Invalid(format!(
                "a transaction writes one partition; this one writes `{written}` already"
            )));
        }
        staged.partition = Some(partition.to_owned());
        staged.bytes += bytes;
        if staged.bytes > WRITTEN_BYTES {
            return Err(Fault::TooLarge(format!(
                "more than {WRITTEN_BYTES} bytes written in one event"
            )));
        }
        Ok(())
    }

    /// Counts one more key, timer or entry that is written.
    pub(super) fn count_write(&mut self) -> Faulty<()> {
        self.staged.written += 1;
        if self.staged.written > WRITES {
            return Err(Fault::TooMany(format!(
                "more than {WRITES} keys, timers and entries written in one event"
            )));
        }
        Ok(())
    }

    fn stage(
        &mut self,
        partition: &str,
        key: &str,
        bytes: usize,
        write: impl FnOnce(Option<&Write>) -> Faulty<Write>,
    ) -> Faulty<()> {
        self.needs("kv")?;
        name("key", key)?;
        self.write_in(partition, bytes + key.len())?;
        if !self.staged.writes.contains_key(key) {
            self.count_write()?;
        }
        let staged = &mut self.staged;
        let write = write(staged.writes.get(key))?;
        staged.writes.insert(key.to_owned(), write);
        Ok(())
    }
}

pub(super) fn name(what: &str, name: &str) -> Faulty<()> {
    if (1..=NAME_BYTES).contains(&name.len()) {
        return Ok(());
    }
    Err(Fault::Invalid(format!(
        "{what}: expected 1 to {NAME_BYTES} bytes, got {}",
        name.len()
    )))
}

fn added(value: Option<&str>, delta: i64) -> Result<String, String> {
    let number: i64 = match value {
        None => 0,
        Some(text) => text
            .parse()
            .ok()
            .filter(|number: &i64| number.to_string() == text)
            .ok_or_else(|| "add: the value is not a whole number of 64 bits".to_owned())?,
    };
    let sum = number.checked_add(delta);
    sum.map(|sum| sum.to_string())
        .ok_or_else(|| "add: the sum is beyond 64 bits".to_owned())
}

pub(super) fn page<T>(all: impl Iterator<Item = T>, limit: u32) -> Faulty<Vec<T>> {
    if !(1..=1_000).contains(&limit) {
        return Err(Fault::Invalid(format!(
            "limit: expected 1 to 1000, got {limit}"
        )));
    }
    Ok(all.take(limit as usize).collect())
}

pub(crate) fn log(level: Level, message: &str) {
    ask(|world| world.log.push((level, message.to_owned())));
}

pub(crate) fn settings() -> String {
    ask(|world| world.settings.to_string()).unwrap_or_else(|| "{}".to_owned())
}

pub(crate) fn attachment(index: u32) -> Option<Vec<u8>> {
    ask(|world| world.attachments.get(index as usize).cloned())?
}

pub(crate) fn attachment_size(index: u32) -> Option<u64> {
    attachment(index).map(|bytes| bytes.len() as u64)
}

pub(crate) fn typing_set(room: &str, typing: bool) -> Faulty<()> {
    ask_or_fault(|world| {
        world.needs("typing")?;
        world.own_room(room)?;
        if world.staged.soft() >= SOFT {
            return Err(Fault::TooMany(format!(
                "more than {SOFT} changes of typing and presence in one event"
            )));
        }
        if !world.has_peer {
            let why = "this event is nobody's, and nobody can type";
            return Err(Fault::Invalid(why.to_owned()));
        }
        world.staged.typing.push((room.to_owned(), typing));
        Ok(())
    })
}

pub(crate) fn typing_users(room: &str) -> Faulty<Vec<String>> {
    ask_or_fault(|world| {
        world.needs("typing")?;
        world.own_room(room)?;
        Ok(world.typing_in(room).into_iter().collect())
    })
}

pub(crate) fn members(room: &str, after: Option<&str>, limit: u32) -> Faulty<String> {
    ask_or_fault(|world| {
        world.room(room)?;
        let members = world
            .connections
            .iter()
            .filter(|(id, connected)| {
                connected.rooms.contains(room) && after.is_none_or(|after| id.as_str() > after)
            })
            .map(|(id, connected)| json!({ "connection": id, "user": connected.user, "role": connected.role }));
        Ok(json!(page(members, limit)?).to_string())
    })
}

pub(crate) fn count_users(room: &str) -> Faulty<u32> {
    ask_or_fault(|world| {
        world.room(room)?;
        Ok(u32::try_from(world.users_in(room).len()).unwrap_or(u32::MAX))
    })
}

pub(crate) fn users(room: &str, after: Option<&str>, limit: u32) -> Faulty<Vec<String>> {
    ask_or_fault(|world| {
        world.room(room)?;
        let users = world.users_in(room).into_iter();
        page(
            users.filter(|user| after.is_none_or(|after| user.as_str() > after)),
            limit,
        )
    })
}

pub(crate) fn has_connection(room: &str, connection: &str) -> Faulty<bool> {
    ask_or_fault(|world| {
        world.room(room)?;
        let connected = world.connections.get(connection);
        Ok(connected.is_some_and(|connected| connected.rooms.contains(room)))
    })
}

pub(crate) fn has_user(room: &str, user: &str) -> Faulty<bool> {
    ask_or_fault(|world| {
        world.room(room)?;
        Ok(world.users_in(room).contains(user))
    })
}

pub(crate) fn of_connection(connection: &str) -> Faulty<Vec<String>> {
    ask_or_fault(|world| {
        world.needs("rooms")?;
        let connected = world.connections.get(connection);
        Ok(connected
            .map(|connected| connected.rooms.iter().cloned().collect())
            .unwrap_or_default())
    })
}

pub(crate) fn of_user(user: &str) -> Faulty<Vec<String>> {
    ask_or_fault(|world| {
        world.needs("rooms")?;
        let rooms: BTreeSet<String> = world
            .connections
            .values()
            .filter(|connected| connected.user == user)
            .flat_map(|connected| connected.rooms.iter().cloned())
            .collect();
        Ok(rooms.into_iter().collect())
    })
}

pub(crate) fn connections_of_user(user: &str) -> Faulty<Vec<String>> {
    ask_or_fault(|world| {
        world.needs("rooms")?;
        Ok(world
            .connections
            .iter()
            .filter(|(_, connected)| connected.user == user)
            .map(|(id, _)| id.clone())
            .collect())
    })
}

pub(crate) fn kv_get(partition: &str, key: &str) -> Faulty<Option<String>> {
    ask_or_fault(|world| {
        world.needs("kv")?;
        name("partition", partition)?;
        name("key", key)?;
        world.count_reads(1)?;
        world.value(partition, key)
    })
}

pub(crate) fn kv_set(partition: &str, key: &str, value: &str, ttl_ms: Option<u64>) -> Faulty<()> {
    ask_or_fault(|world| {
        if value.len() > VALUE_BYTES {
            return Err(Fault::TooLarge(format!(
                "a value of {} bytes, of at most {VALUE_BYTES}",
                value.len()
            )));
        }
        let stored = Stored {
            value: value.to_owned(),
            expires_at: ttl_ms.map(|ttl| world.now_ms.saturating_add(ttl)),
        };
        world.stage(partition, key, value.len(), |_| Ok(Write::Set(stored)))
    })
}

pub(crate) fn kv_delete(partition: &str, key: &str) -> Faulty<()> {
    ask_or_fault(|world| world.stage(partition, key, 0, |_| Ok(Write::Delete)))
}

pub(crate) fn kv_add(partition: &str, key: &str, delta: i64) -> Faulty<()> {
    ask_or_fault(|world| {
        world.stage(partition, key, 8, |staged| match staged {
            None => Ok(Write::Add(delta)),
            Some(Write::Add(before)) => before
                .checked_add(delta)
                .map(Write::Add)
                .ok_or_else(|| Fault::Invalid("add: the sum is beyond 64 bits".to_owned())),
            Some(Write::Delete) => Ok(Write::Set(Stored {
                value: delta.to_string(),
                expires_at: None,
            })),
            Some(Write::Set(stored)) => added(Some(&stored.value), delta)
                .map(|value| {
                    Write::Set(Stored {
                        value,
                        expires_at: stored.expires_at,
                    })
                })
                .map_err(Fault::Invalid),
        })
    })
}

pub(crate) fn kv_list(
    partition: &str,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Faulty<Vec<(String, String)>> {
    ask_or_fault(|world| {
        world.needs("kv")?;
        name("partition", partition)?;
        let mut keys: BTreeSet<String> = world
            .stored
            .keys()
            .filter(|(of, _)| of == partition)
            .map(|(_, key)| key.clone())
            .collect();
        if world.staged.partition.as_deref() == Some(partition) {
            keys.extend(world.staged.writes.keys().cloned());
        }
        let mut found = Vec::new();
        for key in keys {
            if key.starts_with(prefix)
                && after.is_none_or(|after| key.as_str() > after)
                && let Some(value) = world.value(partition, &key)?
            {
                found.push((key, value));
            }
        }
        let page = page(found.into_iter(), limit)?;
        world.count_reads(page.len().max(1))?;
        Ok(page)
    })
}
