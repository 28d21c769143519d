//! The error codes that a client can see, in one place. Plugins add codes of their own.

use serde_json::{Value, json};
use std::borrow::Cow;

/// A code of the host's own making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// No accepted token arrived within the time for late authentication.
    AuthTimeout,
    /// A token was refused.
    AuthFailed,
    /// An event other than `auth` before authentication.
    NotAuthenticated,
    /// The token ran out while connected.
    TokenExpired,
    /// A missing, malformed or too long argument.
    InvalidPayload,
    /// No plugin subscribed to the event.
    UnknownEvent,
    /// A plugin or an object that was addressed does not exist.
    NotFound,
    /// The sender may not do this.
    Forbidden,
    /// A rate, a mailbox or another bound was exceeded.
    RateLimited,
    /// The event lost against others again and again.
    Conflict,
    /// A plugin stores as much as its operator lets it.
    StateFull,
    /// Shared state is out of reach, or the host is draining.
    Unavailable,
    /// The plugin did not answer within its deadline.
    PluginTimeout,
    /// The plugin trapped, or answered something that is not valid.
    PluginFailed,
    /// The plugin failed too often and is given no events for now.
    PluginQuarantined,
}

impl Code {
    const ALL: [Self; 15] = [
        Self::AuthTimeout,
        Self::AuthFailed,
        Self::NotAuthenticated,
        Self::TokenExpired,
        Self::InvalidPayload,
        Self::UnknownEvent,
        Self::NotFound,
        Self::Forbidden,
        Self::RateLimited,
        Self::Conflict,
        Self::StateFull,
        Self::Unavailable,
        Self::PluginTimeout,
        Self::PluginFailed,
        Self::PluginQuarantined,
    ];

    /// Returns the code that a text is, none where it is not one of the host's.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// Returns the text that clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthTimeout => "AUTH_TIMEOUT",
            Self::AuthFailed => "AUTH_FAILED",
            Self::NotAuthenticated => "NOT_AUTHENTICATED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::InvalidPayload => "INVALID_PAYLOAD",
            Self::UnknownEvent => "UNKNOWN_EVENT",
            Self::NotFound => "NOT_FOUND",
            Self::Forbidden => "FORBIDDEN",
            Self::RateLimited => "RATE_LIMITED",
            Self::Conflict => "CONFLICT",
            Self::StateFull => "STATE_FULL",
            Self::Unavailable => "UNAVAILABLE",
            Self::PluginTimeout => "PLUGIN_TIMEOUT",
            Self::PluginFailed => "PLUGIN_FAILED",
            Self::PluginQuarantined => "PLUGIN_QUARANTINED",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal as its sender sees it: of the host's making, or a plugin's verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// `UPPER_SNAKE_CASE`.
    pub code: Cow<'static, str>,
    /// For a person to read; never internals.
    pub message: String,
    /// Whatever helps a program, such as `retryAfterMs`.
    pub details: Option<Value>,
}

impl Failure {
    /// Returns a failure of the host's making.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code.as_str()),
            message: message.into(),
            details: None,
        }
    }

    /// Returns the failure with details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Returns `{ code, message, details? }`.
    #[must_use]
    pub fn to_error(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(details), Some(object)) = (&self.details, error.as_object_mut()) {
            object.insert("details".to_owned(), details.clone());
        }
        error
    }

    /// Returns the answer to an event with a callback: `{ ok: false, error: … }`.
    #[must_use]
    pub fn to_answer(&self) -> Value {
        json!({ "ok": false, "error": self.to_error() })
    }

    /// Returns what an event without a callback is answered with: `{ code, message, event, details? }`.
    #[must_use]
    pub fn to_error_event(&self, event: &str) -> Value {
        let mut error = self.to_error();
        if let Some(object) = error.as_object_mut() {
            object.insert("event".to_owned(), Value::from(event));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_its_details_in_each_form() {
        let failure =
            Failure::new(Code::RateLimited, "slow down").with_details(json!({ "retryAfterMs": 5 }));
        assert_eq!(
            failure.to_answer(),
            json!({ "ok": false, "error": {
                "code": "RATE_LIMITED", "message": "slow down", "details": { "retryAfterMs": 5 } } })
        );
        assert_eq!(failure.to_error_event("chat")["event"], "chat");
    }
}
