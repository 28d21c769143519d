//! The way out: messages are published one after the other, in the order in which they were given.
//! While Redis is away they wait, as far as there is room, and not for long.

use crate::{
    link::{Link, is_uncertain, listener::Health},
    metrics::{Of, count},
};
use prometheus_client::metrics::{counter::Counter, family::Family};
use redis::RedisError;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};

/// Messages that go out in one trip.
const AT_ONCE: usize = 512;

/// How long a message may wait, and one that may be lost. What is older would be heard out of time.
const FRESH: Duration = Duration::from_secs(10);
const FRESH_VOLATILE: Duration = Duration::from_millis(500);

/// The pause before what could not be published is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// The same at the start, while this node does not listen yet.
const START: Duration = Duration::from_millis(5);

/// How long after this node others are given to listen again.
const OTHERS: Duration = Duration::from_millis(500);

enum Given {
    Message(Message),
    /// Answered when all before it is published, or given up.
    Flush(oneshot::Sender<()>),
}

struct Message {
    channel: String,
    bytes: Vec<u8>,
    until: Instant,
}

impl Message {
    fn size(&self) -> usize {
        // A constant for the message itself, so that empty ones do not wait for free.
        self.channel.len() + self.bytes.len() + 128
    }
}

/// Where it is counted what became of messages.
#[derive(Clone)]
pub(super) struct Counters {
    pub(super) published: Counter,
    /// Those that were not, by reason.
    pub(super) lost: Family<Of, Counter>,
}

/// See the module's page.
pub(super) struct Publisher {
    messages: mpsc::UnboundedSender<Given>,
    waiting: Arc<AtomicUsize>,
    most: usize,
    counters: Counters,
}

impl Publisher {
    /// Starts one; what it was not able to publish is published when it can.
    pub(super) fn start(
        link: Link,
        health: watch::Receiver<Health>,
        most: usize,
        counters: Counters,
    ) -> Self {
        let (messages, given) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Counted {
            waiting: waiting.clone(),
            counters: counters.clone(),
        };
        tokio::spawn(publish(link, health, given, counted));
        Self {
            messages,
            waiting,
            most,
            counters,
        }
    }

    /// Gives a message to be published. Never waits.
    pub(super) fn give(&self, channel: String, bytes: Vec<u8>, volatile: bool) {
        let fresh = if volatile { FRESH_VOLATILE } else { FRESH };
        let message = Message {
            channel,
            bytes,
            until: Instant::now() + fresh,
        };
        let size = message.size();
        if self.waiting.fetch_add(size, Ordering::AcqRel) + size > self.most {
            self.waiting.fetch_sub(size, Ordering::AcqRel);
            count(&self.counters.lost, "full");
            return;
        }
        // Only when the runtime ends is nobody there.
        self.messages.send(Given::Message(message)).ok();
    }
}

impl Publisher {
    /// Tells whether there is room for what can wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < self.most / 2
    }

    /// Returns when nothing waits any more.
    pub(super) async fn flush(&self) {
        let (flushed, answered) = oneshot::channel();
        if self.messages.send(Given::Flush(flushed)).is_ok() {
            answered.await.ok();
        }
    }
}

struct Counted {
    waiting: Arc<AtomicUsize>,
    counters: Counters,
}

impl Counted {
    fn drop_all(&self, batch: &mut VecDeque<Message>) {
        let sizes = batch.drain(..).map(|message| message.size()).sum();
        self.waiting.fetch_sub(sizes, Ordering::AcqRel);
    }

    /// Takes away what has waited too long.
    fn drop_stale(&self, batch: &mut VecDeque<Message>) {
        let now = Instant::now();
        batch.retain(|message| {
            let is_fresh = message.until > now;
            if !is_fresh {
                self.waiting.fetch_sub(message.size(), Ordering::AcqRel);
                count(&self.counters.lost, "late");
            }
            is_fresh
        });
    }
}

async fn publish(
    link: Link,
    health: watch::Receiver<Health>,
    mut given: mpsc::UnboundedReceiver<Given>,
    counted: Counted,
) {
    let mut batch: VecDeque<Message> = VecDeque::new();
    let mut flushes: Vec<oneshot::Sender<()>> = Vec::new();
    let mut lost = false;
    loop {
        if batch.is_empty() {
            for flushed in flushes.drain(..) {
                flushed.send(()).ok();
            }
            match given.recv().await {
                Some(Given::Message(first)) => batch.push_back(first),
                Some(Given::Flush(flushed)) => flushes.push(flushed),
                None => return,
            }
        }
        while batch.len() < AT_ONCE
            && flushes.is_empty()
            && let Ok(next) = given.try_recv()
        {
            match next {
                Given::Message(next) => batch.push_back(next),
                Given::Flush(flushed) => flushes.push(flushed),
            }
        }
        counted.drop_stale(&mut batch);
        let (listening, was_lost) = match &*health.borrow() {
            Health::Starting => (false, false),
            Health::Listening => (true, true),
            Health::Lost(_) => (false, true),
        };
        if listening && lost {
            // The others come back at about the same time, and what is said before is not heard.
            lost = false;
            tokio::time::sleep(OTHERS).await;
            continue;
        }
        if batch.is_empty() {
            continue;
        }
        let published = match listening {
            true => publish_all(&link, &batch).await,
            false => Err(None),
        };
        match published {
            Ok(()) => {
                counted.counters.published.inc_by(batch.len() as u64);
                counted.drop_all(&mut batch);
            }
            // What Redis refuses it would refuse again, and what it took of the batch would go out again.
            Err(Some(error)) if !is_uncertain(&error) => {
                tracing::error!(%error, "Redis refuses what is to be published");
                for _ in &batch {
                    count(&counted.counters.lost, "refused");
                }
                counted.drop_all(&mut batch);
            }
            Err(_) => {
                // At the start there was nothing to lose.
                lost |= was_lost;
                tokio::time::sleep(if was_lost { PAUSE } else { START }).await;
            }
        }
    }
}

async fn publish_all(link: &Link, batch: &VecDeque<Message>) -> Result<(), Option<RedisError>> {
    let mut pipeline = redis::Pipeline::with_capacity(batch.len());
    for message in batch {
        pipeline
            .cmd("PUBLISH")
            .arg(&message.channel)
            .arg(&message.bytes)
            .ignore();
    }
    link.run_all(&pipeline).await.map_err(Some)
}
