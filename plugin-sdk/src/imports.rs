//! The capabilities: the host's in a component, those of the `TestHost` in native code.
//!
//! Plain functions, so that the linker drops what a plugin does not use: a component imports only
//! what it calls.

#[cfg(target_family = "wasm")]
mod host {
    use crate::{
        bindings::switchboard::plugin::{
            attachments, kv, log as logging, rooms, settings as operator, types,
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
}

#[cfg(target_family = "wasm")]
pub(crate) use host::{
    attachment, attachment_size, connections_of_user, count_users, has_connection, has_user,
    kv_add, kv_delete, kv_get, kv_list, kv_set, log, members, of_connection, of_user, settings,
    users,
};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::world::{
    attachment, attachment_size, connections_of_user, count_users, has_connection, has_user,
    kv_add, kv_delete, kv_get, kv_list, kv_set, log, members, of_connection, of_user, settings,
    users,
};
