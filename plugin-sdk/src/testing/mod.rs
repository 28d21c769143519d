//! Tests of plugins run natively, in milliseconds: a [`TestHost`] does what the host does.

// Assertions end a test by panicking.
#![allow(clippy::panic)]

pub(crate) mod channels;
mod check;
mod deliver;
pub(crate) mod presence;
mod reply;
pub(crate) mod state;
pub(crate) mod world;

pub use self::reply::Reply;

use self::world::{Connected, World};
use crate::{bindings::switchboard::plugin::types as wit, plugin::Plugin};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// Events of a plugin's making that may follow from one another, as with the host's default.
const DEPTH: u8 = 8;

/// Timers that fire while the clock is moved once; more do so without end.
const FIRINGS: usize = 10_000;

/// Rooms that a connection may be in, as with the host's default.
const ROOMS: usize = 128;

/// A host for one plugin: with any number of users and connections, rooms, state in memory, and the
/// clock in the test's hands. What a host would refuse it refuses, and says why.
///
/// It runs every handler twice and keeps what the second run did, as a host does after a conflict; a
/// handler that then wants something else, because it keeps something in a `static` or draws lots, is
/// told so by a panic.
///
/// ```
/// use serde_json::json;
/// use switchboard_plugin::{Ack, Cx, Plugin, Result, TestHost};
///
/// fn shout(cx: &mut Cx, text: String) -> Result<Ack> {
///     cx.emit("shouted").to_everyone().send(&text.to_uppercase())?;
///     Ok(Ack::ok())
/// }
///
/// let mut host = TestHost::new(Plugin::new("shouter").on("shout", shout));
/// let ann = host.connect("ann");
/// let ben = host.connect("ben");
/// host.send(&ann, "shout", json!("hello")).expect_ok();
/// assert_eq!(host.take(&ben, "shouted"), json!("HELLO"));
/// host.send(&ann, "shout", json!(7)).expect_error("INVALID_PAYLOAD");
/// ```
pub struct TestHost {
    plugin: Plugin,
    world: Rc<RefCell<World>>,
    identities: BTreeMap<String, wit::Identity>,
    inboxes: BTreeMap<String, Vec<Heard>>,
    acks: Vec<Asked>,
    events: u64,
    connected: u64,
    /// Whether senders wait for an acknowledgement.
    waiting: bool,
    /// Whether the event that was handled last leaves its connection as idle as it was.
    is_passive: bool,
}

/// What a connection heard.
#[derive(Debug, Clone)]
struct Heard {
    event: String,
    args: Vec<Value>,
    attachments: Vec<Vec<u8>>,
}

/// An emission that asked for an answer.
#[derive(Debug, Clone)]
struct Asked {
    connection: String,
    token: String,
}

/// A user of a test, for those who need more than an id.
#[derive(Debug, Clone)]
pub struct User {
    id: String,
    role: String,
    claims: Map<String, Value>,
}

impl User {
    /// Returns a student without claims.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            role: "student".to_owned(),
            claims: Map::new(),
        }
    }

    /// With this role.
    #[must_use]
    pub fn role(mut self, role: &str) -> Self {
        self.role = role.to_owned();
        self
    }

    /// With a claim in the token.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Serialize) -> Self {
        self.claims.insert(name.to_owned(), json!(value));
        self
    }
}

impl From<&str> for User {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

/// A connection of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    id: String,
}

impl Client {
    /// Returns the host's id of the connection.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

fn message(event: &str, arguments: impl Serialize) -> wit::Trigger {
    wit::Trigger::Message(wit::Message {
        name: event.to_owned(),
        args: json!(arguments).to_string(),
    })
}

impl TestHost {
    /// Returns a host for a plugin, at noon of some day, with nobody connected and nothing stored.
    #[must_use]
    pub fn new(plugin: Plugin) -> Self {
        let world = World {
            now_ms: 1_700_049_600_000,
            settings: json!({}),
            prefixes: plugin.rooms.clone(),
            capabilities: plugin.capabilities.clone(),
            ..World::default()
        };
        Self {
            plugin,
            world: Rc::new(RefCell::new(world)),
            identities: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            acks: Vec::new(),
            events: 0,
            connected: 0,
            waiting: true,
            is_passive: false,
        }
    }

