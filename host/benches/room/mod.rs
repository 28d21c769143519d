//! The load of the benchmark `cluster`: clients of two servers, in a process of their own, which says
//! `ready` when they are there, goes on when it is told to, and then prints what it measured.

use crate::{
    load::{Socket, connect, quantile},
    setting,
};
use futures_util::{SinkExt, StreamExt};
use std::{
    io::BufRead,
    net::SocketAddr,
    time::{Duration, Instant},
};
use switchboard::{auth::TokenMinter, config::Config, core::secret::Secret};
use tokio_tungstenite::tungstenite::Message;

/// How long what was said may take to be heard by all.
const LATE: Duration = Duration::from_secs(60);

/// Connections that are made at once.
const AT_ONCE: usize = 50;

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 500 clients hear 20 messages a second; 100,000 deliveries in all.
    Room,
    /// One client says something now and then, another one of its own server hears it.
    Local,
    /// The same, and the other is on the other server.
    Across,
    /// 20 clients join and leave a room of ten, while 10,000 are on the first server.
    FewMembers,
    /// The same in a room that all 10,000 are in.
    ManyMembers,
}

impl Kind {
    /// Returns the one of a name.
    pub(crate) fn of(name: &str) -> Self {
        let all = [
            Self::Room,
            Self::Local,
            Self::Across,
            Self::FewMembers,
            Self::ManyMembers,
        ];
        all.into_iter()
            .find(|kind| format!("{kind:?}") == name)
            .expect("the name of a kind")
    }
}

/// Runs one measurement and prints its values, by spaces.
pub(crate) async fn run(kind: Kind, servers: [SocketAddr; 2]) {
    let load = Load {
        servers,
        begun: Instant::now(),
        minter: minter(),
    };
    match kind {
        Kind::Room => load.room([250, 250], 200, Duration::from_millis(50)).await,
        Kind::Local => load.room([1, 0], 300, Duration::from_millis(10)).await,
        Kind::Across => load.room([0, 1], 300, Duration::from_millis(10)).await,
        Kind::FewMembers => load.churn("few").await,
        Kind::ManyMembers => load.churn("many").await,
    }
}

fn minter() -> TokenMinter {
    let mut config = Config::default();
    config.auth.secret = Some(Secret::new(setting::SECRET.to_owned()));
    TokenMinter::from_config(&config.auth).unwrap()
}

/// For how long servers are left alone before they are measured, with what so many connections have
/// left them to do.
const SETTLES: Duration = Duration::from_secs(3);

/// Says that all is prepared, and waits to be told to go on.
async fn ready() {
    tokio::time::sleep(SETTLES).await;
    println!("ready");
    let told = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)
    });
    told.await.unwrap().unwrap();
}

struct Load {
    servers: [SocketAddr; 2],
    begun: Instant,
    minter: TokenMinter,
}

impl Load {
    async fn client(&self, server: usize, user: String) -> Socket {
        connect(self.servers[server], &setting::auth(&self.minter, &user)).await
    }

