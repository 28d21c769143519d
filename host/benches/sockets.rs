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

mod allocator;
mod load;
mod setting;

use load::{Load, Measured, quantile};
use setting::Folder;
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use switchboard::{app::App, auth::TokenMinter};

const ROUNDS: usize = 3;

const CLIENTS: usize = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let folder = Folder::with(&["load"]);
        let config = setting::config(&folder);
        let minter = TokenMinter::from_config(&config.auth).unwrap();
        // Each client is somebody else, as it is where this is for.
        let auth: Arc<[String]> = (0..CLIENTS)
            .map(|number| setting::auth(&minter, &format!("user-{number}")))
            .collect();
        let app = App::start(config, axum::Router::new()).await.unwrap();
        let native = native().await;
        println!("acknowledged echoes over WebSockets; server and clients share the machine");
        println!("on {}", setting::machine());
        for (clients, window) in [(50, 16), (CLIENTS, 1)] {
            println!("\n{clients} clients, {window} under way each");
            let load = |address: SocketAddr, auth: &Arc<[String]>| Load {
                address,
                auth: auth.clone(),
                event: "load:echo",
                payload: format!(r#"{{"text":"{}"}}"#, "x".repeat(180)),
                clients,
                window,
                measure: Duration::from_secs(3),
            };
            let mut ratios = Vec::new();
            for _ in 0..ROUNDS {
                let baseline = load(native, &Arc::default()).run().await;
                let host = load(app.address, &auth).run().await;
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
    runtime.shutdown_background();
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
