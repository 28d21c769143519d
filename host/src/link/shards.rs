//! Listening to sharded channels, each at the server that owns its slot; without a cluster that is the one
//! server. What is listened to changes as one goes.

use super::{
    config::RedisConfig,
    listener::{Health, PING, Pauses, hear},
    reach::{Place, client_of, connect, lost, moved, reach, speak_newer, times, within},
};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use redis::{
    Cmd, Pipeline, PushInfo, PushKind, RedisError, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection, SendError},
    cluster_routing::Slot,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
};
use tokio::sync::{Notify, mpsc, watch};

/// Changes that are carried out in one trip.
const AT_ONCE: usize = 500;

/// What takes messages: their channel, and their bytes.
pub type Heard = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

/// What is to be listened to.
#[derive(Debug, Clone)]
pub struct Wanted {
    state: Arc<Mutex<State>>,
    /// Up to which change all is as wanted; none while nothing is heard.
    settled: watch::Receiver<Option<u64>>,
}

#[derive(Debug)]
struct State {
    channels: BTreeSet<String>,
    /// How often something was changed, and how often until something was added last.
    number: u64,
    added: u64,
    told: mpsc::UnboundedSender<Change>,
}

#[derive(Debug)]
struct Change {
    channel: String,
    wanted: bool,
    number: u64,
}

/// What listening takes.
#[derive(Debug)]
pub struct Orders {
    state: Arc<Mutex<State>>,
    changes: mpsc::UnboundedReceiver<Change>,
    settled: watch::Sender<Option<u64>>,
}

impl Wanted {
    /// Returns what to say it by, and what to listen with.
    #[must_use]
    pub fn new() -> (Self, Orders) {
        let (told, changes) = mpsc::unbounded_channel();
        let (settled, is_settled) = watch::channel(None);
        let state = Arc::new(Mutex::new(State {
            channels: BTreeSet::new(),
            number: 0,
            added: 0,
            told,
        }));
        let wanted = Self {
            state: state.clone(),
            settled: is_settled,
        };
        let orders = Orders {
            state,
            changes,
            settled,
        };
        (wanted, orders)
    }

    /// Wants a channel. Never waits.
    pub fn add(&self, channel: String) {
        let mut state = self.state.lock();
        if state.channels.insert(channel.clone()) {
            state.tell(channel, true);
            state.added = state.number;
        }
    }

    /// Wants it no more.
    pub fn remove(&self, channel: String) {
        let mut state = self.state.lock();
        if state.channels.remove(&channel) {
            state.tell(channel, false);
        }
    }

    /// Tells whether a channel is wanted.
    #[must_use]
    pub fn has(&self, channel: &str) -> bool {
        self.state.lock().channels.contains(channel)
    }

    /// Returns what ends once all is heard that is wanted now, or nothing is; none where that is so already.
    #[must_use]
    pub fn settled(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let added = self.state.lock().added;
        let is_settled = move |settled: &Option<u64>| settled.is_none_or(|number| number >= added);
        if is_settled(&self.settled.borrow()) {
            return None;
        }
        let mut settled = self.settled.clone();
        Some(async move {
            settled.wait_for(is_settled).await.ok();
        })
    }
}

impl Orders {
    /// Nothing is heard any more. What was to be changed is forgotten, so that it does not pile up: who
    /// listens again begins with all that is wanted then.
    fn lose(&mut self) {
        self.settled.send_replace(None);
        while self.changes.try_recv().is_ok() {}
    }
}

impl State {
    fn tell(&mut self, channel: String, wanted: bool) {
        self.number += 1;
        let number = self.number;
        // Only when the runtime ends is nobody there.
        self.told
            .send(Change {
                channel,
                wanted,
                number,
            })
            .ok();
    }
}

/// Listens for as long as somebody watches its health. What is published while a connection is away is
/// not heard.
pub async fn listen(
    config: RedisConfig,
    mut orders: Orders,
    health: watch::Sender<Health>,
    heard: Heard,
) {
    let mut pauses = Pauses::default();
    loop {
        let ended = tokio::select! {
            ended = session(&config, &mut orders, &health, &heard) => ended,
            () = health.closed() => return,
        };
        pauses.after(&health, &ended).await;
    }
}

/// Connects, and listens until a connection is lost; returns why.
async fn session(
    config: &RedisConfig,
    orders: &mut Orders,
    health: &watch::Sender<Health>,
    heard: &Heard,
) -> RedisError {
    let Err(ended) = follow(config, orders, health, heard).await;
    orders.lose();
    ended
}