    /// Connects clients that are in rooms, some at once.
    async fn members(
        &self,
        server: usize,
        count: usize,
        rooms: fn(usize) -> &'static [&'static str],
    ) -> Vec<Socket> {
        let numbers = futures_util::stream::iter(0..count);
        let clients = numbers.map(async |number| {
            let mut client = self.client(server, format!("{server}-{number}")).await;
            for room in rooms(number) {
                ask(&mut client, "load:join", room).await;
            }
            client
        });
        clients.buffer_unordered(AT_ONCE).collect().await
    }

    /// Messages to a room with so many clients on each server, said on both by turns; on the first
    /// where nobody else is there.
    async fn room(&self, clients: [usize; 2], messages: usize, pause: Duration) {
        let mut listeners = Vec::new();
        for (server, count) in clients.into_iter().enumerate() {
            listeners.extend(self.members(server, count, |_| &["room"]).await);
        }
        let mut senders = vec![self.client(0, "sender-0".to_owned()).await];
        if clients.iter().all(|count| *count > 0) {
            senders.push(self.client(1, "sender-1".to_owned()).await);
        }
        let begun = self.begun;
        let mut tasks = Vec::new();
        for client in listeners {
            tasks.push(tokio::spawn(hear(client, messages, begun)));
        }
        ready().await;
        let text = "x".repeat(150);
        let mut ticks = tokio::time::interval(pause);
        for number in 0..messages {
            ticks.tick().await;
            let at = begun.elapsed().as_micros();
            let said = format!(r#"{{"roomId":"room","at":{at},"text":"{text}"}}"#);
            let by = number % senders.len();
            let packet = Message::text(format!(r#"42["load:say",{said}]"#));
            senders[by].send(packet).await.unwrap();
        }
        let mut micros = Vec::new();
        for task in tasks {
            let heard = tokio::time::timeout(LATE, task).await;
            micros.extend(heard.expect("every message is heard in time").unwrap());
        }
        assert_eq!(micros.len(), messages * clients.iter().sum::<usize>());
        micros.sort_unstable();
        let parts = [0.5, 0.9, 0.99, 0.999, 1.0];
        let values = parts.map(|part| quantile(&micros, part).to_string());
        println!("{}", values.join(" "));
    }

    /// Joins and leaves of one room by 20 clients for three seconds; prints how many a second.
    async fn churn(&self, room: &'static str) {
        let rooms = |number: usize| -> &'static [&'static str] {
            match number < 10 {
                true => &["many", "few"],
                false => &["many"],
            }
        };
        for client in self.members(0, 10_000, rooms).await {
            tokio::spawn(hear(client, usize::MAX, self.begun));
        }
        let mut movers = Vec::new();
        for number in 0..20 {
            movers.push(self.client(number % 2, format!("mover-{number}")).await);
        }
        ready().await;
        let start = Instant::now();
        let end = start + Duration::from_secs(3);
        let tasks = movers.into_iter().map(|mut client| {
            tokio::spawn(async move {
                let mut count = 0_u64;
                while Instant::now() < end {
                    ask(&mut client, "load:join", room).await;
                    ask(&mut client, "load:leave", room).await;
                    count += 2;
                }
                count
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut count = 0;
        for task in tasks {
            count += task.await.unwrap();
        }
        println!("{:.0}", count as f64 / start.elapsed().as_secs_f64());
    }
}

/// Asks for something in a room and waits for the answer.
async fn ask(client: &mut Socket, event: &str, room: &str) {
    let packet = format!(r#"420["{event}",{{"roomId":"{room}"}}]"#);
    client.send(Message::text(packet)).await.unwrap();
    let answered = tokio::time::timeout(LATE, answer(client)).await;
    answered.expect("what is asked is answered in time");
}

async fn answer(client: &mut Socket) {
    loop {
        let Message::Text(text) = client.next().await.unwrap().unwrap() else {
            continue;
        };
        if text.as_str() == "2" {
            client.send(Message::text("3")).await.unwrap();
        }
        if text.starts_with("430") {
            assert!(!text.contains("error"), "{text}");
            return;
        }
    }
}

/// Hears so many messages; returns how long each was on its way, in microseconds.
async fn hear(mut client: Socket, messages: usize, begun: Instant) -> Vec<u64> {
    let mut micros = Vec::with_capacity(messages.min(1_000));
    while micros.len() < messages {
        let Message::Text(text) = client.next().await.unwrap().unwrap() else {
            continue;
        };
        if text.as_str() == "2" {
            client.send(Message::text("3")).await.unwrap();
        }
        if let Some((_, rest)) = text.split_once(r#""at":"#) {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
            let at: u64 = digits.parse().unwrap();
            micros.push(begun.elapsed().as_micros() as u64 - at);
        }
    }
    micros
}
