//! How the sender of an event hears of its outcome: exactly once, whatever happens.

use super::{check::CheckedAnswer, execute::Executor};
use crate::{
    connections::Connection,
    core::code::{Code, Failure},
    ports::{Acknowledge, Frame},
};
use serde_json::Value;
use std::sync::Arc;

/// What the sender of an event is told.
pub type Outcome = Result<Option<CheckedAnswer>, Failure>;

/// Returns a frame of the host's own making: an event with one argument.
#[must_use]
pub fn host_frame(name: &str, argument: &Value) -> Frame {
    Frame {
        packet: format!("[\"{name}\",{argument}]"),
        attachments: Vec::new(),
    }
}

/// The answer that an event is owed. Answers `UNAVAILABLE` by itself when it is dropped unanswered.
pub struct OwedAnswer<'a> {
    executor: &'a Executor,
    connection: &'a Arc<Connection>,
    event: &'a str,
    ack: Option<Box<dyn Acknowledge>>,
    answered: bool,
}

impl<'a> OwedAnswer<'a> {
    /// Returns what is owed to the sender of `event`.
    pub fn new(
        executor: &'a Executor,
        connection: &'a Arc<Connection>,
        event: &'a str,
        ack: Option<Box<dyn Acknowledge>>,
    ) -> Self {
        Self {
            executor,
            connection,
            event,
            ack,
            answered: false,
        }
    }

    /// Tells whether the sender waits for an acknowledgement.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.ack.is_some()
    }

    /// Answers: with the acknowledgement where one is waited for, otherwise failures by the event
    /// `error`.
    pub fn answer(mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        self.answered = true;
        self.send(outcome);
        if let Some(transport) = self.connection.take_end() {
            self.executor.disconnect(self.connection, transport);
        }
    }

    fn send(&mut self, outcome: Outcome) {
        let failure = outcome.as_ref().err();
        self.executor
            .metrics
            .count_event(failure.map(|failure| &*failure.code));
        let Some(ack) = self.ack.take() else {
            if let Err(failure) = outcome {
                let frame = host_frame("error", &failure.to_error_event(self.event));
                self.executor.send(self.connection, &frame, false);
            }
            return;
        };
        let (args, attachments) = match outcome {
            Ok(Some(answer)) => (answer.args, answer.attachments),
            Ok(None) => (r#"[{"ok":true}]"#.to_owned(), Vec::new()),
            Err(failure) => (format!("[{}]", failure.to_answer()), Vec::new()),
        };
        if let Err(crate::ports::SendError::Full) = ack.send(args, attachments) {
            self.executor.close_slow(self.connection);
        }
    }
}

impl Drop for OwedAnswer<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let failure = Failure::new(Code::Unavailable, "the host could not handle this event");
            self.settle(Err(failure));
        }
    }
}
