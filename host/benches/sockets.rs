//! Acknowledged echoes a second over real sockets: through a plugin in the host, and by a handler
//! written natively on `socketioxide`, in the same process and run.
//!
//! Needs `target/test-plugins/load.wasm`; `cargo xtask bench` builds it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::panic
)]

mod load;
mod machine;

use load::{Load, Measured, quantile};
use serde_json::Map;
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use switchboard::{app::App, auth::TokenMinter, config::Config, core::secret::Secret};

const SECRET: &str = "the secret of the benchmarks, 32 bytes or more";
const ROUNDS: usize = 3;

fn main() {
    let guests = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(1)
        .build()
        .unwrap();
    let sockets = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let handle = guests.handle().clone();
    sockets.block_on(async move {
        let mut config = config();
        let minter = TokenMinter::from_config(&config.auth).unwrap();
        let token = minter
            .mint("bench", "student", Duration::from_secs(3_600), Map::new())
            .unwrap();
        config.server.listen = "127.0.0.1:0".to_owned();
        let app = App::start(config, handle, axum::Router::new())
            .await
            .unwrap();
        let native = native().await;
        println!("acknowledged echoes over WebSockets; server and clients share the machine");
        println!("on {}", machine::describe());
        for (clients, window) in [(50, 16), (200, 1)] {
            println!("\n{clients} clients, {window} under way each");
            let load = |address: SocketAddr, auth: String| Load {
                address,
                auth,
                event: "load:echo",
                payload: format!(r#"{{"text":"{}"}}"#, "x".repeat(180)),
                clients,
                window,
                measure: Duration::from_secs(3),
            };
            let mut ratios = Vec::new();
            for _ in 0..ROUNDS {
                let baseline = load(native, String::new()).run().await;
                let host = load(app.address, format!(r#"{{"token":"{token}"}}"#))
                    .run()
                    .await;
                print("native socketioxide", &baseline);
                print("host and plugin    ", &host);
                ratios.push(host.per_second / baseline.per_second);
            }
            ratios.sort_by(f64::total_cmp);
            println!(
                "  ratio to native, median of {ROUNDS} rounds: {:.2}",
                ratios[ROUNDS / 2]
            );
        }
        app.stop().await;
    });
    guests.shutdown_background();
    sockets.shutdown_background();
}

fn print(name: &str, measured: &Measured) {
    let at = |part| quantile(&measured.micros, part);
    println!(
        "  {name} {:>8.0} a second; round trip µs: median {}, p90 {}, p99 {}, max {}",
        measured.per_second,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

fn config() -> Config {
    let mut config = Config::default();
    config.auth.secret = Some(Secret::new(SECRET.to_owned()));
    config.plugins.dir = plugin_folder();
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

/// A folder with nothing but the plugin that is measured.
fn plugin_folder() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/test-plugins/load.wasm");
    let folder = std::env::temp_dir().join(format!("switchboard-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&built, folder.join("load.wasm")).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run `cargo xtask build --plugins`",
            built.display()
        )
    });
    folder
}

/// The baseline: the same echo, natively.
async fn native() -> SocketAddr {
    let (layer, io) = SocketIo::builder().max_buffer_size(4_096).build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on(
            "load:echo",
            async |Data::<serde_json::Value>(value), ack: AckSender| {
                ack.send(&value).ok();
            },
        );
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().layer(layer);
    tokio::spawn(async move { axum::serve(tokio_nodelay(listener), router).await.unwrap() });
    address
}

fn tokio_nodelay(
    listener: tokio::net::TcpListener,
) -> axum::serve::TapIo<tokio::net::TcpListener, fn(&mut tokio::net::TcpStream)> {
    use axum::serve::ListenerExt;
    listener.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    })
}