    /// Sets the operator's settings.
    #[must_use]
    pub fn with_settings(self, settings: Value) -> Self {
        self.world.borrow_mut().settings = settings;
        self
    }

    /// Moves the clock on. Timers that are due by then fire, each at its time; who has not said for 5
    /// seconds that they type stops; who has not come back for 5 seconds has left and is offline; and who
    /// has done nothing for 5 minutes is away.
    ///
    /// # Panics
    /// When the handler of a timer fails, or timers schedule others without end.
    #[track_caller]
    pub fn advance(&mut self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let end = self.world.borrow().now_ms.saturating_add(millis);
        for _ in 0..FIRINGS {
            let (timer, gone, idle, silence) = {
                let world = self.world.borrow();
                let timer = world.next_timer(end);
                let by = timer.as_ref().map_or(end, |(_, timer)| timer.due_ms);
                let gone = world.next_gone(by);
                let by = gone.as_ref().map_or(by, |(until, _)| *until);
                let idle = world.next_idle(by);
                let silence = world.next_silence(idle.unwrap_or(by));
                (timer, gone, idle, silence)
            };
            match (silence, idle, gone, timer) {
                (Some((until, connection, room)), ..) => {
                    self.fall_silent(until, &connection, &room);
                }
                (_, Some(idle), ..) => {
                    self.world.borrow_mut().now_ms = idle;
                    self.tell_presence();
                }
                (_, _, Some((until, connection)), _) => self.go(until, &connection),
                (_, _, _, Some((place, timer))) => self.fire(place, &timer),
                (None, None, None, None) => {
                    self.world.borrow_mut().now_ms = end;
                    return;
                }
            }
        }
        panic!("{FIRINGS} timers have fired and there are more: they schedule each other");
    }

    /// Moves the clock on while nothing happens that is due, as on a host that is late: a timer fires
    /// no earlier than it is due, and may fire later. [`Self::advance`] makes up for it.
    pub fn stall(&mut self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut world = self.world.borrow_mut();
        world.now_ms = world.now_ms.saturating_add(millis);
    }

    // ---- what happens --------------------------------------------------------------------------

    /// Connects a user, once more if they are connected already.
    pub fn connect(&mut self, user: impl Into<User>) -> Client {
        let user = user.into();
        self.connected += 1;
        let id = format!("connection-{:04}", self.connected);
        let identity = wit::Identity {
            user: user.id.clone(),
            role: user.role.clone(),
            claims: Value::Object(user.claims).to_string(),
        };
        self.identities.insert(id.clone(), identity);
        self.inboxes.insert(id.clone(), Vec::new());
        self.world.borrow_mut().come(&user.id);
        let connected = Connected {
            user: user.id,
            role: user.role,
            rooms: BTreeSet::new(),
            typing: BTreeMap::new(),
            active_ms: self.world.borrow().now_ms,
        };
        self.world
            .borrow_mut()
            .connections
            .insert(id.clone(), connected);
        self.notice(&id, "connected", &json!({}), 0);
        Client { id }
    }

    /// Ends a connection, as when it is lost. Its user lingers in the rooms where it was the last, and is
    /// seen as before, until 5 seconds later ([`Self::advance`]).
    pub fn disconnect(&mut self, client: &Client) {
        self.end(&client.id, "transport close");
    }

    /// Sends an event with one argument, waiting for the acknowledgement.
    pub fn send(&mut self, client: &Client, event: &str, argument: impl Serialize) -> Reply {
        self.send_args(client, event, [argument])
    }

