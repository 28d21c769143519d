//! The connections of this node: whose each one is, the events that wait for it, and how much it
//! may send.
//!
//! A connection's events are handled one after the other. They wait in its mailbox, and at most one
//! task works a mailbox at a time: whoever finds it idle is told so ([`Pushed::Start`]) and starts
//! that task, so an idle connection costs no task.

mod activity;
mod transport;

pub use self::{activity::Activity, transport::Transport};

use crate::{
    core::{
        event::{Identity, Notice},
        names::{ConnectionId, EventName, Namespace, UserId},
        rate::{Rate, TokenBucket},
    },
    ports::{Acknowledge, Outbound},
};
use ahash::RandomState;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// What one connection, and one user, may send.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Events a second of one connection, and how many it may save up.
    pub per_connection: Rate,
    /// Events a second of all connections of one user, and how many they may save up.
    pub per_user: Rate,
    /// Events that may wait in one mailbox.
    pub mailbox_events: usize,
    /// Bytes of events that may wait in one mailbox.
    pub mailbox_bytes: usize,
    /// How many more events may be refused than taken before the connection is closed.
    pub refusals: u32,
}

/// An event of a client that waits to be handled.
pub struct Message {
    /// Its name.
    pub name: EventName,
    /// The JSON array of its arguments, checked.
    pub args: String,
    /// What the placeholders in it stand for.
    pub attachments: Vec<Bytes>,
    /// Where its acknowledgement goes, when the client waits for one.
    pub ack: Option<Box<dyn Acknowledge>>,
    /// When it came, in milliseconds since 1970 UTC.
    pub at_ms: u64,
}

impl Message {
    fn bytes(&self) -> usize {
        // A constant for the message itself, so that empty ones do not wait for free.
        self.attachments.iter().map(Bytes::len).sum::<usize>() + self.args.len() + 256
    }
}

/// What waits in a mailbox.
pub enum Item {
    /// A client's event.
    Message(Message),
    /// The connection has ended; the last item.
    End {
        /// Why, in a word or two for the operator.
        reason: Arc<str>,
    },
    /// Something that the host observed, and the bytes that came with it.
    Notice {
        /// What.
        notice: Notice,
        /// Attachments of an acknowledgement.
        attachments: Vec<Bytes>,
        /// How many events of plugins' making led to it.
        depth: u8,
    },
}

/// What became of an item that was to be put into a mailbox.
pub enum Pushed {
    /// It waits, and the caller must start to work the mailbox.
    Start,
    /// It waits; somebody works the mailbox, or it has not been opened yet.
    Queued,
    /// It was not taken: too much waits already.
    Full(Message),
    /// It was not taken: the connection has ended.
    Ended,
}

/// An acknowledgement that the client was asked for and has not given yet.
struct Ask {
    number: u64,
    token: Arc<str>,
    plugin: Arc<str>,
    depth: u8,
}

#[derive(Default)]
struct Mailbox {
    asks: Vec<Ask>,
    asked: u64,
    items: VecDeque<Item>,
    messages: usize,
    bytes: usize,
    open: bool,
    working: bool,
    ended: bool,
}

const ENDS: u8 = 1;
const ENDS_WHOLE: u8 = 2;

/// One connection of a client to one namespace.
pub struct Connection {
    /// The host's id of it.
    pub id: ConnectionId,
    /// The namespace.
    pub namespace: Namespace,
    /// How to reach the client.
    pub outbound: Arc<dyn Outbound>,
    /// The transport that it shares with other namespaces.
    pub transport: Arc<Transport>,
    /// Whether its client does anything.
    pub activity: Activity,
    identity: ArcSwapOption<Identity>,
    mailbox: Mutex<Mailbox>,
    rate: Rate,
    user_bucket: Mutex<Option<Arc<Mutex<TokenBucket>>>>,
    refusals: AtomicU32,
    closing: AtomicBool,
    deaf: AtomicBool,
    swept: AtomicBool,
    /// Whether it ends once it has got its answer ([`ENDS`]), and its transport with it ([`ENDS_WHOLE`]).
    end: AtomicU8,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Returns whose connection this is, none before authentication.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    /// Tells whether the connection has ended or is about to.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Marks that the host has begun to close this connection; returns whether it had not before.
    pub fn begin_closing(&self) -> bool {
        !self.closing.swap(true, Ordering::AcqRel)
    }

