//! The way out: messages are published one after the other, in the order in which they were given.
//! While Redis is away they wait, as far as there is room, and not for long.

use super::{complaints::SharedComplaints, packets::Outgoing};
use crate::{
    link::{Link, is_passing, listener::Health, slot_of},
    metrics::{Of, count},
};
use futures_util::future::join_all;
use prometheus_client::metrics::{counter::Counter, family::Family};
use redis::{RedisError, cluster_routing::Slot};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};

/// Messages that go out in one trip, and about how many bytes of them: Redis has to take them before the
/// time for its answer is over.
const AT_ONCE: usize = 512;
const BYTES_AT_ONCE: usize = 1_000_000;

/// How often a message may go out without it being known whether it was published: Redis may only be
/// slow, and then all of them are heard.
const DOUBTS: u8 = 2;

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
    outgoing: Outgoing,
    until: Instant,
    /// How often Redis has not answered it in time.
    doubts: u8,
}

/// The ways out.
#[derive(Clone)]
pub(super) struct Ways {
    /// One connection, since that keeps the order.
    pub(super) one: Link,
    /// To the owners of slots, for sharded channels of a Redis Cluster. There the order is kept in each
    /// slot, and so in each channel.
    pub(super) shards: Option<Link>,
}

impl Message {
    fn size(&self) -> usize {
        // A constant for the message itself, so that empty ones do not wait for free.
        self.outgoing.channel.len() + self.outgoing.bytes.len() + 128
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
        ways: Ways,
        health: watch::Receiver<Health>,
        most: usize,
        counters: Counters,
    ) -> Self {
        let (messages, given) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Counted {
            waiting: waiting.clone(),
            counters: counters.clone(),
            complaints: SharedComplaints::new("publishing"),
        };
        tokio::spawn(publish(ways, health, given, counted));
        Self {
            messages,
            waiting,
            most,
            counters,
        }
    }

