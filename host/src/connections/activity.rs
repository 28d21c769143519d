//! Whether a client does anything.

use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of a connection's activity since it was last asked for. It costs an event next to
/// nothing.
#[derive(Debug, Default)]
pub struct Activity {
    active: AtomicBool,
    idle: AtomicBool,
    excused: AtomicBool,
}

impl Activity {
    /// Takes note that an event is about to be handled.
    pub fn begin(&self) {
        if self.excused.load(Ordering::Relaxed) {
            self.excused.store(false, Ordering::Relaxed);
        }
    }

    /// Has the event that is being handled not count.
    pub fn excuse(&self) {
        self.excused.store(true, Ordering::Relaxed);
    }

    /// Takes note that an event has been handled; returns whether the connection was idle before.
    pub fn handled(&self) -> bool {
        if self.excused.load(Ordering::Relaxed) {
            return false;
        }
        self.active.store(true, Ordering::Relaxed);
        self.idle.load(Ordering::Relaxed) && self.idle.swap(false, Ordering::Relaxed)
    }

    /// Returns whether the connection was active since this was asked last.
    pub fn take(&self) -> bool {
        self.active.load(Ordering::Relaxed) && self.active.swap(false, Ordering::Relaxed)
    }

    /// Takes note that the connection is idle.
    pub fn rest(&self) {
        self.idle.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_idle_is_told_once() {
        let activity = Activity::default();
        assert!(!activity.take());
        assert!(!activity.handled());
        assert!(activity.take());
        activity.rest();
        activity.excuse();
        assert!(!activity.handled(), "that one did not count");
        assert!(!activity.take());
        activity.begin();
        assert!(activity.handled());
        assert!(!activity.handled());
        assert!(activity.take());
    }
}
