//! What goes wrong with messages, said once a minute with how often, so that a flood of them does not
//! become one of the log.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How often it is said at most.
const EVERY: Duration = Duration::from_secs(60);

/// One kind of trouble.
#[derive(Debug, Default)]
struct Trouble {
    said: Option<Instant>,
    count: u64,
    /// What the last one was.
    last: String,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Complaints {
    /// What they are about, such as a channel.
    about: String,
    troubles: BTreeMap<&'static str, Trouble>,
}

impl Complaints {
    pub(super) fn new(about: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            troubles: BTreeMap::new(),
        }
    }

    /// Takes note of some messages with the same trouble.
    pub(super) fn note(&mut self, what: &'static str, count: u64, why: String) {
        let trouble = self.troubles.entry(what).or_default();
        trouble.count += count;
        trouble.last = why;
    }

    /// Takes note of a message, and says what was not said yet, as far as it is time.
    pub(super) fn complain(&mut self, what: &'static str, why: String) {
        self.note(what, 1, why);
        self.say(Instant::now());
    }

    /// Says what was not said yet, whether it is time or not: nothing more will come.
    pub(super) fn say_all(&mut self, now: Instant) {
        self.say(now + EVERY);
    }

    /// Says what was not said yet, as far as it is time. Returns how many kinds of trouble that were.
    pub(super) fn say(&mut self, now: Instant) -> usize {
        let mut said = 0;
        for (what, trouble) in &mut self.troubles {
            let is_early = trouble.said.is_some_and(|said| now < said + EVERY);
            if trouble.count == 0 || is_early {
                continue;
            }
            tracing::warn!(
                about = self.about,
                messages = trouble.count,
                why = trouble.last,
                "{what}"
            );
            trouble.said = Some(now);
            trouble.count = 0;
            said += 1;
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_once_a_minute_and_nothing_is_forgotten() {
        let mut complaints = Complaints::new("x");
        let now = Instant::now();
        assert_eq!(complaints.say(now), 0);
        for n in 0..1_000 {
            complaints.note("one kind", 1, n.to_string());
            assert_eq!(complaints.say(now), usize::from(n == 0));
        }
        complaints.note("another kind", 1, String::new());
        assert_eq!(complaints.say(now + EVERY / 2), 1);
        assert_eq!(complaints.troubles["one kind"].count, 999);
        assert_eq!(complaints.say(now + EVERY), 1);
        assert_eq!(complaints.say(now + EVERY * 9), 0);
    }
}
