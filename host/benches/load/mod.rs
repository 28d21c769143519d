//! A load generator: clients that speak Engine.IO and Socket.IO over WebSockets with as little work
//! as possible, so that the server is what is measured.

// Each benchmark uses a part of this.
#![allow(dead_code)]

use futures_util::{SinkExt, StreamExt};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

/// What a round of load is made of.
#[derive(Clone)]
pub(crate) struct Load {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The JSON of the CONNECT packet of each client, such as `{"token":"…"}`; none for those that
    /// there is none for.
    pub auth: Arc<[String]>,
    /// The event that is echoed.
    pub event: &'static str,
    /// Its one argument, JSON.
    pub payload: String,
    /// Clients.
    pub clients: usize,
    /// Events that a client has under way.
    pub window: usize,
    /// How long is measured.
    pub measure: Duration,
}

/// What a round measured.
pub(crate) struct Measured {
    /// Acknowledged events a second.
    pub per_second: f64,
    /// Round trips in microseconds, sorted.
    pub micros: Vec<u64>,
}

impl Load {
    /// Runs one round.
    pub(crate) async fn run(&self) -> Measured {
        let warm = Arc::new(AtomicBool::new(true));
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..self.clients)
            .map(|number| {
                let (load, warm, stop, count) =
                    (self.clone(), warm.clone(), stop.clone(), count.clone());
                tokio::spawn(async move { load.client(number, &warm, &stop, &count).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(700)).await;
        warm.store(false, Ordering::Relaxed);
        count.store(0, Ordering::Relaxed);
        let start = Instant::now();
        tokio::time::sleep(self.measure).await;
        let per_second = count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let mut micros = Vec::new();
        for client in clients {
            micros.extend(client.await.expect("a client ends well"));
        }
        micros.sort_unstable();
        Measured { per_second, micros }
    }

    async fn client(
        &self,
        number: usize,
        warm: &AtomicBool,
        stop: &AtomicBool,
        count: &AtomicU64,
    ) -> Vec<u64> {
        let auth = self.auth.get(number).map_or("", String::as_str);
        let mut socket = connect(self.address, auth).await;
        let mut sent = vec![Instant::now(); self.window];
        let mut micros = Vec::new();
        for id in 0..self.window {
            socket
                .feed(Message::text(self.packet(id)))
                .await
                .expect("sent");
        }
        socket.flush().await.expect("sent");
        while !stop.load(Ordering::Relaxed) {
            let packet = socket.next().await.expect("an answer").expect("an answer");
            let Message::Text(text) = packet else {
                continue;
            };
            if text.as_str() == "2" {
                socket.send(Message::text("3")).await.expect("sent");
                continue;
            }
            let Some(rest) = text.strip_prefix("43") else {
                continue;
            };
            let Some((id, _)) = rest.split_once('[') else {
                continue;
            };
            let id: usize = id.parse().expect("an id of ours");
            count.fetch_add(1, Ordering::Relaxed);
            if !warm.load(Ordering::Relaxed) {
                micros.push(sent[id].elapsed().as_micros() as u64);
            }
            sent[id] = Instant::now();
            socket
                .send(Message::text(self.packet(id)))
                .await
                .expect("sent");
        }
        micros
    }

    fn packet(&self, id: usize) -> String {
        format!("42{id}[\"{}\",{}]", self.event, self.payload)
    }
}

/// A client's end of a connection.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connects with the JSON of a CONNECT packet.
pub(crate) async fn connect(address: SocketAddr, auth: &str) -> Socket {
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = tokio_tungstenite::connect_async_with_config(url, None, true)
        .await
        .expect("connects");
    socket
        .next()
        .await
        .expect("open packet")
        .expect("open packet");
    socket
        .send(Message::text(format!("40{auth}")))
        .await
        .expect("CONNECT is sent");
    loop {
        let packet = socket.next().await.expect("an answer").expect("an answer");
        let text = packet.into_text().expect("text");
        assert!(!text.starts_with("44"), "refused: {text}");
        if text.starts_with("40") {
            return socket;
        }
    }
}

/// Returns the value below which a part of sorted values lies.
pub(crate) fn quantile(sorted: &[u64], part: f64) -> u64 {
    let index = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(0)
}
