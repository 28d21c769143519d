//! What plugins for Switchboard are written with.
//!
//! A plugin gives a realtime server its behaviour. It is a set of plain functions: each takes an
//! event and says what is to be done — emit, join, leave, acknowledge, disconnect. It is built as a
//! WebAssembly component, one `.wasm` file, which an operator puts into a running server; and it is
//! tested natively, in milliseconds.
//!
//! # A plugin in five minutes
//!
//! `switchboard plugin new polls` makes all of this. By hand, `Cargo.toml`:
//!
//! ```toml
//! [package]
//! name = "polls"
//! version = "0.1.0"
//! edition = "2024"
//!
//! [lib]
//! crate-type = ["cdylib", "rlib"]    # the component, and what tests link
//!
//! [package.metadata.switchboard]
//! plugin = true                      # `switchboard dev` builds and serves it
//!
//! [dependencies]
//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! switchboard-plugin = { path = "../switchboard/plugin-sdk" }   # in a clone of the repository
//! ```
//!
//! `src/lib.rs`, a poll that everybody in a room may vote in:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use switchboard_plugin::{Ack, Cx, Error, Id, Plugin, Result, export};
//!
//! #[derive(Deserialize)]
//! struct Enter {
//!     poll: Id, // letters, digits and _ - . @ ~: cannot name another room
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Poll {
//!     yes: u32,
//!     no: u32,
//! }
//!
//! fn enter(cx: &mut Cx, request: Enter) -> Result<Ack> {
//!     cx.join(format!("poll:{}", request.poll));
//!     Ok(Ack::ok())
//! }
//!
//! // Arguments by position: the client sends `emit("vote", "lunch", true)`.
//! fn vote(cx: &mut Cx, poll: Id, yes: bool) -> Result<Ack> {
//!     let room = format!("poll:{poll}");
//!     if !cx.rooms().has_connection(&room, cx.connection())? {
//!         return Err(Error::not_in_room("enter the poll first"));
//!     }
//!     let stored = cx.kv(&room);
//!     let voter = format!("voter:{}", cx.user()?);
//!     if stored.get::<bool>(&voter)?.is_some() {
//!         return Err(Error::conflict("one vote each"));
//!     }
//!     // Read, change, write: it is a transaction, so no vote is lost.
//!     let mut counts: Poll = stored.get("counts")?.unwrap_or_default();
//!     if yes { counts.yes += 1 } else { counts.no += 1 }
//!     stored.set(&voter, &yes)?;
//!     stored.set("counts", &counts)?;
//!     cx.emit("counts").to_room(&room).send(&counts)?;
//!     Ack::with(&counts)
//! }
//!
//! fn plugin() -> Plugin {
//!     Plugin::new("polls")
//!         .version(env!("CARGO_PKG_VERSION"))
//!         .rooms(["poll"])          // the prefixes that it may join and emit to
//!         .needs(["rooms", "kv"])   // the capabilities that it uses
//!         .on("enter", enter)
//!         .on("vote", vote)
//! }
//!
//! export!(plugin);
//!
//! # fn main() { a_vote_counts_once() }
//! // and in `#[cfg(test)] mod tests`:
//! # /*
//! #[test]
//! # */
//! fn a_vote_counts_once() {
//!     use serde_json::json;
//!     use switchboard_plugin::TestHost;
//!
//!     let mut host = TestHost::new(plugin());
//!     let ann = host.connect("ann");
//!     let ben = host.connect("ben");
//!     for client in [&ann, &ben] {
//!         host.send(client, "enter", json!({ "poll": "lunch" })).expect_ok();
//!     }
//!     host.send_args(&ann, "vote", json!(["lunch", true])).expect_ok();
//!     assert_eq!(host.take(&ben, "counts"), json!({ "yes": 1, "no": 0 }));
//!     host.send_args(&ann, "vote", json!(["lunch", true])).expect_error("CONFLICT");
//!     host.send_args(&ben, "vote", json!(["a:b", true])).expect_error("INVALID_PAYLOAD");
//! }
//! ```
//!
//! `cargo test` runs the test. `switchboard dev` builds and serves the plugin, and swaps it whenever
//! you save. What ships is made by
//!
//! ```sh
//! rustup target add wasm32-wasip2
//! cargo build --target wasm32-wasip2 --release
//! switchboard plugin check target/wasm32-wasip2/release/polls.wasm
//! ```
//!
//! # What a handler may count on
//!
//! - It is a **transaction**. It sees what is committed and its own writes; they are committed
//!   together when it returns `Ok`, and then its instructions are carried out, in order. When it
//!   returns an error nothing has happened. When what it read has changed in the meantime, the host
//!   runs it again: so it must do nothing but read, write and instruct.
//! - Events of one connection come **one after the other**, in the order sent.
//! - What must outlive an event goes through [`Cx::kv`]. A `static` is gone with the instance, which
//!   may be after any event.
//! - An error reaches the sender as it is: `{ ok: false, error: { code, message, details? } }`, or
//!   the event `error` where nobody waits for an acknowledgement.
//!
//! How such a plugin comes about, from what somebody wants to its tests: the [`guide`].
//!
//! # Where things are
//!
//! | | |
//! |---|---|
//! | [`Plugin`] | which events the plugin takes |
//! | [`Cx`] | the event, the capabilities, and the instructions |
//! | [`Emit`] | to whom, except whom, and what |
//! | [`Ack`], [`Error`] | the answer |
//! | [`Id`], [`Binary`], [`Json`] | types for payloads, beside everything that serde reads |
//! | [`rfc_3339`] | times other than the event's, as clients are told them |
//! | [`Kv`], [`Rooms`], [`Typing`], [`Presence`], [`Channels`], [`log`] | capabilities |
//! | [`TestHost`] | a host for tests |
#[cfg(any(test, target_family = "wasm"))]
#[allow(unsafe_code)]
mod allocator;
mod arguments;
#[doc(hidden)]
pub mod bindings;
mod capabilities;
mod channels;
mod cx;
mod emit;
mod error;
#[doc(hidden)]
pub mod export;
#[cfg(doc)]
#[doc = include_str!("guide.md")]
pub mod guide {}
mod handler;
mod history;
mod imports;
pub mod log;
mod payload;
mod placeholder;
mod plugin;
mod presence;
#[cfg(not(target_family = "wasm"))]
mod testing;
mod time;
mod timers;
mod typing;

#[cfg(not(target_family = "wasm"))]
pub use self::testing::{Client, Reply, TestHost, User};
pub use self::{
    arguments::Arguments,
    capabilities::{Kv, Member, Rooms},
    channels::Channels,
    cx::Cx,
    emit::Emit,
    error::{Error, Fault, Result},
    handler::{Ack, Acknowledged, Disconnected, Handler, Joined, Left},
    history::{Appended, Entry, History},
    payload::{Binary, Id, Json},
    plugin::Plugin,
    presence::{Presence, PresenceChanged, Seen, Status},
    time::rfc_3339,
    timers::{Scheduled, Timer, Timers},
    typing::{Typing, TypingChanged},
};