    /// Marks that the host has begun to close this connection for what its client did or did not do:
    /// nothing more of it is taken. Returns whether it had not before.
    pub fn begin_ending(&self) -> bool {
        self.deaf.store(true, Ordering::Release);
        self.begin_closing()
    }

    /// Takes note that the connection ends once it has got the answer that it is owed, and its transport
    /// with it or not.
    pub fn end_when_answered(&self, transport: bool) {
        let end = if transport { ENDS_WHOLE } else { ENDS };
        self.end.fetch_max(end, Ordering::Release);
    }

    /// Returns whether the transport ends, too, if the connection ends now that it has got its answer.
    #[must_use]
    pub fn take_end(&self) -> Option<bool> {
        // Asked after every event, and nearly never so.
        let ends = self.end.load(Ordering::Relaxed) > 0;
        ends.then(|| self.end.swap(0, Ordering::Acquire) == ENDS_WHOLE)
    }

    /// Tells whether nothing of the client's is taken any more.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }

    /// Marks that another host has told plugins of this connection's end.
    pub fn mark_swept(&self) {
        self.swept.store(true, Ordering::Release);
    }

    /// Tells whether another host has told plugins of this connection's end.
    #[must_use]
    pub fn is_swept(&self) -> bool {
        self.swept.load(Ordering::Acquire)
    }

    /// Takes one event's worth of the connection's and of its user's rate.
    ///
    /// # Errors
    /// When one of the two is used up: how long until it is not.
    pub fn take_rate(&self, now: Instant) -> Result<(), Duration> {
        self.transport.take_event(self.rate, now)?;
        match &*self.user_bucket.lock() {
            Some(bucket) => bucket.lock().take(now),
            None => Ok(()),
        }
    }

