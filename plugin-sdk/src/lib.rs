//! stub
#[doc(hidden)]
pub mod bindings;
mod capabilities;
mod cx;
mod emit;
mod error;
#[doc(hidden)]
pub mod export;
mod handler;
mod imports;
pub mod log;
mod payload;
mod plugin;
#[cfg(not(target_family = "wasm"))]
mod testing;
mod time;

#[cfg(not(target_family = "wasm"))]
pub use self::testing::{Client, Reply, TestHost, User};
pub use self::{
    capabilities::{Kv, Member, Rooms},
    cx::Cx,
    emit::Emit,
    error::{Error, Fault, Result},
    handler::{Ack, Acknowledged, Disconnected, Handler, Joined, Left},
    payload::{Arguments, Binary, Id, Json},
    plugin::Plugin,
};
