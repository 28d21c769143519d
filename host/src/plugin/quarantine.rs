//! When a plugin that fails again and again is given no more events for a while.
//!
//! Only its own faults count, and only when they come from several users: one user's poison event
//! cannot disable a plugin for all. After a pause it is tried with one event at a time, and is back
//! when one succeeds.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// The section `[plugins.quarantine]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineConfig {
    /// How many faults within the window.
    pub faults: usize,
    /// Of how many different users.
    pub users: usize,
    /// The window.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// How long no event is given.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
}

impl Default for QuarantineConfig {
    fn default() -> Self {
        Self {
            faults: 10,
            users: 3,
            window: Duration::from_secs(60),
            pause: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    Paused { until: Instant },
    Probing { since: Instant },
}

/// What a fault or a success changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The plugin is given no more events.
    Entered,
    /// The plugin is back.
    Left,
}

/// The faults of one generation of a plugin. Time is handed in.
#[derive(Debug)]
pub struct Quarantine {
    config: QuarantineConfig,
    faults: VecDeque<(Instant, String)>,
    state: State,
}

impl Quarantine {
    /// Returns a plugin without faults.
    #[must_use]
    pub fn new(config: QuarantineConfig) -> Self {
        Self {
            config,
            faults: VecDeque::new(),
            state: State::Serving,
        }
    }

    /// Tells whether an event may be given to the plugin.
    ///
    /// # Errors
    /// When not: how long until trying again can help.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Serving => Ok(()),
            State::Paused { until } if now < until => Err(until - now),
            State::Paused { .. } => {
                self.state = State::Probing { since: now };
                Ok(())
            }
            // A probe whose outcome never came, being cancelled, does not block others for ever.
            State::Probing { since } if now.duration_since(since) > self.config.pause => {
                self.state = State::Probing { since: now };
                Ok(())
            }
            State::Probing { .. } => Err(Duration::from_millis(100)),
        }
    }

    /// Returns how long no event is given to the plugin at all.
    #[must_use]
    pub fn pause_left(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Paused { until } if now < until => Some(until - now),
            _ => None,
        }
    }

    /// Takes note that the event that was tried had no outcome, so that another can be tried.
    pub fn abandon(&mut self, now: Instant) {
        if let State::Probing { .. } = self.state {
            self.state = State::Paused { until: now };
        }
    }

    /// Counts a fault on an event of a user.
    pub fn fault(&mut self, user: &str, now: Instant) -> Change {
        if let State::Probing { .. } = self.state {
            self.pause(now);
            return Change::None;
        }
        self.faults.push_back((now, user.to_owned()));
        let window = self.config.window;
        self.faults
            .retain(|(at, _)| now.duration_since(*at) <= window);
        // More than these change no decision; this bounds what is kept.
        let kept = self.config.faults.max(1).saturating_mul(16);
        while self.faults.len() > kept {
            self.faults.pop_front();
        }
        let users: BTreeSet<&str> = self.faults.iter().map(|(_, user)| user.as_str()).collect();
        let many = self.faults.len() >= self.config.faults && users.len() >= self.config.users;
        if !many || self.state != State::Serving {
            return Change::None;
        }
        self.pause(now);
        Change::Entered
    }

    /// Counts an event that went well.
    pub fn success(&mut self) -> Change {
        if let State::Probing { .. } = self.state {
            self.state = State::Serving;
            self.faults.clear();
            return Change::Left;
        }
        Change::None
    }

    fn pause(&mut self, now: Instant) {
        self.state = State::Paused {
            until: now + self.config.pause,
        };
        self.faults.clear();
    }

    /// Tells whether every event is admitted, without asking for one.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.state == State::Serving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarantine() -> (Quarantine, Instant) {
        let config = QuarantineConfig {
            faults: 4,
            users: 2,
            window: Duration::from_secs(10),
            pause: Duration::from_secs(5),
        };
        (Quarantine::new(config), Instant::now())
    }

    #[test]
    fn one_user_alone_disables_nothing() {
        let (mut quarantine, now) = quarantine();
        for _ in 0..1_000 {
            assert_eq!(quarantine.fault("ann", now), Change::None);
        }
        assert!(quarantine.admit(now).is_ok());
        assert!(quarantine.faults.len() <= 64);
    }

    #[test]
    fn several_users_within_the_window_do() {
        let (mut quarantine, now) = quarantine();
        for user in ["ann", "ben", "ann"] {
            assert_eq!(quarantine.fault(user, now), Change::None);
        }
        assert_eq!(
            quarantine.fault("ben", now + Duration::from_secs(11)),
            Change::None
        );
        let later = now + Duration::from_secs(12);
        for user in ["ann", "ben"] {
            assert_eq!(quarantine.fault(user, later), Change::None);
        }
        assert_eq!(quarantine.fault("ann", later), Change::Entered);
        assert_eq!(quarantine.admit(later), Err(Duration::from_secs(5)));
    }

    #[test]
    fn a_probe_decides_whether_it_is_back() {
        let (mut quarantine, now) = quarantine();
        for user in ["ann", "ben", "ann", "ben"] {
            quarantine.fault(user, now);
        }
        let later = now + Duration::from_secs(5);
        assert!(quarantine.admit(later).is_ok());
        assert!(quarantine.admit(later).is_err(), "one at a time");
        assert_eq!(quarantine.fault("ann", later), Change::None);
        assert_eq!(quarantine.admit(later), Err(Duration::from_secs(5)));
        let again = later + Duration::from_secs(5);
        assert!(quarantine.admit(again).is_ok());
        assert_eq!(quarantine.success(), Change::Left);
        assert!(quarantine.admit(again).is_ok() && quarantine.admit(again).is_ok());
    }

    #[test]
    fn a_probe_without_an_outcome_lets_the_next_one_try_at_once() {
        let (mut quarantine, now) = quarantine();
        for user in ["ann", "ben", "ann", "ben"] {
            quarantine.fault(user, now);
        }
        assert_eq!(quarantine.pause_left(now), Some(Duration::from_secs(5)));
        let later = now + Duration::from_secs(5);
        assert_eq!(quarantine.pause_left(later), None);
        assert!(quarantine.admit(later).is_ok());
        quarantine.abandon(later);
        assert!(!quarantine.is_serving());
        assert!(quarantine.admit(later).is_ok());
        // Of a plugin that serves there is nothing to abandon.
        assert_eq!(quarantine.success(), Change::Left);
        quarantine.abandon(later);
        assert!(quarantine.is_serving());
    }
}
