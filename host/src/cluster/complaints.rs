//! What goes wrong with messages, said once a minute with how often, so that a flood of them does not
//! become one of the log.

use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::Arc,
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

    /// Tells whether nothing waits to be said.
    fn is_all_said(&self) -> bool {
        self.troubles.values().all(|trouble| trouble.count == 0)
    }

    /// Takes note of some messages with the same trouble.
    pub(super) fn note(&mut self, what: &'static str, count: u64, why: String) {
        let trouble = self.troubles.entry(what).or_default();
        trouble.count += count;
        trouble.last = why;
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

/// The same for several who have no time of their own at which to say what was not said yet.
#[derive(Debug, Clone)]
pub(super) struct SharedComplaints(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    complaints: Complaints,
    /// Whether a task waits to say the rest.
    is_awaited: bool,
}

/// The time by which the task that says the rest sleeps.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl SharedComplaints {
    pub(super) fn new(about: impl Into<String>) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            complaints: Complaints::new(about),
            is_awaited: false,
        })))
    }

    /// Takes note of a message, and says so, now or when it is time.
    pub(super) fn complain(&self, what: &'static str, why: String) {
        let mut shared = self.0.lock();
        shared.complaints.note(what, 1, why);
        shared.complaints.say(now());
        if shared.complaints.is_all_said() || std::mem::replace(&mut shared.is_awaited, true) {
            return;
        }
        let rest = self.0.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let mut shared = rest.lock();
                shared.complaints.say(now());
                if shared.complaints.is_all_said() {
                    shared.is_awaited = false;
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_flood_is_said_when_nothing_more_comes() {
        let complaints = SharedComplaints::new("x");
        let is_all_said = || complaints.0.lock().complaints.is_all_said();
        for _ in 0..2 {
            complaints.complain("one kind", String::new());
            assert!(is_all_said());
            for _ in 0..1_000 {
                complaints.complain("one kind", String::new());
            }
            assert!(!is_all_said());
            tokio::time::sleep(EVERY * 3).await;
            assert!(is_all_said());
        }
    }

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
