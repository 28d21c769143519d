//! What the connections of one client's transport share.

use crate::core::rate::{Rate, TokenBucket};
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// What the connections of one client's transport share, so that leaving a namespace and entering it
/// again does not begin anew.
#[derive(Debug, Default)]
pub struct Transport {
    events: Mutex<Option<TokenBucket>>,
    entries: Mutex<Option<TokenBucket>>,
    refused_tokens: AtomicU32,
    namespaces: AtomicU32,
}

impl Transport {
    /// Takes one event's worth of what the transport may send.
    ///
    /// # Errors
    /// When it is used up: how long until it is not.
    pub fn take_event(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        take(&self.events, rate, now)
    }

    /// Takes one entry's worth of how often the transport may enter namespaces; as often as it may
    /// send events, and apart from them.
    ///
    /// # Errors
    /// When it is used up: how long until it is not.
    pub fn take_entry(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        take(&self.entries, rate, now)
    }

    /// Counts a refused token; returns how many there were since the last one that was accepted.
    pub fn refuse_token(&self) -> u32 {
        self.refused_tokens.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns how many tokens were refused since the last one that was accepted.
    pub fn refused_tokens(&self) -> u32 {
        self.refused_tokens.load(Ordering::Relaxed)
    }

    /// Takes note that a token was accepted.
    pub fn forgive_tokens(&self) {
        self.refused_tokens.store(0, Ordering::Relaxed);
    }

    /// Counts a namespace that was entered.
    pub fn enter(&self) {
        self.namespaces.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a namespace that was left; returns whether it was the last.
    pub fn leave(&self) -> bool {
        self.namespaces.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Tells whether no namespace is entered.
    pub fn is_unused(&self) -> bool {
        self.namespaces.load(Ordering::Acquire) == 0
    }
}

fn take(bucket: &Mutex<Option<TokenBucket>>, rate: Rate, now: Instant) -> Result<(), Duration> {
    bucket
        .lock()
        .get_or_insert_with(|| TokenBucket::new(rate, now))
        .take(now)
}
