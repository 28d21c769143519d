//! The capabilities: the host's in a component, those of the `TestHost` in native code.
//!
//! Plain functions, so that the linker drops what a plugin does not use: a component imports only
//! what it calls.

#[cfg(target_family = "wasm")]
mod host {
    use crate::{
        bindings::switchboard::plugin::{
            attachments, channels, history, kv, log as logging, presence, rooms,
            settings as operator, timers, types, typing,
        },
        error::Fault,
    };

    impl From<types::Fault> for Fault {
        fn from(fault: types::Fault) -> Self {
            Self::from_code(&fault.code, fault.message)
        }
    }

    type Faulty<T> = Result<T, Fault>;

    pub(crate) fn log(level: logging::Level, message: &str) {
        logging::write(level, message);
    }
    pub(crate) fn settings() -> String {
        operator::get()
    }
    pub(crate) fn attachment(index: u32) -> Option<Vec<u8>> {
        attachments::read(index)
    }
    pub(crate) fn attachment_size(index: u32) -> Option<u64> {
        attachments::size(index)
    }
    pub(crate) fn channels_publish(channel: &str, payload: &str) -> Faulty<()> {
        Ok(channels::publish(channel, payload)?)
    }
    pub(crate) fn members(room: &str, after: Option<&str>, limit: u32) -> Faulty<String> {
        Ok(rooms::members(room, after, limit)?)
    }
    pub(crate) fn count_users(room: &str) -> Faulty<u32> {
        Ok(rooms::count_users(room)?)
    }
    pub(crate) fn users(room: &str, after: Option<&str>, limit: u32) -> Faulty<Vec<String>> {
        Ok(rooms::users(room, after, limit)?)
    }
    pub(crate) fn has_connection(room: &str, connection: &str) -> Faulty<bool> {
        Ok(rooms::has_connection(room, connection)?)
    }
    pub(crate) fn has_user(room: &str, user: &str) -> Faulty<bool> {
        Ok(rooms::has_user(room, user)?)
    }
    pub(crate) fn of_connection(connection: &str) -> Faulty<Vec<String>> {
        Ok(rooms::of_connection(connection)?)
    }
    pub(crate) fn of_user(user: &str) -> Faulty<Vec<String>> {
        Ok(rooms::of_user(user)?)
    }
    pub(crate) fn connections_of_user(user: &str) -> Faulty<Vec<String>> {
        Ok(rooms::connections_of_user(user)?)
    }
    pub(crate) fn kv_get(partition: &str, key: &str) -> Faulty<Option<String>> {
        Ok(kv::get(partition, key)?)
    }
    pub(crate) fn kv_set(
        partition: &str,
        key: &str,
        value: &str,
        ttl_ms: Option<u64>,
    ) -> Faulty<()> {
        Ok(kv::set(partition, key, value, ttl_ms)?)
    }
    pub(crate) fn kv_delete(partition: &str, key: &str) -> Faulty<()> {
        Ok(kv::delete(partition, key)?)
    }
    pub(crate) fn kv_add(partition: &str, key: &str, delta: i64) -> Faulty<()> {
        Ok(kv::add(partition, key, delta)?)
    }
    pub(crate) fn kv_list(
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Faulty<Vec<(String, String)>> {
        Ok(kv::list(partition, prefix, after, limit)?)
    }
    pub(crate) fn history_append(
        partition: &str,
        entry: &str,
        key: Option<&str>,
    ) -> Faulty<(String, bool)> {
        Ok(history::append(partition, entry, key)?)
    }
    pub(crate) fn history_retain(
        partition: &str,
        count: Option<u64>,
        age_ms: Option<u64>,
    ) -> Faulty<()> {
        Ok(history::retain(partition, count, age_ms)?)
    }
    pub(crate) fn history_page(
        partition: &str,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Faulty<String> {
        Ok(history::page(partition, before, after, limit)?)
    }
    pub(crate) fn history_get(partition: &str, id: &str) -> Faulty<Option<String>> {
        Ok(history::get(partition, id)?)
    }
    pub(crate) fn history_amend(partition: &str, id: &str, entry: &str) -> Faulty<bool> {
        Ok(history::amend(partition, id, entry)?)
    }
    pub(crate) fn history_redact(partition: &str, id: &str) -> Faulty<bool> {
        Ok(history::redact(partition, id)?)
    }
    pub(crate) fn history_count(partition: &str) -> Faulty<u64> {
        Ok(history::count(partition)?)
    }
    pub(crate) fn timers_schedule(
        partition: &str,
        name: &str,
        due_ms: u64,
        payload: &str,
        every_ms: Option<u64>,
    ) -> Faulty<()> {
        Ok(timers::schedule(
            partition, name, due_ms, payload, every_ms,
        )?)
    }
    pub(crate) fn typing_set(room: &str, starts: bool) -> Faulty<()> {
        let done = match starts {
            true => typing::start(room),
            false => typing::stop(room),
        };
        Ok(done?)
    }
    pub(crate) fn typing_users(room: &str) -> Faulty<Vec<String>> {
        Ok(typing::users(room)?)
    }
    pub(crate) fn presence_get(users: &[String]) -> Faulty<String> {
        Ok(presence::get(users)?)
    }
    pub(crate) fn presence_of_room(room: &str, after: Option<&str>, limit: u32) -> Faulty<String> {
        Ok(presence::of_room(room, after, limit)?)
    }
    pub(crate) fn presence_choose(user: &str, status: &str) -> Faulty<()> {
        Ok(presence::choose(user, status)?)
    }
    pub(crate) fn timers_cancel(partition: &str, name: &str) -> Faulty<()> {
        Ok(timers::cancel(partition, name)?)
    }
    pub(crate) fn timers_get(partition: &str, name: &str) -> Faulty<Option<String>> {
        Ok(timers::get(partition, name)?)
    }
}

#[cfg(target_family = "wasm")]
pub(crate) use host::{
    attachment, attachment_size, channels_publish, connections_of_user, count_users,
    has_connection, has_user, history_amend, history_append, history_count, history_get,
    history_page, history_redact, history_retain, kv_add, kv_delete, kv_get, kv_list, kv_set, log,
    members, of_connection, of_user, presence_choose, presence_get, presence_of_room, settings,
    timers_cancel, timers_get, timers_schedule, typing_set, typing_users, users,
};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::{
    channels::channels_publish,
    presence::{presence_choose, presence_get, presence_of_room},
    state::{
        history_amend, history_append, history_count, history_get, history_page, history_redact,
        history_retain, timers_cancel, timers_get, timers_schedule,
    },
    world::{
        attachment, attachment_size, connections_of_user, count_users, has_connection, has_user,
        kv_add, kv_delete, kv_get, kv_list, kv_set, log, members, of_connection, of_user, settings,
        typing_set, typing_users, users,
    },
};
