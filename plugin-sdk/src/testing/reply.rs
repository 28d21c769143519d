//! What the sender of an event got, and assertions on it.

use serde_json::Value;

/// The answer to one event.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "assert what it is: `expect_ok`, `expect_error`"]
pub struct Reply {
    event: String,
    pub(super) args: Result<Vec<Value>, Value>,
}

impl Reply {
    pub(super) fn acknowledged(args: Vec<Value>) -> Self {
        Self {
            event: String::new(),
            args: Ok(args),
        }
    }

    pub(super) fn failed(error: Value) -> Self {
        Self {
            event: String::new(),
            args: Err(error),
        }
    }

    pub(super) fn of(mut self, event: &str) -> Self {
        event.clone_into(&mut self.event);
        self
    }

    /// Returns the acknowledgement's first argument.
    ///
    /// # Panics
    /// When the event failed; the text says how.
    #[track_caller]
    pub fn expect_ok(self) -> Value {
        self.expect_args().into_iter().next().unwrap_or_default()
    }

    /// Returns all of the acknowledgement's arguments.
    ///
    /// # Panics
    /// When the event failed; the text says how.
    #[track_caller]
    pub fn expect_args(self) -> Vec<Value> {
        match self.args {
            Ok(args) => args,
            Err(error) => panic!("`{}` failed: {error}", self.event),
        }
    }

    /// Returns the message of the failure.
    ///
    /// # Panics
    /// When the event did not fail, or with another code; the text says what it answered.
    #[track_caller]
    pub fn expect_error(self, code: &str) -> String {
        let error = self.expect_failure(code);
        error
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// Returns the whole failure: `{ code, message, details? }`.
    ///
    /// # Panics
    /// When the event did not fail, or with another code; the text says what it answered.
    #[track_caller]
    pub fn expect_failure(self, code: &str) -> Value {
        match self.args {
            Err(error) if error.get("code").and_then(Value::as_str) == Some(code) => error,
            Err(error) => panic!("`{}` failed, but not with {code}: {error}", self.event),
            Ok(args) => panic!(
                "`{}` did not fail with {code}; it answered {}",
                self.event,
                Value::from(args)
            ),
        }
    }
}
