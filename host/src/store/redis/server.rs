//! Real Redis processes for tests.

use crate::link::config::RedisConfig;
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Redis on a free port, ended with it.
pub(crate) struct Server {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Server {
    /// Starts one, and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        for _ in 0..5 {
            if let Some(server) = Self::try_start(arguments) {
                return server;
            }
        }
        panic!("redis-server does not start; on Debian: apt-get install redis-server");
    }

    fn try_start(arguments: &[&str]) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = std::env::temp_dir().join(format!("switchboard-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .arg("--dir")
            .arg(&folder)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed; on Debian: apt-get install redis-server");
        let mut server = Self {
            process,
            port,
            folder,
        };
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            if server.process.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::yield_now();
        }
        None
    }

    /// Runs a command, and returns what `redis-cli` prints.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Returns the keys of a pattern.
    pub(crate) fn keys_like(&self, pattern: &str) -> Vec<String> {
        let keys = self.command(&["KEYS", pattern]);
        keys.lines()
            .filter(|key| !key.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Returns the configuration for it.
    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig {
            port: Some(self.port),
            ..RedisConfig::default()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// A Redis Cluster of three masters.
pub(crate) struct Cluster(Vec<Server>);

impl Cluster {
    /// Starts one, and waits until all slots are served.
    pub(crate) fn start() -> Self {
        let timeout = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let servers: Vec<Server> = (0..3).map(|_| Server::start(&timeout)).collect();
        let addresses = servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port));
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .arg("--cluster-yes")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(created.success(), "the cluster is not made");
        let end = Instant::now() + Duration::from_secs(30);
        let is_up = |server: &Server| {
            server
                .command(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok")
        };
        while !servers.iter().all(is_up) {
            assert!(Instant::now() < end, "the cluster does not come up");
            std::thread::yield_now();
        }
        Self(servers)
    }

    /// Returns the configuration for it.
    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig {
            cluster: true,
            ..self.0[0].config()
        }
    }

    /// Returns how many keys each master has.
    pub(crate) fn keys(&self) -> Vec<u64> {
        let count = |server: &Server| server.command(&["DBSIZE"]).parse().unwrap();
        self.0.iter().map(count).collect()
    }
}
