//! Histories and timers in native code, with the semantics that the host has.

use super::world::{Faulty, World, ask_or_fault, name, page};
use crate::error::Fault;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Bytes of an entry or a payload.
const VALUE_BYTES: usize = 65_536;
/// The shortest time after which a timer repeats, in milliseconds.
const SHORTEST_REPEAT_MS: u64 = 1_000;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    id: String,
    at_ms: u64,
    key: Option<String>,
    entry: Value,
    amended: Option<u64>,
    redacted: Option<u64>,
}

/// The history of one partition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct History {
    /// The position of the first record.
    first: u64,
    records: Vec<Record>,
    count: Option<u64>,
    age_ms: Option<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            first: 1,
            records: Vec::new(),
            count: None,
            age_ms: None,
        }
    }
}

impl History {
    /// Returns the records that are kept, with their positions.
    fn kept(&self, now_ms: u64) -> Vec<(u64, &Record)> {
        let count = self.count.and_then(|count| usize::try_from(count).ok());
        let skipped = count.map_or(0, |count| self.records.len().saturating_sub(count));
        let young = |record: &Record| {
            self.age_ms
                .is_none_or(|age| record.at_ms.saturating_add(age) > now_ms)
        };
        (self.first..)
            .zip(&self.records)
            .skip(skipped)
            .filter(|(_, record)| young(record))
            .collect()
    }

    fn trim(&mut self, now_ms: u64) {
        let gone = match self.kept(now_ms).first() {
            Some((position, _)) => position - self.first,
            None => self.records.len() as u64,
        };
        self.records.drain(..usize::try_from(gone).unwrap_or(0));
        self.first += gone;
    }
}

/// A timer that waits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timer {
    pub(super) due_ms: u64,
    pub(super) every_ms: Option<u64>,
    pub(super) payload: Value,
}

fn json_of(what: &str, text: &str) -> Faulty<Value> {
    if text.len() > VALUE_BYTES {
        return Err(Fault::TooLarge(format!(
            "{what} of {} bytes, of at most {VALUE_BYTES}",
            text.len()
        )));
    }
    serde_json::from_str(text)
        .map_err(|error| Fault::Invalid(format!("{what} that is not JSON: {error}")))
}

fn shown(position: u64, record: &Record) -> Value {
    let mut shown = json!({
        "position": position, "id": record.id, "at": record.at_ms, "entry": record.entry,
    });
    for (name, at) in [("amended", record.amended), ("redacted", record.redacted)] {
        if let (Some(at), Some(shown)) = (at, shown.as_object_mut()) {
            shown.insert(name.to_owned(), at.into());
        }
    }
    shown
}

impl World {
    /// Returns a history with what the handler has staged.
    fn history(&self, partition: &str) -> History {
        let staged = &self.staged.histories;
        staged
            .get(partition)
            .or_else(|| self.histories.get(partition))
            .cloned()
            .unwrap_or_default()
    }

    fn stage_history(
        &mut self,
        partition: &str,
        bytes: usize,
        change: impl FnOnce(&mut History),
    ) -> Faulty<()> {
        self.write_in(partition, bytes)?;
        let mut history = self.history(partition);
        change(&mut history);
        self.staged.histories.insert(partition.to_owned(), history);
        Ok(())
    }

    pub(super) fn timer(&self, partition: &str, name: &str) -> Option<&Timer> {
        let place = (partition.to_owned(), name.to_owned());
        let staged = self.staged.timers.get(&place);
        staged.map_or_else(|| self.timers.get(&place), Option::as_ref)
    }

    fn stage_timer(
        &mut self,
        partition: &str,
        timer_name: &str,
        bytes: usize,
        timer: Option<Timer>,
    ) -> Faulty<()> {
        self.needs("timers")?;
        name("timer", timer_name)?;
        self.write_in(partition, bytes + timer_name.len())?;
        let place = (partition.to_owned(), timer_name.to_owned());
        if !self.staged.timers.contains_key(&place) {
            self.count_write()?;
        }
        self.staged.timers.insert(place, timer);
        Ok(())
    }