    /// Counts an event that was refused for its number; returns how many more there were than events
    /// that were taken since. So who sends twice of what is allowed is found out, however the refused
    /// ones are spread.
    pub fn count_refusal(&self) -> u32 {
        self.refusals.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn forgive_refusal(&self) {
        let fewer = |refusals: u32| refusals.checked_sub(1);
        // Nothing to forgive is fine.
        let _ = self
            .refusals
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    /// Puts a client's event into the mailbox, if there is room.
    pub fn push_message(&self, message: Message, limits: &Limits) -> Pushed {
        if self.is_deaf() {
            return Pushed::Ended;
        }
        let mut mailbox = self.mailbox.lock();
        if mailbox.ended {
            return Pushed::Ended;
        }
        let bytes = message.bytes();
        if mailbox.messages >= limits.mailbox_events
            || mailbox.bytes + bytes > limits.mailbox_bytes.max(bytes)
        {
            return Pushed::Full(message);
        }
        self.forgive_refusal();
        mailbox.messages += 1;
        mailbox.bytes += bytes;
        mailbox.items.push_back(Item::Message(message));
        mailbox.start()
    }

    /// Puts a notice into the mailbox, whatever waits there already: the host makes no more of them
    /// than clients' and plugins' bounded doings cause.
    pub fn push_notice(&self, notice: Notice, attachments: Vec<Bytes>, depth: u8) -> Pushed {
        let mut mailbox = self.mailbox.lock();
        if mailbox.ended {
            return Pushed::Ended;
        }
        mailbox.items.push_back(Item::Notice {
            notice,
            attachments,
            depth,
        });
        mailbox.start()
    }

    /// Notes that the client is asked for an acknowledgement; returns the number by which it is
    /// settled. None when the connection has ended: then nobody will answer.
    pub fn ask(&self, token: Arc<str>, plugin: Arc<str>, depth: u8) -> Option<u64> {
        let mut mailbox = self.mailbox.lock();
        if mailbox.ended {
            return None;
        }
        mailbox.asked += 1;
        let number = mailbox.asked;
        mailbox.asks.push(Ask {
            number,
            token,
            plugin,
            depth,
        });
        Some(number)
    }

    /// Puts the outcome of an acknowledgement that was asked for into the mailbox. Nothing happens
    /// when the connection's end has settled it already.
    pub fn settle(
        &self,
        number: u64,
        outcome: Result<String, &'static str>,
        attachments: Vec<Bytes>,
    ) -> Pushed {
        let mut mailbox = self.mailbox.lock();
        let Some(place) = mailbox.asks.iter().position(|ask| ask.number == number) else {
            return Pushed::Queued;
        };
        let ask = mailbox.asks.swap_remove(place);
        mailbox.items.push_back(ask.settled(outcome, attachments));
        mailbox.start()
    }

    /// Lets the mailbox be worked; until then items only wait. The notice goes before all of them,
    /// also before the connection's end. Returns whether the caller must start to work it.
    pub fn open_mailbox(&self, first: Option<Notice>) -> Pushed {
        let mut mailbox = self.mailbox.lock();
        mailbox.open = true;
        if let Some(notice) = first {
            mailbox.items.push_front(Item::Notice {
                notice,
                attachments: Vec::new(),
                depth: 0,
            });
        }
        if mailbox.items.is_empty() {
            return Pushed::Queued;
        }
        mailbox.start()
    }

    /// Ends the mailbox with its last item; nothing is taken any more.
    pub fn end_mailbox(&self, reason: Arc<str>) -> Pushed {
        self.closing.store(true, Ordering::Release);
        let mut mailbox = self.mailbox.lock();
        if mailbox.ended {
            return Pushed::Ended;
        }
        mailbox.ended = true;
        // Whoever waits for an acknowledgement hears that there will be none, before the end.
        for ask in std::mem::take(&mut mailbox.asks) {
            let settled = ask.settled(Err("disconnected"), Vec::new());
            mailbox.items.push_back(settled);
        }
        mailbox.items.push_back(Item::End { reason });
        mailbox.start()
    }

    /// Returns the next item for the task that works the mailbox; none ends that task's work.
    pub fn next_item(&self) -> Option<Item> {
        let mut mailbox = self.mailbox.lock();
        match mailbox.items.pop_front() {
            Some(item) => {
                if let Item::Message(message) = &item {
                    mailbox.messages = mailbox.messages.saturating_sub(1);
                    mailbox.bytes = mailbox.bytes.saturating_sub(message.bytes());
                }
                Some(item)
            }
            None => {
                mailbox.working = false;
                None
            }
        }
    }

    /// Tells whether nothing waits and nothing is being handled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let mailbox = self.mailbox.lock();
        !mailbox.working && mailbox.items.is_empty()
    }
}

impl Ask {
    fn settled(self, outcome: Result<String, &'static str>, attachments: Vec<Bytes>) -> Item {
        let notice = Notice::Acknowledged {
            token: self.token,
            plugin: self.plugin,
            outcome,
        };
        Item::Notice {
            notice,
            attachments,
            depth: self.depth,
        }
    }
}

impl Mailbox {
    fn start(&mut self) -> Pushed {
        if !self.open || self.working {
            return Pushed::Queued;
        }
        self.working = true;
        Pushed::Start
    }
}

type UserKey = (Namespace, UserId);

/// All connections of this node.
pub struct Connections {
    limits: Limits,
    by_id: DashMap<ConnectionId, Arc<Connection>, RandomState>,
    by_user: DashMap<UserKey, Vec<ConnectionId>, RandomState>,
    user_buckets: DashMap<UserId, Arc<Mutex<TokenBucket>>, RandomState>,
}

impl Connections {
    /// Returns an empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            by_id: DashMap::default(),
            by_user: DashMap::default(),
            user_buckets: DashMap::default(),
        }
    }

    /// Returns what connections may send.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns a connection that is not in the table yet, with its mailbox closed.
    #[must_use]
    pub fn create(
        &self,
        namespace: Namespace,
        outbound: Arc<dyn Outbound>,
        transport: Arc<Transport>,
    ) -> Arc<Connection> {
        Arc::new(Connection {
            id: ConnectionId::fresh(),
            namespace: namespace.detached(),
            outbound,
            transport,
            activity: Activity::default(),
            identity: ArcSwapOption::empty(),
            mailbox: Mutex::default(),
            rate: self.limits.per_connection,
            user_bucket: Mutex::new(None),
            refusals: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            swept: AtomicBool::new(false),
            end: AtomicU8::new(0),
        })
    }

    /// Puts a connection into the table; returns false, and does not, when it has ended already.
    pub fn insert(&self, connection: &Arc<Connection>) -> bool {
        // Under the mailbox's lock, so that an end is either seen here or finds the entry.
        let mailbox = connection.mailbox.lock();
        if mailbox.ended {
            return false;
        }
        self.by_id.insert(connection.id, connection.clone());
        true
    }

    /// Records whose connection this is. Only the same user may follow on a first one; that is for
    /// the caller to check.
    pub fn identify(&self, connection: &Arc<Connection>, identity: Arc<Identity>, now: Instant) {
        let user = identity.user.clone();
        let known = connection.identity.swap(Some(identity)).is_some();
        if known {
            return;
        }
        let bucket = self
            .user_buckets
            .entry(user.clone())
            .or_insert_with(|| Arc::new(Mutex::new(TokenBucket::new(self.limits.per_user, now))))
            .clone();
        *connection.user_bucket.lock() = Some(bucket);
        self.by_user
            .entry((connection.namespace.clone(), user))
            .or_default()
            .push(connection.id);
    }

    /// Takes a connection out of the table.
    pub fn remove(&self, connection: &Connection, now: Instant) {
        self.by_id.remove(&connection.id);
        let Some(identity) = connection.identity() else {
            return;
        };
        let key = (connection.namespace.clone(), identity.user.clone());
        if let Some(mut ids) = self.by_user.get_mut(&key) {
            ids.retain(|id| *id != connection.id);
        }
        self.by_user.remove_if(&key, |_, ids| ids.is_empty());
        connection.user_bucket.lock().take();
        // A bucket that is not full outlives its user's last connection, or reconnecting would
        // refill it; the next one to leave takes it along.
        self.user_buckets.remove_if(&identity.user, |_, bucket| {
            Arc::strong_count(bucket) == 1 && bucket.lock().is_full(now)
        });
    }

    /// Forgets what is only kept so that reconnecting does not refill a user's rate.
    pub fn sweep(&self, now: Instant) {
        self.user_buckets
            .retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.lock().is_full(now));
    }

    /// Tells whether there is a connection.
    #[must_use]
    pub fn has(&self, id: ConnectionId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Returns a connection by its id.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        self.by_id.get(&id).map(|entry| entry.value().clone())
    }

    /// Returns the ids of a user's connections in a namespace, in the order in which they came.
    #[must_use]
    pub fn of_user(&self, namespace: &Namespace, user: &UserId) -> Vec<ConnectionId> {
        self.by_user
            .get(&(namespace.clone(), user.clone()))
            .map(|ids| ids.clone())
            .unwrap_or_default()
    }

    /// Returns the authenticated connections of a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &Namespace) -> Vec<Arc<Connection>> {
        self.by_id
            .iter()
            .filter(|entry| entry.namespace == *namespace && entry.identity.load().is_some())
            .map(|entry| entry.value().clone())
            .collect()
    }

    /// Does something with every connection; not for long, and nothing with this table.
    pub fn for_each(&self, mut with: impl FnMut(&Connection)) {
        for entry in &self.by_id {
            with(entry.value());
        }
    }

    /// Returns every connection.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.by_id
            .iter()
            .map(|entry| entry.value().clone())
            .collect()
    }

    /// Returns how many connections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Tells whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests;