async fn follow(
    config: &RedisConfig,
    orders: &mut Orders,
    health: &watch::Sender<Health>,
    heard: &Heard,
) -> RedisResult<Infallible> {
    let leaving = Arc::new(Leaving::default());
    let mut servers = within(config.timeout, Servers::connect(config, heard, &leaving)).await?;
    let (all, number) = {
        // What changed before is in the whole.
        let state = orders.state.lock();
        while orders.changes.try_recv().is_ok() {}
        (state.channels.clone(), state.number)
    };
    let all: Vec<_> = all.into_iter().map(|channel| (channel, true)).collect();
    for some in all.chunks(AT_ONCE) {
        servers.change(some, &leaving).await?;
    }
    orders.settled.send_replace(Some(number));
    health.send_replace(Health::Listening);
    let place = servers.place.clone();
    let moved = moved(config, &place);
    let mut ping = tokio::time::interval(PING);
    tokio::pin!(moved);
    loop {
        tokio::select! {
            Some(first) = orders.changes.recv() => {
                let mut number = first.number;
                let mut changes = vec![(first.channel, first.wanted)];
                while changes.len() < AT_ONCE && let Ok(next) = orders.changes.try_recv() {
                    number = next.number;
                    changes.push((next.channel, next.wanted));
                }
                servers.change(&changes, &leaving).await?;
                orders.settled.send_replace(Some(number));
            }
            // An idle connection that is lost would be found out by nobody else.
            _ = ping.tick() => servers.ping().await?,
            () = leaving.lost.notified() => return Err(lost("a connection was closed, or a slot has moved")),
            () = &mut moved => return Err(lost("another server is the master now")),
        }
    }
}

/// Which channels this side takes leave of. If it is the server that does, they are elsewhere now.
#[derive(Default)]
struct Leaving {
    channels: Mutex<HashMap<Vec<u8>, u32>>,
    lost: Notify,
}

impl Leaving {
    /// Takes what the server says unasked, or to a subscription.
    fn take(&self, push: &PushInfo, heard: &Heard) {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::SMessage, [Value::BulkString(channel), Value::BulkString(bytes)]) => {
                if let Ok(channel) = std::str::from_utf8(channel) {
                    hear(channel, || heard(channel, bytes));
                }
            }
            (PushKind::SUnsubscribe, [Value::BulkString(channel), ..]) => {
                let mut channels = self.channels.lock();
                match channels.get_mut(channel) {
                    Some(1) => drop(channels.remove(channel)),
                    Some(times) => *times -= 1,
                    None => self.lost.notify_one(),
                }
            }
            (PushKind::Disconnection, _) => self.lost.notify_one(),
            _ => {}
        }
    }
}

/// The servers that own slots, and which own which.
struct Servers {
    connections: Vec<MultiplexedConnection>,
    /// None where one owns all.
    slots: Option<HashMap<Slot, usize>>,
    /// Where the one is, or the one that told of the others.
    place: Place,
}

impl Servers {
    async fn connect(
        config: &RedisConfig,
        heard: &Heard,
        leaving: &Arc<Leaving>,
    ) -> RedisResult<Self> {
        let times = || {
            let (heard, leaving) = (heard.clone(), leaving.clone());
            times(config).set_push_sender(move |push: PushInfo| {
                leaving.take(&push, &heard);
                Ok::<(), SendError>(())
            })
        };
        if !config.cluster {
            let (connection, place) = reach(config, |client| speak_newer(client, times())).await?;
            return Ok(Self {
                connections: vec![connection],
                slots: None,
                place,
            });
        }
        let (mut node, place) = connect(config).await?;
        let mut ask = redis::cmd("CLUSTER");
        let owners = owners(node.req_packed_command(ask.arg("SLOTS")).await?, &place.0);
        let connections = owners.keys().map(|owner| async {
            let client = client_of(config, owner).await?;
            speak_newer(client, times()).await
        });
        let connections = try_join_all(connections).await?;
        let slots = owners
            .into_values()
            .enumerate()
            .flat_map(|(number, ranges)| {
                let slots = ranges.into_iter().flatten().filter_map(Slot::new);
                slots.map(move |slot| (slot, number))
            });
        let slots = slots.collect();
        Ok(Self {
            connections,
            slots: Some(slots),
            place,
        })
    }

    /// Listens to channels, or not any more, in the order that is given.
    async fn change(&mut self, changes: &[(String, bool)], leaving: &Leaving) -> RedisResult<()> {
        let mut pipelines: HashMap<usize, Pipeline> = HashMap::new();
        for (channel, wanted) in changes {
            let owner = match &self.slots {
                None => Some(&0),
                Some(slots) => slots.get(&Slot::for_key(channel)),
            };
            let owner = owner.ok_or_else(|| lost("a slot of the cluster has no owner"))?;
            let name = if *wanted {
                "SSUBSCRIBE"
            } else {
                "SUNSUBSCRIBE"
            };
            if !wanted {
                let mut channels = leaving.channels.lock();
                *channels.entry(channel.clone().into_bytes()).or_default() += 1;
            }
            // One each: those of a cluster's command have to be of one slot.
            let pipeline = pipelines.entry(*owner).or_default();
            pipeline.cmd(name).arg(channel);
        }
        for (owner, pipeline) in pipelines {
            if let Some(connection) = self.connections.get_mut(owner) {
                pipeline.query_async::<Value>(connection).await?;
            }
        }
        Ok(())
    }

