//! The chat's dialect: conversations of members, their messages, and receipts of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@self`] | the table of events: who handles what |
//! | `directory` | which conversations there are, who is in them, who has blocked whom |
//! | `backend` | backends changing the directory |
//! | `actor` | in whose name something is done: a client's own, or a backend's for a user |
//! | `channels` | telling other services what clients do |
//! | `rooms` | clients entering and leaving conversations, and what is passed on there |
//! | `messages` | sending, editing, deleting, reacting; how a message is found by its id |
//! | `receipts` | what has been delivered to whom, and seen by whom |
//! | `history` | messages page by page, and what a client has missed |
//! | `presence`, `typing` | what members are seen as, and who types |
//!
//! Stored are two kinds of partitions: `directory`, one for all, and `chat:{id}` with what is said in a
//! conversation. A message of one conversation has nothing to do with those of another.

mod actor;
mod backend;
mod channels;
mod directory;
mod history;
mod messages;
mod presence;
mod receipts;
mod rooms;
mod typing;

use actor::{by_backend, by_client};
use serde::Serialize;
use switchboard_plugin::{Ack, Cx, Plugin, Result, export};

/// Returns the plugin: every event it takes, and the function that handles it.
pub fn plugin() -> Plugin {
    Plugin::new("chat")
        .version(env!("CARGO_PKG_VERSION"))
        .rooms(["chat"])
        .needs([
            "rooms", "kv", "history", "timers", "typing", "presence", "channels",
        ])
        .settings_schema(channels::settings_schema())
        .on_connected(history::connected)
        .on_timer(history::UNREAD, history::go_on)
        .on("join-room", rooms::join)
        .on("leave-room", rooms::leave)
        .on_joined(rooms::check_again)
        .on("get-online-users", rooms::online)
        .on("signal", rooms::signal)
        .on("heartbeat", rooms::heartbeat)
        .on("message-send", by_client(messages::send))
        .on("message-edit", by_client(messages::edit))
        .on("message-delete", by_client(messages::delete))
        .on("reaction", messages::react)
        .on("message-seen", receipts::seen)
        .on_acknowledged(receipts::acknowledged)
        .on_timer(receipts::MISSED, receipts::deliver)
        .on_timer(receipts::RECEIPTS, receipts::go_on)
        .on("conversation-history", history::page)
        .on("typing-start", typing::start)
        .on("typing-stop", typing::stop)
        .on_typing(typing::changed)
        .on_timer(typing::SILENCE, typing::silent)
        .on("presence-update", presence::update)
        .on_presence(presence::changed)
        .on_timer(presence::TELL, presence::go_on)
        .on_server_event("conversation-create", backend::create)
        .on_server_event("member-add", backend::add)
        .on_server_event("member-remove", backend::remove)
        .on_server_event("block", backend::block)
        .on_server_event("unblock", backend::unblock)
        .on_server_event(channels::NEW, by_backend(messages::send))
        .on_server_event(channels::EDITED, by_backend(messages::edit))
        .on_server_event(channels::DELETED, by_backend(messages::delete_named))
        .on_server_event(channels::RECEIPT, by_backend(receipts::told))
        .on_server_event(channels::PRESENCE, by_backend(presence::told))
        .on_server_event(channels::TYPING_START, by_backend(typing::told_start))
        .on_server_event(channels::TYPING_STOP, by_backend(typing::told_stop))
}

export!(plugin);

/// Confirms by an event to this connection and by the acknowledgement: clients wait for either.
fn confirm(cx: &mut Cx, event: &str, what: &impl Serialize) -> Result<Ack> {
    cx.emit(event).to_self().send(what)?;
    Ack::with(what)
}
