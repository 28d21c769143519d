//! What the benchmarks share: the machine they run on, and the plugins that they measure.

// Each benchmark uses a part of this.
#![allow(dead_code)]

use serde_json::Map;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use switchboard::{auth::TokenMinter, config::Config, core::secret::Secret};

/// What tokens of a benchmark are signed with.
pub(crate) const SECRET: &str = "the secret of the benchmarks, 32 bytes or more";

/// Returns the processor, how many of its cores there are, and the kernel; numbers mean little
/// without.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, kernel {}", kernel.trim())
}

/// Returns the JSON of a CONNECT packet of a user.
pub(crate) fn auth(minter: &TokenMinter, user: &str) -> String {
    let hour = Duration::from_secs(3_600);
    let token = minter.mint(user, "student", hour, Map::new()).unwrap();
    format!(r#"{{"token":"{token}"}}"#)
}

/// A folder of this run with some of the test plugins, gone when it is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// Makes one.
    pub(crate) fn with(plugins: &[&str]) -> Self {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-plugins");
        let folder = std::env::temp_dir().join(format!("switchboard-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for plugin in plugins {
            let file = built.join(plugin).with_extension("wasm");
            let copied = std::fs::copy(&file, folder.join(plugin).with_extension("wasm"));
            copied.unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; run `cargo xtask build --plugins`",
                    file.display()
                )
            });
        }
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Returns the configuration of a host that serves a folder to anybody as fast as it can.
pub(crate) fn config(folder: &Folder) -> Config {
    let mut config = Config::default();
    config.auth.secret = Some(Secret::new(SECRET.to_owned()));
    config.server.listen = "127.0.0.1:0".to_owned();
    config.plugins.dir = folder.0.clone();
    config.plugins.cache_dir = Some(folder.0.join("cache"));
    config.socket.handshakes_per_second = 1_000_000;
    config.socket.handshake_burst = 1_000_000;
    for limit in [
        &mut config.limits.events_per_second,
        &mut config.limits.burst,
        &mut config.limits.user_events_per_second,
        &mut config.limits.user_burst,
    ] {
        *limit = 1_000_000_000;
    }
    config
}