    /// Commits staged histories and timers; that of a timer which is being handled goes away, or is
    /// set for the next time, unless its handler has said something else.
    pub(super) fn commit_state(&mut self, staged: super::world::Staged) {
        for (partition, mut history) in staged.histories {
            history.trim(self.now_ms);
            self.histories.insert(partition, history);
        }
        if let Some(place) = self.firing.take()
            && !staged.timers.contains_key(&place)
            && let Some(fired) = self.timers.remove(&place)
            && let Some(every) = fired.every_ms
        {
            let times = (self.now_ms - fired.due_ms) / every + 1;
            let due_ms = fired.due_ms + every * times;
            self.timers.insert(place, Timer { due_ms, ..fired });
        }
        for (place, timer) in staged.timers {
            match timer {
                Some(timer) => self.timers.insert(place, timer),
                None => self.timers.remove(&place),
            };
        }
    }

    /// Returns the timer that is due first by a time.
    pub(super) fn next_timer(&self, by_ms: u64) -> Option<((String, String), Timer)> {
        let due = self
            .timers
            .iter()
            .filter(|(_, timer)| timer.due_ms <= by_ms);
        due.min_by_key(|(_, timer)| timer.due_ms)
            .map(|(place, timer)| (place.clone(), timer.clone()))
    }

    /// Returns what is committed of a history.
    pub(super) fn committed_history(&self, partition: &str) -> Vec<Value> {
        let history = self.histories.get(partition).cloned().unwrap_or_default();
        let kept = history.kept(self.now_ms);
        kept.into_iter()
            .map(|(position, record)| shown(position, record))
            .collect()
    }
}

pub(crate) fn history_append(
    partition: &str,
    entry: &str,
    key: Option<&str>,
) -> Faulty<(String, bool)> {
    ask_or_fault(|world| {
        world.needs("history")?;
        let value = json_of("an entry", entry)?;
        if let Some(key) = key {
            name("idempotency key", key)?;
            if key.contains(char::is_control) {
                return Err(Fault::Invalid(
                    "idempotency key: control characters are not allowed".to_owned(),
                ));
            }
            world.count_reads(1)?;
            let history = world.history(partition);
            let known = history
                .records
                .iter()
                .find(|record| record.key.as_deref() == Some(key));
            if let Some(known) = known {
                return Ok((known.id.clone(), false));
            }
        }
        let number = world
            .histories
            .values()
            .map(|history| history.first + history.records.len() as u64)
            .sum::<u64>()
            + world.staged.appended;
        world.staged.appended += 1;
        let id = format!("0192f0c1-2345-7000-9000-{number:012x}");
        let now_ms = world.now_ms;
        let record = Record {
            id: id.clone(),
            at_ms: now_ms,
            key: key.map(str::to_owned),
            entry: value,
            amended: None,
            redacted: None,
        };
        world.count_write()?;
        world.stage_history(partition, entry.len(), |history| {
            history.records.push(record);
        })?;
        Ok((id, true))
    })
}

pub(crate) fn history_retain(
    partition: &str,
    count: Option<u64>,
    age_ms: Option<u64>,
) -> Faulty<()> {
    ask_or_fault(|world| {
        world.needs("history")?;
        if age_ms == Some(0) {
            return Err(Fault::Invalid("age-ms: expected at least 1".to_owned()));
        }
        world.stage_history(partition, 0, |history| {
            (history.count, history.age_ms) = (count, age_ms);
        })
    })
}

