//! How long Redis has not answered about a channel, though what hosts publish is heard: as when what this
//! host asks arrives, and the answers do not. By asking it would only keep from others what it cannot do.

use super::lease::TENURE;
use std::time::{Duration, Instant};

/// How long a host waits for an answer until it lets others go on: as long as they would wait for one
/// that is dead.
const PATIENCE: Duration = TENURE;

/// How often a host that stops asks.
const TRIES: u32 = 3;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Silence {
    since: Option<Instant>,
    asked: u32,
}

impl Silence {
    /// What was asked was not answered.
    pub(super) fn unanswered(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.asked = self.asked.saturating_add(1);
    }

    /// There was an answer, or there is a reason to hope for one.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Tells whether it is time to let others go on.
    pub(super) fn is_long(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + PATIENCE)
    }

    /// Tells whether who stops has asked often enough.
    pub(super) fn is_vain(&self) -> bool {
        self.asked >= TRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_lasts_from_the_first_question_without_an_answer() {
        let (mut silence, now) = (Silence::default(), Instant::now());
        assert!(!silence.is_long(now + PATIENCE) && !silence.is_vain());
        silence.unanswered(now);
        silence.unanswered(now + PATIENCE / 2);
        assert!(!silence.is_long(now + PATIENCE / 2) && !silence.is_vain());
        silence.unanswered(now + PATIENCE);
        assert!(silence.is_long(now + PATIENCE) && silence.is_vain());
        silence.end();
        assert!(!silence.is_long(now + PATIENCE) && !silence.is_vain());
    }
}
