//! The one pipeline that every event passes through: a client's message, a backend's event, and
//! what the host observes.
//!
//! | module | step |
//! |---|---|
//! | [`authorise`] | 1: authenticated? (rate and size are checked when an event is accepted) |
//! | [`route`] | 2: which plugins? |
//! | [`call`] | 3 and 4: call each in a transaction of its own, and commit |
//! | [`check`] | may it want that? |
//! | [`execute`] | 5: what it wants done |
//! | [`ending`] | what follows from a connection's end |
//! | [`outgoing`] | what was committed is sent although its host has ended |
//! | [`relayed`] | what other nodes want done on this one |
//! | [`answer`] | the sender hears of it, exactly once |
//! | [`timers`] | timers that are due |
//! | [`typing`] | who stops typing without saying so |
//! | [`presence`] | what users are seen as |

pub mod answer;
pub mod authorise;
pub mod call;
pub mod check;
pub mod config;
mod ending;
pub mod execute;
pub mod outgoing;
pub mod presence;
pub mod relayed;
pub mod route;
pub mod timers;
pub mod typing;
pub mod view;

use self::{
    answer::{Outcome, OwedAnswer},
    authorise::{AUTH_EVENT, TokenTimes},
    check::{Bounds, Step},
    execute::{By, Caused, Executor},
    route::Routes,
};
use crate::{
    connections::{Connection, Connections, Item, Message, Pushed},
    core::{
        code::{Code, Failure},
        event::{Event, Identity, Notice, Peer, Trigger, fresh_id},
        names::{EventName, Namespace, PluginName},
    },
    ports::{Acknowledge, Authenticator, CloseReason},
    transactions::Transactions,
    turns::Turns,
};
use futures_util::FutureExt;
use serde_json::json;
use std::{
    collections::VecDeque,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Everything that an event meets on its way.
pub struct Pipeline {
    /// The connections of this node.
    pub connections: Arc<Connections>,
    /// Which plugins there are.
    pub routes: Arc<Routes>,
    /// Carries instructions out.
    pub executor: Executor,
    /// State, in transactions.
    pub transactions: Arc<Transactions>,
    /// Decides on tokens.
    pub authenticator: Arc<dyn Authenticator>,
    /// When tokens have to be shown.
    pub token_times: TokenTimes,
    /// What a reply may ask for.
    pub bounds: Bounds,
    /// How many events of plugins' making may follow from one another.
    pub depth: u8,
    /// The order of server events with a key.
    pub turns: Turns,
    /// Where everything runs.
    pub runtime: Handle,
    /// Everything that runs, to be waited for.
    pub tasks: TaskTracker,
    /// Set when the host stops: nothing new is taken.
    pub stopping: CancellationToken,
}

/// A backend's event.
#[derive(Debug)]
pub struct ServerEvent {
    /// For this plugin only; for every one that subscribed when absent.
    pub plugin: Option<PluginName>,
    /// Its name.
    pub name: EventName,
    /// The JSON array of its arguments, checked.
    pub args: String,
    /// Events with the same key are handled in the order in which they came.
    pub key: Option<String>,
    /// Where it came in.
    pub source: &'static str,
}

impl Pipeline {
    /// Handles one event: each plugin that subscribed, in the configured order, sees it in a
    /// transaction of its own, and its effects follow. The first acknowledgement wins; a failure
    /// answers only when nobody acknowledged, and that of one who could not read the payload only when
    /// nobody could.
    async fn handle(
        self: &Arc<Self>,
        event: &Arc<Event>,
        only: Option<&PluginName>,
    ) -> (Outcome, Vec<Caused>) {
        let subscribers = self.routes.subscribers(&event.namespace, &event.trigger);
        let mut effects = Vec::new();
        let mut answer = None;
        let mut failure: Option<Failure> = None;
        let mut called = false;
        for plugin in subscribers.iter() {
            let info = plugin.info();
            if only.is_some_and(|only| only != info.name()) {
                continue;
            }
            called = true;
            let event = in_namespace(event, &info.namespace);
            let transaction = self.transactions.begin(info.name(), event.at_ms);
            match self.call(plugin, &event, transaction).await {
                Ok(called) => {
                    let caused = self.carry_out(called.steps, called.done, info, &event);
                    answer = answer.or(called.answer);
                    effects.extend(caused.await);
                }
                Err(why) => {
                    let misread = |failure: &Failure| failure.code == Code::InvalidPayload.as_str();
                    if failure
                        .as_ref()
                        .is_none_or(|first| misread(first) && !misread(&why))
                    {
                        failure = Some(why);
                    }
                }
            }
        }
        let outcome = match (answer, failure) {
            (Some(answer), _) => Ok(Some(answer)),
            (None, Some(failure)) => Err(failure),
            (None, None) if called => Ok(None),
            (None, None) => Err(unknown(
                event,
                only.filter(|name| self.routes.snapshot().plugin(name).is_none()),
            )),
        };
        (outcome, effects)
    }

    // ---- what comes in --------------------------------------------------------------------------

    /// Takes one event's worth of what a client may send, before anything is done about the event.
    /// Returns where its acknowledgement goes, or refuses it; its name is looked for only then.
    ///
    /// # Errors
    /// When it was refused, and so is done with.
    pub fn take_rate(
        &self,
        connection: &Arc<Connection>,
        name: impl FnOnce() -> String,
        ack: Option<Box<dyn Acknowledge>>,
    ) -> Result<Option<Box<dyn Acknowledge>>, Refusal> {
        let Err(wait) = connection.take_rate(Instant::now()) else {
            return Ok(ack);
        };
        let retry = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        self.refuse(connection, &name(), ack, too_many("too many events", retry));
        Err(Refusal)
    }

    /// Takes a client's event whose rate has been taken. Never waits; an event that is not taken is
    /// answered at once.
    pub fn accept(self: &Arc<Self>, connection: &Arc<Connection>, message: Message) {
        match connection.push_message(message, self.connections.limits()) {
            Pushed::Start => self.start(connection.clone()),
            Pushed::Full(Message { name, ack, .. }) => {
                let failure = too_many("too many events wait", 100);
                self.refuse(connection, name.as_str(), ack, failure);
            }
            Pushed::Queued | Pushed::Ended => {}
        }
    }

    /// Answers an event that is not taken, and closes a connection that sends far too many of them.
    pub fn refuse(
        &self,
        connection: &Arc<Connection>,
        name: &str,
        ack: Option<Box<dyn Acknowledge>>,
        failure: Failure,
    ) {
        if connection.is_deaf() {
            return;
        }
        OwedAnswer::new(&self.executor, connection, name, ack).answer(Err(failure));
        if connection.count_refusal() > self.connections.limits().refusals
            && connection.begin_ending()
        {
            tracing::warn!(connection = %connection.id, "closing a connection that goes on sending too much");
            connection.outbound.close_transport(CloseReason::Flooding);
        }
    }

    /// Takes a connection that has been established, with whose it is if that is known. One that has
    /// ended in the meantime is let go of.
    pub fn open(self: &Arc<Self>, connection: &Arc<Connection>, identity: Option<Identity>) {
        if !self.connections.insert(connection) {
            return;
        }
        self.executor.metrics.connections.inc();
        let first = match identity {
            Some(identity) => {
                self.admit(connection, identity);
                Some(Notice::Connected)
            }
            None => {
                self.await_token(connection);
                None
            }
        };
        if let Pushed::Start = connection.open_mailbox(first) {
            self.start(connection.clone());
        }
    }

    /// Takes the end of a connection.
    pub fn close(self: &Arc<Self>, connection: &Arc<Connection>, reason: &str) {
        if let Pushed::Start = connection.end_mailbox(reason.into()) {
            self.start(connection.clone());
        }
    }

    /// Handles a backend's event and returns the plugins' answer.
    ///
    /// # Errors
    /// The plugins' failure, or the host's: `RATE_LIMITED` when too many wait for the same key,
    /// `NOT_FOUND` for a plugin that is not loaded, `UNKNOWN_EVENT`, `UNAVAILABLE` while stopping.
    pub async fn server_event(self: &Arc<Self>, event: ServerEvent) -> Outcome {
        if self.stopping.is_cancelled() {
            return Err(is_stopping());
        }
        self.taken_server_event(event).await
    }

    /// The same for an event that was taken before the host began to stop.
    ///
    /// # Errors
    /// Those of [`Self::server_event`].
    pub async fn taken_server_event(self: &Arc<Self>, event: ServerEvent) -> Outcome {
        let pipeline = self.clone();
        let handled = self.tasks.spawn_on(
            async move {
                let _turn = match &event.key {
                    Some(key) => Some(pipeline.turns.wait(key).await.map_err(|_| {
                        Failure::new(Code::RateLimited, "too many events wait for this key")
                    })?),
                    None => None,
                };
                let source = event.source;
                let at_ms = now_ms();
                let handled = Arc::new(Event {
                    id: fresh_id(at_ms),
                    at_ms,
                    namespace: Namespace::root(),
                    peer: None,
                    trigger: Trigger::Server {
                        name: event.name,
                        args: event.args,
                        source,
                    },
                    attachments: Vec::new(),
                    wants_ack: true,
                    depth: 0,
                });
                let (outcome, effects) = pipeline.handle(&handled, event.plugin.as_ref()).await;
                pipeline.deliver(effects, None, 1);
                outcome
            },
            &self.runtime,
        );
        handled.await.unwrap_or_else(|_| Err(is_stopping()))
    }

    /// Does what a backend wants done without a plugin.
    pub fn act(self: &Arc<Self>, namespace: &Namespace, steps: Vec<Step>) {
        let by = By {
            namespace,
            plugin: &PluginName::unnamed(),
            depth: 0,
            owed: None,
        };
        let effects = self.executor.execute(steps, by);
        self.deliver(effects.caused, None, 1);
    }

    // ---- one connection's mailbox ---------------------------------------------------------------

    fn start(self: &Arc<Self>, connection: Arc<Connection>) {
        let pipeline = self.clone();
        // In a box, since the runtime would move all of it several times.
        let work = Box::pin(async move { pipeline.work(&connection).await });
        self.tasks.spawn_on(work, &self.runtime);
    }

    async fn work(self: &Arc<Self>, connection: &Arc<Connection>) {
        let mut handled: u32 = 0;
        while let Some(item) = connection.next_item() {
            let handling = AssertUnwindSafe(self.handle_item(connection, item)).catch_unwind();
            if handling.await.is_err() {
                // A defect of the host's own. The event was answered when what was owed was dropped.
                tracing::error!(connection = %connection.id, "handling an event panicked");
            }
            handled = handled.wrapping_add(1);
            if handled.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn handle_item(self: &Arc<Self>, connection: &Arc<Connection>, item: Item) {
        // What is not a message is in boxes: with it, the future of every message would be twice as large,
        // and is moved.
        match item {
            Item::Message(message) => self.handle_message(connection, message).await,
            Item::Notice {
                notice,
                attachments,
                depth,
            } => {
                let notices = [(notice, attachments)];
                Box::pin(self.handle_notices(connection, notices, depth)).await;
            }
            Item::End { reason } => Box::pin(self.handle_end(connection, reason)).await,
        }
    }

    async fn handle_message(self: &Arc<Self>, connection: &Arc<Connection>, message: Message) {
        if connection.is_deaf() {
            return;
        }
        if message.name.as_str() == AUTH_EVENT {
            if Box::pin(self.authenticate(connection, message)).await {
                let connected = [(Notice::Connected, Vec::new())];
                Box::pin(self.handle_notices(connection, connected, 0)).await;
            }
            return;
        }
        let name = message.name.clone();
        let owed = OwedAnswer::new(&self.executor, connection, name.as_str(), message.ack);
        let Some(identity) = connection.identity() else {
            owed.answer(Err(Failure::new(
                Code::NotAuthenticated,
                "send `auth` with a token first",
            )));
            return;
        };
        if EventName::is_reserved(name.as_str()) {
            owed.answer(Err(Failure::new(
                Code::InvalidPayload,
                format!("the event name `{}` is reserved", message.name),
            )));
            return;
        }
        let is_passive = self.executor.presence.is_passive(message.name.as_str());
        let event = Arc::new(Event {
            id: fresh_id(message.at_ms),
            at_ms: message.at_ms,
            namespace: connection.namespace.clone(),
            peer: Some(Peer {
                connection: connection.id,
                identity,
            }),
            trigger: Trigger::Message {
                name: message.name,
                args: message.args,
            },
            attachments: message.attachments,
            wants_ack: owed.wants_ack(),
            depth: 0,
        });
        connection.activity.begin();
        let (outcome, effects) = self.handle(&event, None).await;
        owed.answer(outcome);
        if !is_passive && connection.activity.handled() {
            let presence = &self.executor.presence;
            presence.touch(connection.id, Instant::now());
        }
        let own = self.deliver(effects, Some(connection), 1);
        if !own.is_empty() {
            Box::pin(self.handle_notices(connection, own, 1)).await;
        }
    }

    /// Hands notices to the plugins, and what follows from each of them right after it.
    async fn handle_notices(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        notices: impl IntoIterator<Item = (Notice, Vec<bytes::Bytes>)>,
        depth: u8,
    ) {
        let Some(identity) = connection.identity() else {
            return;
        };
        let peer = Peer {
            connection: connection.id,
            identity,
        };
        let namespace = &connection.namespace;
        self.handle_notices_of(Some(peer), namespace, Some(connection), notices, depth)
            .await;
    }

    /// The same for a connection that need not be there any more, or for what is no connection's.
    async fn handle_notices_of(
        self: &Arc<Self>,
        peer: Option<Peer>,
        namespace: &Namespace,
        own: Option<&Arc<Connection>>,
        notices: impl IntoIterator<Item = (Notice, Vec<bytes::Bytes>)>,
        depth: u8,
    ) {
        let mut queue: VecDeque<_> = notices
            .into_iter()
            .map(|(notice, attachments)| (notice, attachments, depth))
            .collect();
        while let Some((notice, attachments, depth)) = queue.pop_front() {
            if depth > self.depth {
                tracing::error!(
                    connection = peer.as_ref().map(|peer| display(peer.connection)),
                    notice = notice.name(),
                    depth,
                    "plugins cause events of each other without end; this one is dropped"
                );
                continue;
            }
            let at_ms = now_ms();
            let event = Arc::new(Event {
                id: fresh_id(at_ms),
                at_ms,
                namespace: namespace.clone(),
                peer: peer.clone(),
                trigger: Trigger::Notice(notice),
                attachments,
                wants_ack: false,
                depth,
            });
            let (_, effects) = self.handle(&event, None).await;
            let caused = self.deliver(effects, own, depth + 1);
            queue.extend(
                caused
                    .into_iter()
                    .map(|(notice, attachments)| (notice, attachments, depth + 1)),
            );
        }
    }

    /// Puts what was caused into the mailboxes of its connections; returns what concerns `own`.
    fn deliver(
        self: &Arc<Self>,
        caused: Vec<Caused>,
        own: Option<&Arc<Connection>>,
        depth: u8,
    ) -> Vec<(Notice, Vec<bytes::Bytes>)> {
        let mut mine = Vec::new();
        for Caused { connection, notice } in caused {
            if own.is_some_and(|own| own.id == connection.id) {
                mine.push((notice, Vec::new()));
            } else if let Pushed::Start = connection.push_notice(notice, Vec::new(), depth) {
                self.start(connection);
            }
        }
        mine
    }

    /// Tells plugins of something that the host has observed of a connection.
    pub(super) fn notify(self: &Arc<Self>, connection: Arc<Connection>, notice: Notice) {
        let caused = Caused { connection, notice };
        self.deliver(vec![caused], None, 0);
    }

    /// Waits for acknowledgements that clients were asked for; each becomes a notice.
    fn ask(self: &Arc<Self>, pending: Vec<execute::PendingAck>, plugin: &PluginName, depth: u8) {
        for execute::PendingAck {
            connection,
            token,
            answer,
        } in pending
        {
            let Some(number) = connection.ask(token, plugin.as_str().into(), depth + 1) else {
                continue;
            };
            let pipeline = self.clone();
            self.tasks.spawn_on(
                async move {
                    let Some(answer) = pipeline.unless_stopping(answer).await else {
                        return;
                    };
                    let settled = match answer {
                        // Left to the connection's end, which is on its way and settles it in order.
                        Err("disconnected") => return,
                        // It was not even sent. The connection's end settles it, like all others.
                        Err("full") => return pipeline.executor.close_slow(&connection),
                        Ok((args, attachments)) => connection.settle(number, Ok(args), attachments),
                        Err(why) => connection.settle(number, Err(why), Vec::new()),
                    };
                    if let Pushed::Start = settled {
                        pipeline.start(connection);
                    }
                },
                &self.runtime,
            );
        }
    }

    /// Returns what a future gives, none when the host stops first.
    pub async fn unless_stopping<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.stopping.run_until_cancelled(future).await
    }
}

/// An event was refused, and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal;

fn is_stopping() -> Failure {
    Failure::new(Code::Unavailable, "the host is stopping")
}

fn too_many(why: &str, retry_after_ms: u64) -> Failure {
    Failure::new(Code::RateLimited, why).with_details(json!({ "retryAfterMs": retry_after_ms }))
}

fn in_namespace(event: &Arc<Event>, namespace: &Namespace) -> Arc<Event> {
    if event.namespace == *namespace {
        return event.clone();
    }
    let mut event = Event::clone(event);
    event.namespace = namespace.clone();
    Arc::new(event)
}

fn unknown(event: &Event, missing: Option<&PluginName>) -> Failure {
    match missing {
        Some(plugin) => Failure::new(Code::NotFound, format!("no plugin `{plugin}` is loaded")),
        None => {
            let name = event.trigger.name();
            Failure::new(
                Code::UnknownEvent,
                format!("nobody takes the event `{name}`"),
            )
        }
    }
}

/// Returns the time, in milliseconds since 1970 UTC.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
