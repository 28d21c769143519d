//! The task of one channel: it wants the lease, claims messages under it and hands them to the pipeline
//! in their order.
//!
//! A message is claimed before it is handled, never after: so it is handled once at most, whatever
//! happens to this host. What it had claimed and not handled when it dies is lost, [`UNDER_WAY`]
//! messages of a channel at most.

use super::{
    super::complaints::Complaints,
    config::ChannelConfig,
    lease::{Granted, Lease, TENURE, Wish},
    silence::Silence,
    waiting::{Message, Position, Waiting},
};
use crate::{
    core::{
        channel::ChannelName,
        code::Failure,
        names::EventName,
        payload::{INCOMING_DEPTH, args_of_one},
    },
    link::listener::Health,
    metrics::{self, Metrics, OfChannel},
    pipeline::{Pipeline, ServerEvent},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use rand::Rng;
use redis::RedisResult;
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// Messages of a channel that are claimed and not handled yet, and about how many bytes they have.
pub(super) const UNDER_WAY: usize = 16;
const UNDER_WAY_BYTES: usize = 4 << 20;
/// How often a tenure is prolonged, and others hear how far it is.
const BEAT: Duration = Duration::from_secs(2);
/// How long a mark is waited for.
const MARKED: Duration = Duration::from_secs(1);
/// The pause after Redis did not answer.
const PAUSE: Duration = Duration::from_millis(200);
/// How much later than others a host wants a lease for each that it has, so that they are spread.
const MODESTY: Duration = Duration::from_millis(10);
/// How long one that missed messages lets others go first.
const AFTER_CUT: Duration = Duration::from_millis(100);

/// What the task of a channel shares with the one that listens.
pub(super) struct Ear {
    pub(super) waiting: Mutex<Waiting>,
    /// Something was heard.
    pub(super) heard: Notify,
    /// The lease became free.
    pub(super) freed: Notify,
}

/// The messages of one key that wait for those before them.
type Queue = VecDeque<ServerEvent>;

/// A tenure of this host.
struct Tenure {
    name: String,
    next_beat: Instant,
    /// Whether it is given up: this host has missed messages, or stops.
    ends: bool,
}

/// See the module's page.
pub(super) struct Lane {
    ear: Arc<Ear>,
    channel: ChannelName,
    config: ChannelConfig,
    event: EventName,
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    health: watch::Receiver<Health>,
    lease: Arc<Lease>,
    /// Leases that this host has.
    held: Arc<AtomicU32>,
    /// Set once this host is placed, and knows whether it has the lease.
    settled: watch::Sender<bool>,
    complaints: Complaints,
    /// The mark that has to be heard before this host knows where it is, and since when it is waited for.
    marked: Option<(u64, Instant)>,
    /// How often messages were missed, and how often when Redis was asked last.
    cuts: u64,
    cuts_when_asked: u64,
    tenure: Option<Tenure>,
    /// The name that the next tenure will have.
    candidate: String,
    /// A claim whose answer was lost.
    unsure: Option<Position>,
    silence: Silence,
    /// When the lease is wanted again, until when others may have it first, and when Redis is asked
    /// again.
    want_at: Instant,
    yields_until: Instant,
    ask_at: Instant,
    queues: HashMap<String, Queue>,
    claimed: usize,
    running: FuturesUnordered<BoxFuture<'static, (String, Result<(), Failure>)>>,
}

/// What a lane is made of.
pub(super) struct Parts {
    pub(super) ear: Arc<Ear>,
    pub(super) channel: ChannelName,
    pub(super) config: ChannelConfig,
    pub(super) event: EventName,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) health: watch::Receiver<Health>,
    pub(super) lease: Lease,
    pub(super) held: Arc<AtomicU32>,
    pub(super) settled: watch::Sender<bool>,
}