pub(crate) fn history_page(
    partition: &str,
    before: Option<u64>,
    after: Option<u64>,
    limit: u32,
) -> Faulty<String> {
    ask_or_fault(|world| {
        world.needs("history")?;
        name("partition", partition)?;
        if before.is_some() && after.is_some() {
            return Err(Fault::Invalid(
                "before, after: expected one of them".to_owned(),
            ));
        }
        let history = world.history(partition);
        let mut found = history.kept(world.now_ms);
        found.retain(|(position, _)| {
            before.is_none_or(|before| *position < before)
                && after.is_none_or(|after| *position > after)
        });
        if after.is_none() {
            found.reverse();
        }
        let found = page(found.into_iter(), limit)?;
        world.count_reads(found.len().max(1))?;
        let entries: Vec<Value> = found
            .into_iter()
            .map(|(position, record)| shown(position, record))
            .collect();
        Ok(json!(entries).to_string())
    })
}

pub(crate) fn history_get(partition: &str, id: &str) -> Faulty<Option<String>> {
    ask_or_fault(|world| {
        world.needs("history")?;
        world.count_reads(2)?;
        let history = world.history(partition);
        let kept = history.kept(world.now_ms);
        let found = kept.into_iter().find(|(_, record)| record.id == id);
        Ok(found.map(|(position, record)| shown(position, record).to_string()))
    })
}

fn change(partition: &str, id: &str, entry: Option<&str>) -> Faulty<bool> {
    ask_or_fault(|world| {
        world.needs("history")?;
        let value = entry.map(|entry| json_of("an entry", entry)).transpose()?;
        world.write_in(partition, entry.map_or(0, str::len))?;
        world.count_reads(2)?;
        let (history, now_ms) = (world.history(partition), world.now_ms);
        let kept = history.kept(now_ms);
        let found = kept.into_iter().find(|(_, record)| record.id == id);
        if found.is_none_or(|(_, record)| record.redacted.is_some()) {
            return Ok(false);
        }
        world.stage_history(partition, 0, |history| {
            let records = history.records.iter_mut();
            for record in records.filter(|record| record.id == id) {
                match &value {
                    Some(_) => record.amended = Some(now_ms),
                    None => (record.amended, record.redacted) = (None, Some(now_ms)),
                }
                record.entry = value.clone().unwrap_or_default();
            }
        })?;
        Ok(true)
    })
}

pub(crate) fn history_amend(partition: &str, id: &str, entry: &str) -> Faulty<bool> {
    change(partition, id, Some(entry))
}

pub(crate) fn history_redact(partition: &str, id: &str) -> Faulty<bool> {
    change(partition, id, None)
}

pub(crate) fn history_count(partition: &str) -> Faulty<u64> {
    ask_or_fault(|world| {
        world.needs("history")?;
        name("partition", partition)?;
        world.count_reads(1)?;
        Ok(world.history(partition).kept(world.now_ms).len() as u64)
    })
}

pub(crate) fn timers_schedule(
    partition: &str,
    name: &str,
    due_ms: u64,
    payload: &str,
    every_ms: Option<u64>,
) -> Faulty<()> {
    ask_or_fault(|world| {
        let value = json_of("a payload", payload)?;
        if every_ms.is_some_and(|every| every < SHORTEST_REPEAT_MS) {
            return Err(Fault::Invalid(format!(
                "every-ms: expected at least {SHORTEST_REPEAT_MS}"
            )));
        }
        let timer = Timer {
            due_ms,
            every_ms,
            payload: value,
        };
        world.stage_timer(partition, name, payload.len(), Some(timer))
    })
}

pub(crate) fn timers_cancel(partition: &str, name: &str) -> Faulty<()> {
    ask_or_fault(|world| world.stage_timer(partition, name, 0, None))
}

pub(crate) fn timers_get(partition: &str, timer: &str) -> Faulty<Option<String>> {
    ask_or_fault(|world| {
        world.needs("timers")?;
        name("partition", partition)?;
        world.count_reads(1)?;
        let found = world.timer(partition, timer);
        Ok(found.map(|timer| {
            json!({ "due": timer.due_ms, "every": timer.every_ms, "payload": timer.payload })
                .to_string()
        }))
    })
}

/// All timers of a world.
pub(super) type Timers = BTreeMap<(String, String), Timer>;