    /// Sends an event with any arguments: an array or a tuple.
    pub fn send_args(&mut self, client: &Client, event: &str, arguments: impl Serialize) -> Reply {
        self.send_binary(client, event, arguments, Vec::new())
    }

    /// Sends an event with attachments; in the arguments `{"_placeholder":true,"num":n}` stands for
    /// the n-th.
    pub fn send_binary(
        &mut self,
        client: &Client,
        event: &str,
        arguments: impl Serialize,
        attachments: Vec<Vec<u8>>,
    ) -> Reply {
        let message = message(event, arguments);
        self.run(Some(&client.id), message, attachments, 0)
            .of(event)
    }

    /// Sends an event with one argument without waiting for an acknowledgement. Of a failure the
    /// client hears by the event `error` `{ code, message, event, details? }`.
    pub fn tell(&mut self, client: &Client, event: &str, argument: impl Serialize) {
        self.waiting = false;
        let reply = self.send(client, event, argument);
        self.waiting = true;
        let (Err(mut error), Some(inbox)) = (reply.args, self.inboxes.get_mut(&client.id)) else {
            return;
        };
        if let Some(error) = error.as_object_mut() {
            error.insert("event".to_owned(), event.into());
        }
        inbox.push(Heard {
            event: "error".to_owned(),
            args: vec![error],
            attachments: Vec::new(),
        });
    }

    /// Sends a backend's event.
    pub fn server_event(&mut self, event: &str, data: impl Serialize) -> Reply {
        let server = wit::ServerEvent {
            name: event.to_owned(),
            args: json!([data]).to_string(),
            source: "api".to_owned(),
        };
        self.run(None, wit::Trigger::Server(server), Vec::new(), 0)
            .of(event)
    }

    /// Answers the oldest emission that asked this connection with this token.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn acknowledge(&mut self, client: &Client, token: &str, arguments: impl Serialize) {
        self.settle(
            client,
            token,
            json!({ "token": token, "args": json!(arguments) }),
        );
    }

    /// Lets the time pass in which this connection should have answered.
    ///
    /// # Panics
    /// When nothing asked it with this token.
    #[track_caller]
    pub fn let_time_out(&mut self, client: &Client, token: &str) {
        self.settle(client, token, json!({ "token": token, "error": "timeout" }));
    }

    #[track_caller]
    fn settle(&mut self, client: &Client, token: &str, data: Value) {
        let found = self
            .acks
            .iter()
            .position(|asked| asked.connection == client.id && asked.token == token);
        let Some(found) = found else {
            panic!(
                "nothing asks {} with the token `{token}`; open: {:?}",
                client.id, self.acks
            );
        };
        self.acks.remove(found);
        self.notice(&client.id, "acknowledged", &data, 0);
    }

    // ---- what can be seen ----------------------------------------------------------------------

    /// Returns the first argument of the one event of this name that the connection heard since it
    /// was last asked, and forgets it.
    ///
    /// # Panics
    /// When it heard none, or several; the text says what it heard.
    #[track_caller]
    pub fn take(&mut self, client: &Client, event: &str) -> Value {
        let mut args = self.take_args(client, event);
        match args.is_empty() {
            true => Value::Null,
            false => args.swap_remove(0),
        }
    }

    /// The same with all its arguments.
    ///
    /// # Panics
    /// When it heard none, or several.
    #[track_caller]
    pub fn take_args(&mut self, client: &Client, event: &str) -> Vec<Value> {
        let mut found = self.take_heard(client, event);
        assert!(
            found.len() == 1,
            "{} heard `{event}` {} times, not once; besides it heard {:?}",
            client.id,
            found.len(),
            self.heard(client)
        );
        found.swap_remove(0).args
    }

    /// Returns the first arguments of all events of this name since it was last asked, and forgets
    /// them.
    pub fn take_all(&mut self, client: &Client, event: &str) -> Vec<Value> {
        self.take_heard(client, event)
            .into_iter()
            .map(|heard| heard.args.into_iter().next().unwrap_or_default())
            .collect()
    }

