//! The contract as the host sees it, generated from `wit/`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction
)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: {
        "switchboard:plugin/kv.get": async,
        "switchboard:plugin/kv.list": async,
        "switchboard:plugin/history.append": async,
        "switchboard:plugin/history.page": async,
        "switchboard:plugin/history.get": async,
        "switchboard:plugin/history.amend": async,
        "switchboard:plugin/history.redact": async,
        "switchboard:plugin/history.count": async,
        "switchboard:plugin/timers.get": async,
    },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});

pub use self::switchboard::plugin::types;