    async fn ping(&mut self) -> RedisResult<()> {
        let ping: Cmd = redis::cmd("PING");
        for connection in &mut self.connections {
            connection.req_packed_command(&ping).await?;
        }
        Ok(())
    }
}

type Ranges = Vec<std::ops::RangeInclusive<u16>>;

/// Reads what a node says of slots: ranges, each with its master first. A node without a name is the one
/// that was asked.
fn owners(answer: Value, asked: &str) -> BTreeMap<Place, Ranges> {
    let mut owners: BTreeMap<Place, Ranges> = BTreeMap::new();
    let Value::Array(ranges) = answer else {
        return owners;
    };
    for range in ranges {
        let Value::Array(range) = range else {
            continue;
        };
        let [
            Value::Int(first),
            Value::Int(last),
            Value::Array(master),
            ..,
        ] = range.as_slice()
        else {
            continue;
        };
        let [host, Value::Int(port), ..] = master.as_slice() else {
            continue;
        };
        let host = match host {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::SimpleString(text) => text.clone(),
            _ => String::new(),
        };
        let host = match host.as_str() {
            "" | "?" => asked.to_owned(),
            _ => host,
        };
        if let (Ok(port), Ok(first), Ok(last)) = (
            u16::try_from(*port),
            u16::try_from(*first),
            u16::try_from(*last),
        ) {
            owners.entry((host, port)).or_default().push(first..=last);
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_wanted_is_settled_once_it_is_heard() {
        let (wanted, mut orders) = Wanted::new();
        assert!(
            wanted.settled().is_none(),
            "while nothing is heard nobody waits"
        );
        orders.settled.send_replace(Some(0));
        assert!(wanted.settled().is_none());
        wanted.add("one".to_owned());
        wanted.add("one".to_owned());
        let settled = wanted.settled().unwrap();
        wanted.remove("one".to_owned());
        wanted.remove("one".to_owned());
        let told = |orders: &mut Orders| {
            let change = orders.changes.try_recv().ok()?;
            Some((change.channel, change.wanted, change.number))
        };
        assert_eq!(told(&mut orders), Some(("one".to_owned(), true, 1)));
        assert_eq!(told(&mut orders), Some(("one".to_owned(), false, 2)));
        assert_eq!(told(&mut orders), None);
        orders.settled.send_replace(Some(1));
        settled.await;
        // What is not wanted any more is not waited for.
        assert!(wanted.settled().is_none());
        wanted.add("two".to_owned());
        let settled = wanted.settled().unwrap();
        orders.settled.send_replace(None);
        settled.await;
    }

    #[tokio::test]
    async fn what_changes_while_redis_is_away_does_not_pile_up() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let config = RedisConfig {
            port: Some(port),
            ..RedisConfig::default()
        };
        let (wanted, mut orders) = Wanted::new();
        let (health, _is_healthy) = watch::channel(Health::Starting);
        let heard: Heard = Arc::new(|_, _| {});
        for number in 0..100 {
            wanted.add(number.to_string());
        }
        wanted.remove("0".to_owned());
        session(&config, &mut orders, &health, &heard).await;
        assert!(orders.changes.is_empty());
        assert_eq!(orders.state.lock().channels.len(), 99);
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_is_found_out() {
        use std::{
            io::{BufRead, BufReader, Write},
            time::Duration,
        };
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = RedisConfig {
            port: Some(server.local_addr().unwrap().port()),
            timeout: Duration::from_millis(400),
            ..RedisConfig::default()
        };
        // It greets who connects, and reads on without a word.
        let serving = std::thread::spawn(move || {
            let (stream, _) = server.accept().unwrap();
            let mut answers = &stream;
            for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                let answer: &[u8] = match line.to_uppercase().as_str() {
                    "HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n",
                    "SETINFO" => b"+OK\r\n",
                    _ => continue,
                };
                answers.write_all(answer).unwrap();
            }
        });
        let (_wanted, mut orders) = Wanted::new();
        let (health, is_healthy) = watch::channel(Health::Starting);
        let heard: Heard = Arc::new(|_, _| {});
        let ended = session(&config, &mut orders, &health, &heard);
        tokio::time::timeout(Duration::from_secs(10), ended)
            .await
            .expect("nothing is wanted, so only asking finds it out");
        assert_eq!(*is_healthy.borrow(), Health::Listening, "it had begun");
        let served = tokio::task::spawn_blocking(|| serving.join());
        served.await.unwrap().expect("the connection to be closed");
    }

    #[test]
    fn slots_are_read_with_their_masters() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, master| {
            let replica = node(text("replica"), 9);
            Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
        };
        let answer = Value::Array(vec![
            range(0, 5, node(text("a"), 1)),
            range(6, 7, node(Value::Nil, 2)),
            range(8, 9, node(text("a"), 1)),
            Value::Nil,
        ]);
        let owners = owners(answer, "asked");
        assert_eq!(owners.len(), 2);
        assert_eq!(owners[&("a".to_owned(), 1)], [0..=5, 8..=9]);
        assert_eq!(owners[&("asked".to_owned(), 2)], [6..=7]);
    }
}