    /// Returns the attachments of the one event of this name, and forgets it.
    ///
    /// # Panics
    /// When it heard none, or several.
    #[track_caller]
    pub fn take_binary(&mut self, client: &Client, event: &str) -> (Vec<Value>, Vec<Vec<u8>>) {
        let mut found = self.take_heard(client, event);
        assert!(
            found.len() == 1,
            "{} heard `{event}` {} times, not once",
            client.id,
            found.len()
        );
        let heard = found.swap_remove(0);
        (heard.args, heard.attachments)
    }

    fn take_heard(&mut self, client: &Client, event: &str) -> Vec<Heard> {
        let Some(inbox) = self.inboxes.get_mut(&client.id) else {
            return Vec::new();
        };
        let (found, rest) = std::mem::take(inbox)
            .into_iter()
            .partition(|heard| heard.event == event);
        *inbox = rest;
        found
    }

    /// Returns the names of what the connection heard and the test has not taken.
    #[must_use]
    pub fn heard(&self, client: &Client) -> Vec<String> {
        self.inboxes
            .get(&client.id)
            .map(|inbox| inbox.iter().map(|heard| heard.event.clone()).collect())
            .unwrap_or_default()
    }

    /// Asserts that the connection heard nothing that the test has not taken.
    ///
    /// # Panics
    /// When it did.
    #[track_caller]
    pub fn expect_silence(&self, client: &Client) {
        let heard = self.heard(client);
        assert!(heard.is_empty(), "{} heard {heard:?}", client.id);
    }

    /// Asserts that nobody heard anything that the test has not taken.
    ///
    /// # Panics
    /// When somebody did.
    #[track_caller]
    pub fn expect_silence_everywhere(&self) {
        for id in self.inboxes.keys() {
            self.expect_silence(&Client { id: id.clone() });
        }
    }

    /// Forgets what everybody heard.
    pub fn clear(&mut self) {
        for inbox in self.inboxes.values_mut() {
            inbox.clear();
        }
    }

    /// Returns the rooms of a connection, sorted; none when it has ended.
    #[must_use]
    pub fn rooms(&self, client: &Client) -> Vec<String> {
        let world = self.world.borrow();
        let connected = world.connections.get(&client.id);
        connected
            .map(|connected| connected.rooms.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Tells whether a connection is still there.
    #[must_use]
    pub fn is_connected(&self, client: &Client) -> bool {
        self.world.borrow().connections.contains_key(&client.id)
    }

    /// Returns what is committed at a key.
    #[must_use]
    pub fn stored(&self, partition: &str, key: &str) -> Option<Value> {
        let world = self.world.borrow();
        serde_json::from_str(world.committed(partition, key)?).ok()
    }

    /// Returns what is committed of a partition's history, the oldest entry first, each as
    /// `{ position, id, at, entry }` with `amended` or `redacted` where that has happened.
    #[must_use]
    pub fn history(&self, partition: &str) -> Vec<Value> {
        self.world.borrow().committed_history(partition)
    }

    /// Returns how long it is until a timer is due, none where there is no such timer.
    #[must_use]
    pub fn timer(&self, partition: &str, name: &str) -> Option<Duration> {
        let world = self.world.borrow();
        let timer = world.timer(partition, name)?;
        Some(Duration::from_millis(
            timer.due_ms.saturating_sub(world.now_ms),
        ))
    }

    /// Returns the lines that the plugin logged.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.world
            .borrow()
            .log
            .iter()
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// Returns the plugin's manifest.
    ///
    /// # Panics
    /// When it is not JSON, which the SDK rules out.
    #[must_use]
    pub fn manifest(&self) -> Value {
        serde_json::from_str(&self.plugin.describe()).unwrap_or_default()
    }
}
