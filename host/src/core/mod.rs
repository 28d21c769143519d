//! What an event, an instruction and a name are. Nothing here does I/O, is async, or knows of
//! Socket.IO, WebAssembly or any store.
//!
//! | module | what it holds |
//! |---|---|
//! | [`names`] | ids and names as types of their own, each with its rule |
//! | [`channel`] | channels of Redis, and which of them a plugin may publish to |
//! | [`event`] | what happened, and to whom |
//! | [`instruction`] | what a plugin wants done |
//! | [`code`] | the error codes that a client can see |
//! | [`payload`] | checks of the JSON that crosses the edge: arguments and binary placeholders |
//! | `plain` | a quick look at that JSON, which most of it passes |
//! | [`presence`] | what a user is seen as |
//! | [`rate`] | token buckets |
//! | [`recipient`] | whom something is about |
//! | [`secret`] | texts that must not be shown |
//! | [`shards`] | what is divided among threads |
//! | [`manifest`] | what a plugin says of itself |
//! | [`state`] | what a partition of stored state holds, and its texts |
//! | [`time`] | times as texts |

pub mod channel;
pub mod code;
pub mod event;
pub mod instruction;
pub mod manifest;
pub mod names;
pub mod payload;
mod plain;
pub mod presence;
pub mod rate;
pub mod recipient;
pub mod secret;
pub mod shards;
pub mod state;
pub mod time;
