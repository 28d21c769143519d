//! What state costs: a transaction of one read and one write on each backend, and a page of a history
//! of a thousand entries and of a million.
//!
//! The embedded store is measured beside the disk's own rate of syncs, and Redis (where there is a
//! `redis-server`) beside what `redis-benchmark` gets out of the same server with the same script.

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

use setting::Folder;
use std::{
    io::Write,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use switchboard::{
    core::names::PluginName,
    link::config::RedisConfig,
    ports::{HistoryAccess, KvAccess, Page, StateStore},
    store::{embedded::EmbeddedStore, memory::MemoryStore, redis::RedisStore},
    transactions::Transactions,
};

const CONNECTIONS: usize = 64;
const MEASURE: Duration = Duration::from_secs(3);
const VALUE: &str =
    r#"{"name":"a value of about a hundred bytes","count":1234567,"tags":["a","b","c"],"on":true}"#;

fn main() {
    println!("state, on {}", setting::machine());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = Folder::with(&[]);
    runtime.block_on(async {
        alone(Arc::new(MemoryStore::default())).await;
        let embedded: Arc<dyn StateStore> =
            Arc::new(EmbeddedStore::open(&folder.0.join("state")).unwrap());
        let syncs = syncs_per_second(&folder);
        let rate = together(embedded.clone()).await;
        println!(
            "  embedded, {CONNECTIONS} at once: {rate:.0} durable transactions a second; the disk alone syncs {syncs:.0} times a second"
        );
        redis().await;
        for (name, store) in [
            ("memory", Arc::new(MemoryStore::default()) as Arc<dyn StateStore>),
            ("embedded", embedded),
        ] {
            let small = pages(&store, "small", 1_000).await;
            let large = pages(&store, "large", 1_000_000).await;
            for (what, small, large) in [
                ("the newest 50", small[0], large[0]),
                ("50 from anywhere", small[1], large[1]),
            ] {
                println!(
                    "  {name}, {what}: of 1,000 entries {small:.1} µs, of 1,000,000 {large:.1} µs ({:.2} times)",
                    large / small
                );
            }
        }
    });
}

fn plugin() -> PluginName {
    PluginName::new("bench").unwrap()
}

async fn transaction(transactions: &Transactions, partition: &str) {
    let transaction = transactions.begin(&plugin(), 1_700_000_000_000);
    let before = transaction.get(partition, "value").await.unwrap();
    assert!(before.is_none_or(|before| before == VALUE));
    transaction
        .set(partition, "value", VALUE.to_owned(), None)
        .unwrap();
    transactions.commit(&transaction, || None).await.unwrap();
}

/// Prints what one transaction after the other costs.
async fn alone(store: Arc<dyn StateStore>) {
    let transactions = Transactions::new(store);
    let mut nanos: Vec<u64> = Vec::new();
    for number in 0..200_000_u32 {
        let partition = format!("partition-{}", number % 1_000);
        let start = Instant::now();
        transaction(&transactions, &partition).await;
        nanos.push(start.elapsed().as_nanos() as u64);
    }
    nanos.sort_unstable();
    let at = |part: usize| nanos[nanos.len() * part / 100] as f64 / 1_000.0;
    println!(
        "  memory, one after the other: µs median {:.2}, p90 {:.2}, p99 {:.2}",
        at(50),
        at(90),
        at(99)
    );
}

/// Returns how many transactions a second there are when many wait for theirs, each in a partition
/// of its own.
async fn together(store: Arc<dyn StateStore>) -> f64 {
    let transactions = Arc::new(Transactions::new(store));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let transactions = transactions.clone();
            tokio::spawn(async move {
                let partition = format!("partition-{number}");
                let mut count = 0_u64;
                while begin.elapsed() < MEASURE {
                    transaction(&transactions, &partition).await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.unwrap();
    }
    count as f64 / begin.elapsed().as_secs_f64()
}

fn syncs_per_second(folder: &Folder) -> f64 {
    let mut file = std::fs::File::create(folder.0.join("syncs")).unwrap();
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < Duration::from_secs(1) {
        file.write_all(&[0; 4_096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

/// Returns the medians of what the newest page costs and one from anywhere, in microseconds.
async fn pages(store: &Arc<dyn StateStore>, partition: &str, entries: u64) -> [f64; 2] {
    let transactions = Transactions::new(store.clone());
    for batch in 0..entries / 1_000 {
        let writer = transactions.begin(&plugin(), 1_700_000_000_000 + batch);
        for _ in 0..1_000 {
            let entry = VALUE.to_owned();
            writer.append(partition, entry, None).await.unwrap();
        }
        transactions.commit(&writer, || None).await.unwrap();
    }
    let mut medians = [0.0; 2];
    for (from_anywhere, median) in [false, true].into_iter().zip(&mut medians) {
        let mut nanos: Vec<u64> = Vec::new();
        for number in 0..2_000_u64 {
            let before = from_anywhere.then(|| 100 + number * 7_919 % (entries - 100));
            let start = Instant::now();
            let reader = transactions.begin(&plugin(), 1_700_000_100_000);
            let page = reader.page(partition, Page::Before(before), 50).await;
            nanos.push(start.elapsed().as_nanos() as u64);
            assert_eq!(page.unwrap().len(), 50);
        }
        nanos.sort_unstable();
        *median = nanos[nanos.len() / 2] as f64 / 1_000.0;
    }
    medians
}

struct Redis(Child, u16);

impl Drop for Redis {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start_redis() -> Option<Redis> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let redis = Redis(child, port);
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "redis-server does not listen");
    }
    Some(redis)
}

async fn redis() {
    let Some(server) = start_redis() else {
        println!("  Redis: not measured, there is no redis-server");
        return;
    };
    let config = RedisConfig {
        port: Some(server.1),
        ..RedisConfig::default()
    };
    let store = RedisStore::open(&config).await.unwrap();
    let rate = together(Arc::new(store)).await;
    // The same two calls, with the same script, by Redis' own tool.
    let script = include_str!("../src/store/redis/commit.lua");
    let cli = |words: &[&str]| {
        let output = Command::new("redis-cli")
            .args(["-p", &server.1.to_string()])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let hash = cli(&["SCRIPT", "LOAD", script]);
    let base = "switchboard:{bench:partition-__rand_int__}";
    let keys = ["", ":n", ":e", ":t", ":c", ":o:node", ":x"].map(|end| format!("{base}{end}"));
    let arguments = [
        "__rand_int__:__rand_int__",
        "99999999999999",
        "1700000000000",
        "7",
        "",
        "0",
        "1",
        "s",
        "kvalue",
        VALUE,
        "-",
        "",
        "0",
    ];
    let benchmark = |words: &[&str], keys: &[String], arguments: &[&str]| {
        let output = Command::new("redis-benchmark")
            .args([
                "-p",
                &server.1.to_string(),
                "-c",
                "64",
                "-n",
                "200000",
                "-r",
                "100000000",
            ])
            .args(["--csv", "-q"])
            .args(words)
            .args(keys)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().last().unwrap_or_default().to_owned();
        // Test, requests a second, and six latencies.
        line.rsplit("\",\"")
            .nth(6)
            .and_then(|cell| cell.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("redis-benchmark printed {text}"))
    };
    let commits = benchmark(&["EVALSHA", &hash, "7"], &keys, &arguments);
    let reads = benchmark(&["HMGET"], &[base.to_owned()], &["", "kvalue"]);
    let own = 1.0 / (1.0 / commits + 1.0 / reads);
    println!(
        "  Redis, {CONNECTIONS} at once: {rate:.0} transactions a second; redis-benchmark gets {commits:.0} commits or {reads:.0} reads, {own:.0} of both ({:.2} of that)",
        rate / own
    );
}
