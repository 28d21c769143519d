//! Verdicts and faults.

use serde::Serialize;
use serde_json::Value;
use std::{borrow::Cow, fmt};

/// What handlers return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A handler's verdict that an event cannot be done. Its sender sees it as it is; nothing is
/// committed and nothing emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// `UPPER_SNAKE_CASE`, 1 to 64 characters.
    pub code: Cow<'static, str>,
    /// For a person to read.
    pub message: String,
    /// Whatever helps a program.
    pub details: Option<Value>,
}

impl Error {
    /// Returns a verdict with a code of the plugin's own.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            message: message.into(),
            details: None,
        }
    }

    /// Adds details; a value that cannot be written as JSON is left out.
    #[must_use]
    pub fn details(mut self, details: impl Serialize) -> Self {
        self.details = serde_json::to_value(details).ok();
        self
    }

    /// `INVALID_PAYLOAD`: an argument is missing, of the wrong type, or too long. Name it.
    pub fn invalid_payload(message: impl Into<String>) -> Self {
        Self::new("INVALID_PAYLOAD", message)
    }

    /// `FORBIDDEN`: this user may not do that.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new("FORBIDDEN", message)
    }

    /// `NOT_FOUND`: what was named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new("NOT_FOUND", message)
    }

    /// `NOT_IN_ROOM`: the sender would have to be in the room.
    pub fn not_in_room(message: impl Into<String>) -> Self {
        Self::new("NOT_IN_ROOM", message)
    }

    /// `CONFLICT`: it contradicts what is there.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new("CONFLICT", message)
    }

    /// `RATE_LIMITED`: too often; `retry_after_ms` says when it may work.
    pub fn rate_limited(message: impl Into<String>, retry_after_ms: u64) -> Self {
        Self::new("RATE_LIMITED", message)
            .details(serde_json::json!({ "retryAfterMs": retry_after_ms }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// Why a capability refused or could not do what was asked. By `?` it becomes the handler's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An argument breaks a documented limit or form; or a stored value is not what was expected.
    Invalid(String),
    /// A value, or all that the event writes, is too large.
    TooLarge(String),
    /// Too many reads or writes in one event.
    TooMany(String),
    /// The store is out of reach; or there is no Redis to publish to.
    Unavailable(String),
    /// Others are changing the same; the host runs the event again. Return at once.
    Conflict(String),
    /// The operator did not grant it.
    NotGranted(String),
    /// A value to be stored holds a client's binary data.
    Binary,
}

impl Fault {
    #[cfg(target_family = "wasm")]
    pub(crate) fn from_code(code: &str, message: String) -> Self {
        match code {
            "TOO_LARGE" => Self::TooLarge(message),
            "TOO_MANY" => Self::TooMany(message),
            "UNAVAILABLE" => Self::Unavailable(message),
            "CONFLICT" => Self::Conflict(message),
            "NOT_GRANTED" => Self::NotGranted(message),
            _ => Self::Invalid(message),
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Invalid(message)
            | Self::TooLarge(message)
            | Self::TooMany(message)
            | Self::Unavailable(message)
            | Self::Conflict(message)
            | Self::NotGranted(message) => message,
            Self::Binary => "binary data is not accepted here",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let code = match &fault {
            Fault::TooLarge(_) | Fault::Binary => "INVALID_PAYLOAD",
            Fault::Unavailable(_) => "UNAVAILABLE",
            Fault::Conflict(_) => "CONFLICT",
            // The plugin's own mistakes; what they are is for its author and not for a client.
            Fault::Invalid(_) | Fault::TooMany(_) | Fault::NotGranted(_) => {
                crate::log::error(format!("a capability refused: {fault}"));
                return Self::new("PLUGIN_FAILED", "the plugin failed on this event");
            }
        };
        Self::new(code, fault.message())
    }
}
