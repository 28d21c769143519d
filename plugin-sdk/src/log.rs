//! Lines for the operator. The host adds the plugin, its version, the event and the connection.

use crate::{bindings::switchboard::plugin::log::Level, imports};

/// Logs what is only worth looking at while searching for a defect.
pub fn debug(message: impl AsRef<str>) {
    imports::log(Level::Debug, message.as_ref());
}

/// Logs something that an operator may want to know.
pub fn info(message: impl AsRef<str>) {
    imports::log(Level::Info, message.as_ref());
}

/// Logs something that should not be, and can be lived with.
pub fn warn(message: impl AsRef<str>) {
    imports::log(Level::Warn, message.as_ref());
}

/// Logs a defect.
pub fn error(message: impl AsRef<str>) {
    imports::log(Level::Error, message.as_ref());
}