    /// Gives a message to be published. Never waits.
    pub(super) fn give(&self, outgoing: Outgoing, volatile: bool) {
        let fresh = if volatile { FRESH_VOLATILE } else { FRESH };
        let message = Message {
            outgoing,
            until: Instant::now() + fresh,
            doubts: 0,
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
    complaints: SharedComplaints,
}

impl Counted {
    fn done(&self, messages: &[Message]) {
        let sizes = messages.iter().map(Message::size).sum();
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

    /// Takes away what has gone out too often without an answer; returns the rest.
    fn drop_doubtful(&self, mut messages: Vec<Message>) -> Vec<Message> {
        messages.retain_mut(|message| {
            message.doubts += 1;
            let goes_on = message.doubts < DOUBTS;
            if !goes_on {
                self.waiting.fetch_sub(message.size(), Ordering::AcqRel);
                count(&self.counters.lost, "uncertain");
            }
            goes_on
        });
        messages
    }
}

/// Puts into a batch what is there, as far as it goes out at once and no flush is asked for.
fn fill(
    batch: &mut VecDeque<Message>,
    flushes: &mut Vec<oneshot::Sender<()>>,
    given: &mut mpsc::UnboundedReceiver<Given>,
) {
    let mut bytes: usize = batch.iter().map(Message::size).sum();
    while batch.len() < AT_ONCE
        && bytes < BYTES_AT_ONCE
        && flushes.is_empty()
        && let Ok(next) = given.try_recv()
    {
        match next {
            Given::Message(next) => {
                bytes += next.size();
                batch.push_back(next);
            }
            Given::Flush(flushed) => flushes.push(flushed),
        }
    }
}

async fn publish(
    ways: Ways,
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
        fill(&mut batch, &mut flushes, &mut given);
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
        let all_out = match listening {
            true => publish_all(&ways, &mut batch, &counted).await,
            false => false,
        };
        if !all_out {
            // At the start there was nothing to lose.
            lost |= was_lost;
            tokio::time::sleep(if was_lost { PAUSE } else { START }).await;
        }
    }
}

/// Publishes what can be; returns whether that is all. The rest stays.
async fn publish_all(ways: &Ways, batch: &mut VecDeque<Message>, counted: &Counted) -> bool {
    let mut groups: HashMap<Option<Slot>, Vec<Message>> = HashMap::new();
    for message in batch.drain(..) {
        let by_slot = message.outgoing.sharded && ways.shards.is_some();
        let slot = by_slot.then(|| slot_of(&message.outgoing.channel));
        groups.entry(slot).or_default().push(message);
    }
    let published = groups.into_iter().map(|(slot, messages)| async move {
        let way = slot.and(ways.shards.as_ref()).unwrap_or(&ways.one);
        (publish_some(way, &messages).await, messages)
    });
    for (published, messages) in join_all(published).await {
        match published {
            Ok(()) => {
                counted.counters.published.inc_by(messages.len() as u64);
            }
            Err(NotPublished::Answer(error)) if error.is_timeout() => {
                batch.extend(counted.drop_doubtful(messages));
                continue;
            }
            Err(NotPublished::Way) => {
                batch.extend(messages);
                continue;
            }
            Err(NotPublished::Answer(error)) if is_passing(&error) => {
                batch.extend(messages);
                continue;
            }
            // What Redis refuses it would refuse again, and what it took of it would go out again.
            Err(NotPublished::Answer(error)) => {
                counted
                    .complaints
                    .complain("Redis refuses what is to be published", error.to_string());
                for _ in &messages {
                    count(&counted.counters.lost, "refused");
                }
            }
        }
        counted.done(&messages);
    }
    batch.is_empty()
}

/// Why messages were not published, as far as is known.
enum NotPublished {
    /// There was no connection: nothing has gone out.
    Way,
    /// What Redis answers, or that it does not.
    Answer(RedisError),
}

async fn publish_some(link: &Link, messages: &[Message]) -> Result<(), NotPublished> {
    if let Err(error) = link.ready().await {
        return Err(match is_passing(&error) {
            true => NotPublished::Way,
            false => NotPublished::Answer(error),
        });
    }
    let mut pipeline = redis::Pipeline::with_capacity(messages.len());
    for Message { outgoing, .. } in messages {
        let name = if outgoing.sharded {
            "SPUBLISH"
        } else {
            "PUBLISH"
        };
        let command = pipeline.cmd(name);
        command.arg(&outgoing.channel).arg(&outgoing.bytes).ignore();
    }
    link.run_all(&pipeline).await.map_err(NotPublished::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        Message {
            outgoing: Outgoing {
                channel: String::new(),
                bytes: vec![0; bytes],
                sharded: false,
            },
            until: Instant::now() + FRESH,
            doubts: 0,
        }
    }

    #[test]
    fn what_goes_out_at_once_is_bounded_by_bytes_too() {
        let (messages, mut given) = mpsc::unbounded_channel();
        for bytes in [400_000; 7].into_iter().chain([1; 600]) {
            messages.send(Given::Message(message(bytes))).ok();
        }
        let (mut batch, mut flushes) = (VecDeque::new(), Vec::new());
        for expected in [3, 3, AT_ONCE] {
            fill(&mut batch, &mut flushes, &mut given);
            assert_eq!(batch.len(), expected);
            // What is there already counts.
            fill(&mut batch, &mut flushes, &mut given);
            assert_eq!(batch.len(), expected);
            batch.clear();
        }
    }

    #[test]
    fn what_redis_has_not_answered_goes_out_once_more_and_is_lost_then() {
        let all = vec![message(1), message(2)];
        let size = all.iter().map(Message::size).sum();
        let counted = Counted {
            waiting: Arc::new(AtomicUsize::new(size)),
            counters: Counters {
                published: Counter::default(),
                lost: Family::default(),
            },
            complaints: SharedComplaints::new("publishing"),
        };
        let all = counted.drop_doubtful(all);
        assert_eq!(all.len(), 2);
        assert_eq!(counted.waiting.load(Ordering::Acquire), size);
        let later = message(3);
        counted.waiting.fetch_add(later.size(), Ordering::AcqRel);
        let left = counted.drop_doubtful(all.into_iter().chain([later]).collect());
        let left: Vec<usize> = left.iter().map(|left| left.outgoing.bytes.len()).collect();
        assert_eq!(left, [3]);
        assert_eq!(
            counted.waiting.load(Ordering::Acquire),
            message(3).size(),
            "room is given back"
        );
    }
}
