//! What one event costs, from the raw packet to executed instructions: 200 bytes of JSON parsed in the
//! guest, two emissions and an acknowledgement returned. And what a swap costs, from the file to the
//! first snapshot that has it.
//!
//! Everything runs on one thread, so that what is measured is the work and not the waking of threads.
//! Needs `target/test-plugins/load.wasm`; `cargo xtask bench` builds it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::panic
)]

mod allocator;
mod setting;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use serde_json::{Map, Value};
use setting::Folder;
use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use switchboard::{
    app::App,
    connections::{Connection, Message},
    core::{
        event::Identity,
        names::{EventName, Namespace, PluginName, RoomName, UserId},
        payload,
    },
    pipeline::{Pipeline, now_ms},
    plugin::config::Isolation,
    ports::{Acknowledge, CloseReason, Frame, Lost, Outbound, SendError},
};
use tokio::sync::Notify;

const EVENTS: usize = 20_000;

#[derive(Default)]
struct Counted {
    frames: AtomicU64,
    acknowledged: Notify,
}

struct Out(Arc<Counted>);

impl Outbound for Out {
    fn emit(&self, _: &Frame, _: bool) -> Result<(), SendError> {
        self.0.frames.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn name(&self) -> &str {
        "bench"
    }
    fn enter(&self, _: &RoomName) {}
    fn exit(&self, _: &RoomName) {}
    fn take(&self, _: &Frame, _: bool) -> Result<(), SendError> {
        Ok(())
    }
    fn emit_to_room(&self, _: &RoomName, _: &[&str], _: &Frame, _: bool) -> Result<(), Lost> {
        self.0.frames.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn emit_with_ack(
        &self,
        _: &Frame,
        _: Duration,
    ) -> BoxFuture<'static, Result<(String, Vec<Bytes>), &'static str>> {
        Box::pin(ready(Err("timeout")))
    }
    fn disconnect(&self) {}
    fn close_transport(&self, _: CloseReason) {}
}

struct Slot(Arc<Counted>);

impl Acknowledge for Slot {
    fn send(self: Box<Self>, args: String, _: Vec<Bytes>) -> Result<(), SendError> {
        assert_eq!(args, r#"[{"ok":true}]"#);
        self.0.acknowledged.notify_one();
        Ok(())
    }
}

/// Takes any answer.
struct Answered(Arc<Counted>);

impl Acknowledge for Answered {
    fn send(self: Box<Self>, _: String, _: Vec<Bytes>) -> Result<(), SendError> {
        self.0.acknowledged.notify_one();
        Ok(())
    }
}

fn packet() -> String {
    format!(
        r#"["load:note",{{"roomId":"lobby","content":"{}","kind":"text","tags":["a","b"],"count":7}}]"#,
        "x".repeat(110)
    )
}

fn main() {
    let packet = packet();
    println!(
        "one event of {} bytes, two emissions, one acknowledgement; {EVENTS} events each, on one thread",
        packet.len()
    );
    println!("on {}", setting::machine());
    let baseline = print(
        "the handler natively, without host or guest",
        native(&packet),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    for (name, isolation) in [
        ("whole pipeline, warm instances", Isolation::Pool),
        (
            "whole pipeline, a fresh instance for each event",
            Isolation::Event,
        ),
    ] {
        let packet = packet.clone();
        let times = runtime
            .block_on(runtime.spawn(async move { pipeline(isolation, &packet).await }))
            .unwrap();
        let median = print(name, times);
        println!("    {:.1} times the native handler", median / baseline);
    }
    neighbours(&packet);
    runtime.block_on(swaps());
    runtime.shutdown_background();
}

/// Prints a distribution, and returns its median in microseconds.
fn print(name: &str, mut nanos: Vec<u64>) -> f64 {
    nanos.sort_unstable();
    let at = |part: f64| {
        nanos[((nanos.len() as f64 * part) as usize).min(nanos.len() - 1)] as f64 / 1_000.0
    };
    println!(
        "  {name}: µs median {:.2}, p90 {:.2}, p99 {:.2}, max {:.1}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    at(0.5)
}

/// Measures a plugin's events while another plugin loops until its deadline, again and again, and
/// while it does not; on as many threads as a host has.
fn neighbours(packet: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut p99 = Vec::new();
    for loops in [false, true] {
        let packet = packet.to_owned();
        let measured = runtime.spawn(async move { beside(&packet, loops).await });
        let mut times = runtime.block_on(measured).unwrap();
        let name = if loops {
            "paced events beside a plugin that loops"
        } else {
            "paced events, nothing beside them"
        };
        print(name, times.clone());
        times.sort_unstable();
        p99.push(times[times.len() * 99 / 100] as f64);
    }
    println!(
        "    p99 beside the loop is {:.1} times that without",
        p99[1] / p99[0]
    );
    runtime.shutdown_background();
}

async fn beside(packet: &str, loops: bool) -> Vec<u64> {
    let folder = Folder::with(&["load", "faulty"]);
    let app = App::start(setting::config(&folder), axum::Router::new())
        .await
        .unwrap();
    let pipeline = app.pipeline().clone();
    let looping = loops.then(|| {
        let ((connection, counted), pipeline) = (open(&pipeline, "looper"), pipeline.clone());
        tokio::spawn(async move {
            loop {
                let slot: Box<dyn Acknowledge> = Box::new(Answered(counted.clone()));
                let message = message(r#"["faulty:loop"]"#, Some(slot));
                pipeline.accept(&connection, message);
                counted.acknowledged.notified().await;
            }
        })
    });
    let (connection, counted) = open(&pipeline, "bench");
    let mut times = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for _ in 0..3_000 {
        pace.tick().await;
        let start = Instant::now();
        let slot: Box<dyn Acknowledge> = Box::new(Slot(counted.clone()));
        pipeline.accept(&connection, message(packet, Some(slot)));
        counted.acknowledged.notified().await;
        times.push(start.elapsed().as_nanos() as u64);
    }
    if let Some(looping) = looping {
        looping.abort();
    }
    app.stop().await;
    times
}

fn message(packet: &str, ack: Option<Box<dyn Acknowledge>>) -> Message {
    let (name, args) = payload::split_packet(packet).unwrap();
    payload::check_args(&args, 0, payload::INCOMING_DEPTH).unwrap();
    Message {
        name: EventName::new(name).unwrap(),
        args,
        attachments: Vec::new(),
        ack,
        at_ms: now_ms(),
    }
}

fn native(packet: &str) -> Vec<u64> {
    let sink = Cell::new(0);
    (0..EVENTS)
        .map(|_| {
            let start = Instant::now();
            let (_, args) = payload::split_packet(packet).unwrap();
            let args: Vec<Value> = serde_json::from_str(&args).unwrap();
            let first = serde_json::to_string(&[&args[0]]).unwrap();
            let second = serde_json::to_string(&[&args[0]["count"]]).unwrap();
            sink.set(sink.get() + first.len() + second.len());
            start.elapsed().as_nanos() as u64
        })
        .collect()
}

/// Opens a connection that answers nobody.
fn open(pipeline: &Arc<Pipeline>, user: &str) -> (Arc<Connection>, Arc<Counted>) {
    let counted = Arc::new(Counted::default());
    let connection = pipeline.connections.create(
        Namespace::root(),
        Arc::new(Out(counted.clone())),
        Arc::default(),
    );
    let user = UserId::new(user).unwrap();
    let identity = Identity::new(user, "student".to_owned(), Map::new(), None);
    pipeline.open(&connection, Some(identity));
    (connection, counted)
}

async fn pipeline(isolation: Isolation, packet: &str) -> Vec<u64> {
    let folder = Folder::with(&["load"]);
    let mut config = setting::config(&folder);
    config.plugins.isolation = isolation;
    let app = App::start(config, axum::Router::new()).await.unwrap();
    let pipeline = app.pipeline();
    let (connection, counted) = open(pipeline, "bench");
    let mut times = Vec::with_capacity(EVENTS);
    for number in 0..EVENTS + 500 {
        let start = Instant::now();
        let slot: Box<dyn Acknowledge> = Box::new(Slot(counted.clone()));
        let name = || unreachable!("nothing is refused");
        let ack = pipeline.take_rate(&connection, name, Some(slot)).unwrap();
        let message = message(packet, ack);
        pipeline.accept(&connection, message);
        counted.acknowledged.notified().await;
        if number >= 500 {
            times.push(start.elapsed().as_nanos() as u64);
        }
    }
    app.stop().await;
    times
}

/// Replaces the file by others that differ in a custom section, and measures until the new one is in
/// force.
async fn swaps() {
    let folder = Folder::with(&["load"]);
    let app = App::start(setting::config(&folder), axum::Router::new())
        .await
        .unwrap();
    let plugins = &folder.0;
    let original = std::fs::read(plugins.join("load.wasm")).unwrap();
    let name = PluginName::new("load").unwrap();
    let digest = || {
        app.pipeline()
            .routes
            .snapshot()
            .plugin(&name)
            .map(|plugin| plugin.info().digest.clone())
    };
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for round in 0..2 {
        for number in 0..10_u8 {
            let mut bytes = original.clone();
            // A custom section (id 0) of three bytes: the length of its name, the name, and the number.
            bytes.extend([0, 3, 1, b'n', number]);
            std::fs::write(plugins.join("next"), bytes).unwrap();
            let before = digest();
            let start = Instant::now();
            std::fs::rename(plugins.join("next"), plugins.join("load.wasm")).unwrap();
            while digest() == before {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            let times = if round == 0 { &mut cold } else { &mut cached };
            times.push(start.elapsed().as_nanos() as u64);
        }
    }
    print("swap, compiled anew", cold);
    print("swap, compiled before", cached);
    app.stop().await;
}
