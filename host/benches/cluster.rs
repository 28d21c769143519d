//! A room over two server processes and a real Redis: hosts with a plugin in the path, beside bare
//! `socketioxide` with its own Redis adapter, and beside Node.js with the stock one. Each is as it comes: of
//! the three, the host alone brings an allocator.
//!
//! Needs `redis-server`, `target/test-plugins/load.wasm`, which `cargo xtask bench` builds, and for
//! Node.js the packages in `tests/node_modules`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::panic
)]

mod load;
mod room;
mod servers;
mod setting;

use room::Kind;
use servers::{Pair, Process, Redis};
use setting::Folder;
use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

const ROUNDS: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match words.as_slice() {
        ["bare", redis] => runtime
            .enable_all()
            .build()
            .unwrap()
            .block_on(servers::serve_bare(redis.parse().unwrap())),
        ["load", kind, first, second] => {
            let servers = [first.parse().unwrap(), second.parse().unwrap()];
            // One thread is enough, and leaves the others to the servers.
            runtime
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap()
                .block_on(async { tokio::spawn(room::run(Kind::of(kind), servers)).await })
                .unwrap();
        }
        _ => compare(),
    }
}

/// What a run of the load measured.
struct Measured {
    values: Vec<f64>,
    /// The processor's seconds of both servers, and of Redis.
    cpu: [f64; 2],
}

fn measure(kind: Kind, pair: &Pair, redis: &Redis) -> Measured {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["load", &format!("{kind:?}")]);
    command.args(pair.addresses.map(|address| address.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut load = Process(command.spawn().unwrap());
    let mut lines = BufReader::new(load.0.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    let used = || [pair.cpu(), redis.process.cpu()];
    let before = used();
    load.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let line = lines.next().expect("the load measures to its end");
    let after = used();
    let values = line.split(' ').map(|value| value.parse().unwrap());
    Measured {
        values: values.collect(),
        cpu: [after[0] - before[0], after[1] - before[1]],
    }
}

fn compare() {
    let folder = Folder::with(&["load"]);
    println!("two servers on one Redis; all of it and the clients share the machine");
    println!("on {}", setting::machine());
    type Start = fn(&Folder, &Redis) -> Option<Pair>;
    let kinds: [Start; 3] = [
        |folder, redis| Some(Pair::hosts(folder, redis)),
        |_, redis| Some(Pair::bare(redis)),
        |_, redis| Pair::node(redis),
    ];

    println!("\na room of 500 clients, 20 messages of 200 bytes a second, 100,000 deliveries");
    let mut rounds: [Vec<Measured>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (start, round) in kinds.iter().zip(&mut rounds) {
            let redis = Redis::start();
            let Some(pair) = start(&folder, &redis) else {
                println!("  left out: Node.js, since tests/node_modules is not there");
                continue;
            };
            let measured = measure(Kind::Room, &pair, &redis);
            let at = |index: usize| measured.values[index] / 1_000.0;
            println!(
                "  {} ms: median {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}; CPU s: {:.2}, Redis {:.2}",
                pair.name,
                at(0),
                at(1),
                at(2),
                at(3),
                at(4),
                measured.cpu[0],
                measured.cpu[1]
            );
            round.push(measured);
        }
    }
    for (name, other) in [("socketioxide-redis", &rounds[1]), ("Node.js", &rounds[2])] {
        if other.is_empty() {
            continue;
        }
        let ratio = |of: fn(&Measured) -> f64| {
            let mut ratios: Vec<f64> = rounds[0]
                .iter()
                .zip(other)
                .map(|(own, other)| of(own) / of(other))
                .collect();
            ratios.sort_by(f64::total_cmp);
            ratios[ratios.len() / 2]
        };
        println!(
            "  of {name}, median of {ROUNDS} rounds: median {:.2}, p99 {:.2}, CPU {:.2}",
            ratio(|measured| measured.values[0]),
            ratio(|measured| measured.values[2]),
            ratio(|measured| measured.cpu[0]),
        );
    }
    println!("  wanted: messages within 150 ms, typing within 100, who is there within 200");

    println!("\none message at a time, 10 ms apart");
    for start in &kinds {
        let redis = Redis::start();
        let Some(pair) = start(&folder, &redis) else {
            continue;
        };
        for (kind, where_) in [
            (Kind::Local, "on its server"),
            (Kind::Across, "over Redis   "),
        ] {
            let measured = measure(kind, &pair, &redis);
            let at = |index: usize| measured.values[index] / 1_000.0;
            println!(
                "  {} {where_} ms: median {:.2}, p90 {:.2}, p99 {:.2}, max {:.2}",
                pair.name,
                at(0),
                at(1),
                at(2),
                at(4)
            );
        }
    }
    println!("  wanted: below 1 ms on its server, 5 to 10 ms over Redis");

    println!("\n20 clients join and leave one room, 10,000 others are on the first host");
    let redis = Redis::start();
    let pair = Pair::hosts(&folder, &redis);
    for _ in 0..ROUNDS {
        for (kind, size) in [(Kind::FewMembers, "10"), (Kind::ManyMembers, "10,000")] {
            let measured = measure(kind, &pair, &redis);
            let per_second = measured.values[0];
            println!(
                "  in a room of {size:>6}: {per_second:>6.0} joins and leaves a second, {:.0} µs of the processor each; {:.0} and {:.0} MB",
                measured.cpu[0] * 1e6 / (per_second * 3.0),
                pair.servers[0].memory(),
                pair.servers[1].memory(),
            );
        }
    }
    println!(
        "  wanted: 10,000 connections of an instance, and a cost that the room's size does not change"
    );
}

fn tokio_nodelay(
    listener: tokio::net::TcpListener,
) -> axum::serve::TapIo<tokio::net::TcpListener, fn(&mut tokio::net::TcpStream)> {
    use axum::serve::ListenerExt;
    listener.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    })
}