impl Lane {
    pub(super) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            metrics: parts.pipeline.executor.metrics.clone(),
            complaints: Complaints::new(parts.channel.as_str()),
            ear: parts.ear,
            channel: parts.channel,
            config: parts.config,
            event: parts.event,
            pipeline: parts.pipeline,
            health: parts.health,
            lease: Arc::new(parts.lease),
            held: parts.held,
            settled: parts.settled,
            marked: None,
            cuts: 0,
            cuts_when_asked: 0,
            tenure: None,
            candidate: fresh_tenure(),
            unsure: None,
            silence: Silence::default(),
            want_at: now,
            yields_until: now,
            ask_at: now,
            queues: HashMap::new(),
            claimed: 0,
            running: FuturesUnordered::new(),
        }
    }

    /// Works until the host stops; what is claimed by then is handled, and the lease given back.
    pub(super) async fn work(mut self) {
        self.tell_held();
        let (ear, stopping) = (self.ear.clone(), self.pipeline.stopping.clone());
        let mut asking: Option<BoxFuture<'static, (Wish, RedisResult<Granted>)>> = None;
        loop {
            let now = Instant::now();
            self.look_after(now);
            if stopping.is_cancelled() && self.is_done() && asking.is_none() {
                self.complaints.say_all(now);
                return;
            }
            if asking.is_none()
                && let Some(wish) = self.next_wish(now)
            {
                self.cuts_when_asked = self.cuts;
                let lease = self.lease.clone();
                asking = Some(Box::pin(async move {
                    let answer = lease.ask(&wish).await;
                    (wish, answer)
                }));
            }
            let wake_at = self.wake_at(now);
            let answer = async {
                match asking.as_mut() {
                    Some(asking) => asking.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (wish, answer) = answer => {
                    asking = None;
                    self.answered(wish, answer);
                }
                Some((key, outcome)) = self.running.next(), if !self.running.is_empty() => {
                    self.handled(key, outcome);
                }
                Ok(()) = self.health.changed() => self.cut(),
                () = ear.freed.notified() => {
                    let modesty = MODESTY * self.held.load(Ordering::Relaxed);
                    // This host itself may be who gave it back.
                    self.want_at = (Instant::now() + modesty).max(self.yields_until);
                }
                () = ear.heard.notified() => {}
                () = stopping.cancelled(), if !stopping.is_cancelled() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
    }

    /// Tells whether nothing is left to be done by a host that stops.
    fn is_done(&self) -> bool {
        // What Redis does not hear of, or does not answer, ends by itself.
        let is_told = self.tenure.is_none() || !self.listens() || self.silence.is_vain();
        self.claimed == 0 && is_told
    }

    fn look_after(&mut self, now: Instant) {
        let dropped = self.ear.waiting.lock().dropped();
        if dropped > 0 {
            self.drop_messages(dropped);
        }
        self.complaints.say(now);
        if self.pipeline.stopping.is_cancelled()
            && let Some(tenure) = &mut self.tenure
        {
            tenure.ends = true;
        }
    }

    fn drop_messages(&mut self, count: u64) {
        self.count("dropped", count);
        let why =
            "too many wait: plugins do not handle them as fast as they come; or Redis has lost \
                   everything, and has an earlier clock"
                .to_owned();
        self.complaints
            .note("messages of a channel were dropped", count, why);
    }

    fn listens(&self) -> bool {
        *self.health.borrow() == Health::Listening
    }

    fn is_placed(&self) -> bool {
        let placed = |(mark, _)| self.ear.waiting.lock().is_placed(mark);
        self.marked.is_some_and(placed)
    }

    /// What was published since is missed; others may have heard it.
    fn cut(&mut self) {
        self.health.borrow_and_update();
        self.marked = None;
        self.silence.end();
        self.cuts += 1;
        if let Some(tenure) = &mut self.tenure {
            tenure.ends = true;
        }
    }

    /// Returns what Redis is to be asked next, if anything is.
    fn next_wish(&self, now: Instant) -> Option<Wish> {
        if now < self.ask_at {
            return None;
        }
        if self.listens() && self.silence.is_long(now) {
            // All else would prolong a tenure of which nothing comes; a new one may be among what was not
            // answered. Who goes on must not overtake what is under way here.
            let tenure = self.tenure.as_ref().map(|tenure| &tenure.name);
            let name = tenure.unwrap_or(&self.candidate).clone();
            return (self.claimed == 0).then_some(Wish::Leave(name));
        }
        if let Some(tenure) = &self.tenure {
            let name = || tenure.name.clone();
            if let Some(position) = self.unsure {
                return Some(Wish::Claim(name(), position));
            }
            // Before what is next: others keep all that they do not know to be claimed.
            if now >= tenure.next_beat {
                return Some(Wish::Beat(name()));
            }
            if tenure.ends {
                // Who goes on must not overtake what is under way here.
                if self.claimed == 0 {
                    return Some(Wish::Leave(name()));
                }
            } else {
                let room = UNDER_WAY.saturating_sub(self.claimed);
                if let Some(position) = self.ear.waiting.lock().next(room, UNDER_WAY_BYTES) {
                    return Some(Wish::Claim(name(), position));
                }
            }
        }
        if !self.listens() || self.pipeline.stopping.is_cancelled() {
            return None;
        }
        match self.marked {
            None => return Some(Wish::Mark),
            Some((_, since)) if now >= since + MARKED && !self.is_placed() => {
                return Some(Wish::Mark);
            }
            Some(_) => {}
        }
        let wants = self.tenure.is_none() && now >= self.want_at && self.is_placed();
        wants.then(|| Wish::Take(self.candidate.clone()))
    }

    /// Returns when it has to be looked again at the latest, if nothing happens before.
    fn wake_at(&self, now: Instant) -> Instant {
        let next = match &self.tenure {
            Some(tenure) => tenure.next_beat,
            None if now < self.want_at => self.want_at,
            None => now + PAUSE,
        };
        // While Redis is asked its answer is what is waited for. At least now and then something is to
        // be said.
        let (soonest, latest) = (now + PAUSE / 10, now + BEAT);
        next.max(self.ask_at).clamp(soonest, latest)
    }

    fn answered(&mut self, wish: Wish, answer: RedisResult<Granted>) {
        let now = Instant::now();
        let granted = match answer {
            Ok(granted) => {
                self.silence.end();
                granted
            }
            Err(error) => {
                self.silence.unanswered(now);
                let why = error.to_string();
                self.complaints
                    .note("Redis does not answer about a channel", 1, why);
                if let Wish::Claim(_, position) = wish {
                    self.unsure = Some(position);
                }
                self.ask_at = now + PAUSE;
                return;
            }
        };
        match (wish, granted) {
            // One that was set before the connection broke says nothing about what is heard since.
            (Wish::Mark, Granted::Marked(_)) if self.cuts_when_asked != self.cuts => {}
            (Wish::Mark, Granted::Marked(mark)) => self.marked = Some((mark, now)),
            (Wish::Take(name), Granted::Taken(claimed)) => self.begin(name, claimed, now),
            (Wish::Take(_), Granted::Not(left)) => {
                if left.is_zero() {
                    // Redis has forgotten all about the channel.
                    self.marked = None;
                }
                let jitter = rand::rng().random_range(Duration::ZERO..PAUSE);
                self.want_at = now + left.min(TENURE) + jitter;
                self.settled.send_replace(true);
            }
            (Wish::Claim(_, position), Granted::Done) => {
                self.unsure = None;
                let messages = self.ear.waiting.lock().take(position);
                self.claimed += messages.len();
                for message in messages {
                    self.hand_over(message);
                }
            }
            (Wish::Beat(_), Granted::Done) => {
                if let Some(tenure) = &mut self.tenure {
                    tenure.next_beat = now + BEAT;
                }
            }
            // A tenure whose beginning was not answered. The same may come once more, and must not end the next.
            (Wish::Leave(_), _) if self.tenure.is_none() => self.candidate = fresh_tenure(),
            (Wish::Leave(_), Granted::Done) => {
                tracing::info!(channel = %self.channel, "another host may handle the messages of a channel");
                self.yields_until = now + AFTER_CUT;
                self.end(self.yields_until);
            }
            (Wish::Claim(..) | Wish::Beat(_) | Wish::Leave(_), _) => {
                tracing::warn!(channel = %self.channel, "another host has taken over the messages of a channel");
                self.end(now);
            }
            (Wish::Mark | Wish::Take(_), _) => self.ask_at = now + PAUSE,
        }
    }

    fn begin(&mut self, name: String, claimed: Position, now: Instant) {
        let missing = self.ear.waiting.lock().hold(claimed);
        if missing > 0 {
            self.drop_messages(missing);
        }
        tracing::info!(channel = %self.channel, "this host handles the messages of a channel");
        self.tenure = Some(Tenure {
            name,
            next_beat: now + BEAT,
            // What was missed in the meantime others may have heard.
            ends: self.cuts_when_asked != self.cuts,
        });
        self.candidate = fresh_tenure();
        self.held.fetch_add(1, Ordering::Relaxed);
        self.settled.send_replace(true);
        self.tell_held();
    }

    fn end(&mut self, want_at: Instant) {
        self.ear.waiting.lock().release();
        self.unsure = None;
        self.want_at = want_at;
        if self.tenure.take().is_some() {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
        self.tell_held();
    }

    fn tell_held(&self) {
        let label = metrics::Channel {
            channel: self.channel.to_string().into(),
        };
        let held = i64::from(self.tenure.is_some());
        self.metrics.channel_held.get_or_create(&label).set(held);
    }

    fn count(&self, outcome: &str, count: u64) {
        let label = OfChannel {
            channel: self.channel.to_string().into(),
            outcome: outcome.to_owned().into(),
        };
        let counter = self.metrics.channel_messages.get_or_create(&label);
        counter.inc_by(count);
    }

    // ---- messages -------------------------------------------------------------------------------

    /// Puts a message behind those of its key that are under way.
    fn hand_over(&mut self, message: Message) {
        let (key, args) = match read(message, self.config.key.as_deref()) {
            Ok(read) => read,
            Err(why) => {
                self.claimed -= 1;
                self.count("malformed", 1);
                self.complaints
                    .note("messages of a channel cannot be understood", 1, why);
                return;
            }
        };
        let event = ServerEvent {
            plugin: self.config.plugin.clone(),
            name: self.event.clone(),
            args,
            key: None,
            source: "channel",
        };
        match self.queues.get_mut(&key) {
            Some(queue) => queue.push_back(event),
            None => {
                self.queues.insert(key.clone(), Queue::new());
                self.run(key, event);
            }
        }
    }

    fn run(&mut self, key: String, event: ServerEvent) {
        let pipeline = self.pipeline.clone();
        let running = async move {
            let outcome = pipeline.taken_server_event(event).await;
            (key, outcome.map(|_| ()))
        };
        self.running.push(running.boxed());
    }

    fn handled(&mut self, key: String, outcome: Result<(), Failure>) {
        self.claimed -= 1;
        match outcome {
            Ok(()) => self.count("ok", 1),
            Err(failure) => {
                self.count("failed", 1);
                let why = format!("{}: {}", failure.code, failure.message);
                self.complaints
                    .note("plugins failed on messages of a channel", 1, why);
            }
        }
        let next = self.queues.get_mut(&key).and_then(VecDeque::pop_front);
        match next {
            Some(event) => self.run(key, event),
            None => {
                self.queues.remove(&key);
            }
        }
    }
}

/// Returns the name of a tenure that nobody has had.
fn fresh_tenure() -> String {
    Uuid::now_v7().simple().to_string()
}

/// Returns the order that a message belongs to, and the arguments of its event.
fn read(message: Message, key: Option<&str>) -> Result<(String, String), String> {
    let body = message
        .body
        .map_err(|size| format!("{size} bytes are more than limits.server_event_bytes"))?;
    let text = String::from_utf8(body).map_err(|error| format!("not UTF-8: {error}"))?;
    let args = args_of_one(&text, INCOMING_DEPTH).map_err(|error| error.to_string())?;
    let order = key.and_then(|key| member(&text, key));
    Ok((order.unwrap_or_default(), args))
}

/// Returns a member of a JSON object, as it is written.
fn member(text: &str, name: &str) -> Option<String> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).ok()?;
    members.get(name).map(|value| value.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(body: Result<&[u8], usize>, key: Option<&str>) -> Result<(String, String), String> {
        let position = Position { mark: 1, index: 1 };
        let body = body.map(<[u8]>::to_vec);
        read(Message { position, body }, key)
    }

    #[test]
    fn a_message_is_one_argument_in_the_order_of_its_key() {
        let text = br#"{"room":"a","n":1,"e\u0078":[2]}"#;
        let args = format!("[{}]", std::str::from_utf8(text).unwrap());
        for (key, order) in [
            (None, ""),
            (Some("room"), r#""a""#),
            (Some("n"), "1"),
            (Some("ex"), "[2]"),
            (Some("other"), ""),
        ] {
            assert_eq!(reading(Ok(text), key), Ok((order.to_owned(), args.clone())));
        }
        for (text, key) in [("null", None), ("[1,2]", Some("room")), (r#""é""#, None)] {
            let args = format!("[{text}]");
            assert_eq!(reading(Ok(text.as_bytes()), key), Ok((String::new(), args)));
        }
    }

    #[test]
    fn what_is_no_message_says_why() {
        for (body, why) in [
            (Err(5_000_000), "5000000 bytes"),
            (Ok(&b"\xff\xfe"[..]), "not UTF-8"),
            (Ok(b""), "not valid JSON"),
            (Ok(b"1,2"), "not valid JSON"),
            (Ok(br#"{"a":{"_placeholder":true,"num":0}}"#), "placeholder"),
        ] {
            let error = reading(body, None).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
