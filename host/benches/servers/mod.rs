//! The servers that the benchmark `cluster` compares, each a process of its own.

use crate::setting::{Folder, SECRET};
use socketioxide::{
    SocketIo,
    adapter::Adapter,
    extract::{AckSender, Data, SocketRef},
    handler::ConnectHandler,
};
use socketioxide_redis::{RedisAdapter, RedisAdapterCtr};
use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A process that ends with this.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Process {
    /// Returns the processor's seconds that it has used.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // The name before may have spaces in it.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
    }

    /// Returns its resident memory in MB.
    pub(crate) fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<f64>().unwrap() / 1_000.0
    }
}

/// A Redis that keeps nothing.
pub(crate) struct Redis {
    pub(crate) process: Process,
    pub(crate) port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--port", &port.to_string()]);
        let child = command.stdout(Stdio::null()).spawn();
        let process = Process(child.expect("redis-server is installed"));
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "Redis does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }
}

/// Two servers of a kind, on one Redis.
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) servers: [Process; 2],
    pub(crate) addresses: [SocketAddr; 2],
}

impl Pair {
    fn start(name: &'static str, mut command: impl FnMut() -> Command) -> Self {
        let (mut servers, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let child = command().stdout(Stdio::piped()).spawn();
            let mut process = Process(child.expect("a server starts"));
            let output = process.0.stdout.take().unwrap();
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            let address = lines.find_map(|line| {
                let (_, address) = line.split_once("listening on http://")?;
                address.trim().parse().ok()
            });
            servers.push(process);
            addresses.push(address.expect("a line with the address"));
        }
        let servers = servers.try_into().unwrap_or_else(|_| unreachable!());
        let addresses = addresses.try_into().unwrap_or_else(|_| unreachable!());
        Self {
            name,
            servers,
            addresses,
        }
    }

    /// Returns the processor's seconds that both have used.
    pub(crate) fn cpu(&self) -> f64 {
        self.servers.iter().map(Process::cpu).sum()
    }

    /// Starts two hosts with the plugin `load`.
    pub(crate) fn hosts(folder: &Folder, redis: &Redis) -> Self {
        let file = folder.0.join("switchboard.toml");
        let config = format!(
            "[auth]\nsecret = \"{SECRET}\"\n\
             [plugins]\ndir = {dir:?}\ncache_dir = {cache:?}\n\
             [socket]\nhandshakes_per_second = 1_000_000\nhandshake_burst = 1_000_000\n\
             max_connections = 20_000\n\
             [limits]\nevents_per_second = 1_000_000\nburst = 1_000_000\n\
             user_events_per_second = 1_000_000\nuser_burst = 1_000_000\n\
             [state]\nbackend = \"memory\"\n\
             [redis]\nport = {port}\n",
            dir = folder.0,
            cache = folder.0.join("cache"),
            port = redis.port,
        );
        std::fs::write(&file, config).unwrap();
        Self::start("two hosts, a plugin    ", || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
            command.args(["serve", "--listen", "127.0.0.1:0", "--config"]);
            command.arg(&file).env("RUST_LOG", "error");
            command
        })
    }

    /// Starts two servers of `socketioxide` with its own Redis adapter: this program again.
    pub(crate) fn bare(redis: &Redis) -> Self {
        Self::start("bare socketioxide-redis", || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["bare", &redis.port.to_string()]);
            command
        })
    }

    /// Starts two servers of Node.js with the stock Redis adapter; none where it is not installed.
    pub(crate) fn node(redis: &Redis) -> Option<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        if !tests.join("node_modules").exists() {
            return None;
        }
        Some(Self::start("Node.js, redis-adapter ", || {
            let mut command = Command::new("node");
            // Where the packages are.
            command.current_dir(&tests);
            command.args(["--input-type=module", "--eval", include_str!("node.mjs")]);
            command.env("REDIS_PORT", redis.port.to_string());
            command
        }))
    }
}

/// Serves what the plugin does natively, with the library's own Redis adapter.
pub(crate) async fn serve_bare(redis: u16) {
    let client = redis::Client::open(format!("redis://127.0.0.1:{redis}?protocol=resp3")).unwrap();
    let adapter = RedisAdapterCtr::new_with_redis(&client).await.unwrap();
    let (layer, io) = SocketIo::builder()
        .max_buffer_size(4_096)
        .with_adapter::<RedisAdapter<_>>(adapter)
        .build_layer();
    io.ns("/", connected.with(prepare)).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().layer(layer);
    axum::serve(crate::tokio_nodelay(listener), router)
        .await
        .unwrap();
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfRoom {
    room_id: String,
}

async fn connected<A: Adapter>(_: SocketRef<A>) {}

/// Registers what is served before the client is told that it is connected: what it sent at once
/// would be lost otherwise.
async fn prepare<A: Adapter>(socket: SocketRef<A>) -> Result<(), Infallible> {
    socket.on(
        "load:join",
        async |socket: SocketRef<A>, Data::<OfRoom>(of), ack: AckSender<A>| {
            socket.join(of.room_id);
            ack.send(&true).ok();
        },
    );
    socket.on(
        "load:leave",
        async |socket: SocketRef<A>, Data::<OfRoom>(of), ack: AckSender<A>| {
            socket.leave(of.room_id);
            ack.send(&true).ok();
        },
    );
    socket.on(
        "load:say",
        async |socket: SocketRef<A>, Data::<serde_json::Value>(said)| {
            let room = said["roomId"].as_str().unwrap_or_default().to_owned();
            socket.within(room).emit("load:said", &said).await.ok();
        },
    );
    Ok(())
}
