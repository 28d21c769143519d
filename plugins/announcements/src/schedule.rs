//! What a course has published in the last hour, and what waits there: one value for each course,
//! which every publication reads and writes, so that their number is exact however many come at once.

use crate::announcement::{PARTITION, stored};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use switchboard_plugin::{Cx, Error, Id, Result};

/// The timer of a course, which is due when the first of what waits is.
pub(crate) const PUBLISH: &str = "publish";

/// Announcements of a course that wait at the same time.
const WAITING: usize = 100;

const HOUR: u64 = Duration::from_secs(60 * 60).as_millis() as u64;

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Schedule {
    /// When the last ones were published, in order; more than an hour of it, since the clocks of several
    /// hosts differ by a little.
    published: Vec<u64>,
    /// What waits, and until when; none for what waits for approval.
    waiting: BTreeMap<Id, Option<u64>>,
}

impl Schedule {
    pub(crate) fn read(cx: &Cx, course: &Id) -> Result<Self> {
        Ok(stored(cx).get(key(course))?.unwrap_or_default())
    }

    /// Keeps it, and has the timer fire for what is due next.
    pub(crate) fn save(&self, cx: &Cx, course: &Id, per_hour: usize) -> Result<()> {
        stored(cx).set(key(course), self)?;
        let (timers, name) = (cx.timers(PARTITION), format!("{PUBLISH}:{course}"));
        match self.waiting.values().flatten().min() {
            Some(due) => {
                let due = self.free_at(per_hour, 0, cx.now_ms()).max(*due);
                timers.at(due, name, course)?;
            }
            None => timers.cancel(name)?,
        }
        Ok(())
    }

    /// Returns what is due, in the order in which it became due.
    pub(crate) fn due(&self, now_ms: u64) -> Vec<Id> {
        let waiting = self.waiting.iter();
        let mut due: Vec<(u64, &Id)> = waiting
            .filter_map(|(id, due)| Some(((*due)?, id)))
            .filter(|(due, _)| *due <= now_ms)
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// Returns what waits for approval, the oldest first: ids grow with time.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Id> {
        let pending = self.waiting.iter().filter(|(_, due)| due.is_none());
        pending.map(|(id, _)| id)
    }

    /// Returns when one more can be published after so many others; a time that is past for now.
    pub(crate) fn free_at(&self, per_hour: usize, ahead: usize, now_ms: u64) -> u64 {
        match (self.published.len() + ahead).checked_sub(per_hour) {
            None => 0,
            Some(last) => self.published.get(last).unwrap_or(&now_ms) + HOUR,
        }
    }

    /// Has an announcement wait, for approval where no time is given.
    pub(crate) fn wait(&mut self, id: &Id, due: Option<u64>, now_ms: u64) -> Result<()> {
        if self.waiting.len() >= WAITING && !self.waiting.contains_key(id) {
            let next = self.waiting.values().flatten().min();
            let wait = next.map_or(HOUR, |next| next.saturating_sub(now_ms).clamp(1, HOUR));
            let message = format!("{WAITING} announcements of this course wait already");
            return Err(Error::rate_limited(message, wait));
        }
        self.waiting.insert(id.clone(), due);
        Ok(())
    }

    /// Takes out an announcement that does not wait any more.
    pub(crate) fn remove(&mut self, id: &Id) {
        self.waiting.remove(id);
    }

    /// Counts an announcement that is published now.
    pub(crate) fn publish(&mut self, id: &Id, now_ms: u64) {
        self.remove(id);
        self.published.retain(|at| at + 2 * HOUR > now_ms);
        self.published.push(now_ms);
        self.published.sort_unstable();
    }
}

fn key(course: &Id) -> String {
    format!("schedule:{course}")
}
