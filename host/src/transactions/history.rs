//! A handler's view of histories.

use super::{
    bounds::{check_json, check_name, check_page},
    transaction::Transaction,
};
use crate::{
    core::{
        event::fresh_id,
        state::{
            EXTENT, Extent, Mark, RECORDS, Record, Retention, id_name, once_name, position_of,
            record_name,
        },
    },
    ports::{Appended, Entry, Fault, HistoryAccess, Page, Range, Write},
};
use futures_util::future::BoxFuture;

/// Bytes of what a record holds besides the plugin's own.
const RECORD_BYTES: usize = 64;

impl Transaction {
    /// Returns the extent of a history with what is staged for it, but without staged entries.
    async fn extent(&self, partition: &str) -> Result<Extent, Fault> {
        let text = self.current(partition, EXTENT).await?;
        let mut extent = text
            .and_then(|text| Extent::parse(&text))
            .unwrap_or_default();
        let work = self.work.lock();
        if work.written.as_deref() == Some(partition)
            && let Some(retention) = work.history.retention
        {
            extent.retention = retention;
        }
        Ok(extent)
    }

    /// Returns the entries that are staged, as they will be if this handler commits.
    fn staged_entries(&self, partition: &str, extent: &Extent) -> Vec<Entry> {
        let work = self.work.lock();
        if work.written.as_deref() != Some(partition) {
            return Vec::new();
        }
        let at_ms = extent.last_ms.max(self.at_ms);
        let records = work.history.appends.iter().zip(extent.next..);
        records
            .filter_map(|((_, _, record), position)| {
                let record = Record::parse(&format!("{at_ms} {record}"))?;
                Some(entry(position, record))
            })
            .collect()
    }

    /// Tells whether an entry is within what is kept.
    fn is_kept(&self, extent: &Extent, entry: &Entry) -> bool {
        entry.position >= extent.first_counted() && !extent.is_too_old(entry.at_ms, self.at_ms)
    }

    /// Returns the position of the oldest entry that is kept. Times do not decrease with positions.
    async fn first_kept(&self, partition: &str, extent: &Extent) -> Result<u64, Fault> {
        let (mut low, mut high) = (extent.first_counted(), extent.next);
        if extent.retention.age_ms.is_none() {
            return Ok(low);
        }
        // Most often the oldest that is stored is kept, so it is asked for first.
        let mut probe = low;
        while low < high {
            let text = self.current(partition, &record_name(probe)).await?;
            let record = text.and_then(|text| Record::parse(&text));
            if record.is_some_and(|record| !extent.is_too_old(record.at_ms, self.at_ms)) {
                high = probe;
            } else {
                low = probe + 1;
            }
            probe = low + (high - low) / 2;
        }
        Ok(low)
    }

    /// Tells whether a stored entry is within what is kept.
    async fn is_seen(&self, partition: &str, id: &str) -> Result<bool, Fault> {
        let Some(entry) = self.stored_entry(partition, id).await? else {
            return Ok(false);
        };
        let extent = self.extent(partition).await?;
        Ok(self.is_kept(&extent, &entry))
    }

    async fn stored_entry(&self, partition: &str, id: &str) -> Result<Option<Entry>, Fault> {
        let Some(name) = self.current(partition, &id_name(id)).await? else {
            return Ok(None);
        };
        let Some(text) = self.current(partition, &name).await? else {
            return Ok(None);
        };
        let record = position_of(&name).zip(Record::parse(&text));
        Ok(record.map(|(position, record)| entry(position, record)))
    }
}

fn entry(position: u64, record: Record) -> Entry {
    Entry {
        position,
        id: record.id,
        at_ms: record.at_ms,
        mark: record.mark,
        entry: record.entry,
    }
}

fn check_once(key: &str) -> Result<(), Fault> {
    check_name("idempotency key", key)?;
    if key.contains(char::is_control) {
        let why = "idempotency key: control characters are not allowed";
        return Err(Fault::new("INVALID", why));
    }
    Ok(())
}

impl HistoryAccess for Transaction {
    fn append<'a>(
        &'a self,
        partition: &'a str,
        entry: String,
        key: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Appended, Fault>> {
        Box::pin(async move {
            check_name("partition", partition)?;
            check_json("an entry", &entry)?;
            if let Some(key) = key {
                check_once(key)?;
                self.work.lock().count_reads(1)?;
                let staged = {
                    let work = self.work.lock();
                    let here = work.written.as_deref() == Some(partition);
                    let with_key = |(_, once, _): &&(String, Option<String>, String)| {
                        once.as_deref() == Some(key)
                    };
                    here.then(|| work.history.appends.iter().find(with_key))
                        .flatten()
                        .map(|(id, ..)| id.clone())
                };
                let known = match staged {
                    Some(id) => Some(id),
                    None => match self.current(partition, &once_name(key)).await? {
                        Some(id) if self.is_seen(partition, &id).await? => Some(id),
                        _ => None,
                    },
                };
                if let Some(id) = known {
                    return Ok(Appended { id, is_new: false });
                }
            }
            let id = fresh_id(self.at_ms).to_string();
            let bytes = entry.len() + key.map_or(0, str::len) * 2 + RECORD_BYTES;
            let record = Record::untimed(&id, Mark::Original, key.unwrap_or_default(), &entry);
            let mut work = self.work_on(partition, bytes)?;
            work.count_write()?;
            let append = (id.clone(), key.map(str::to_owned), record);
            work.history.appends.push(append);
            Ok(Appended { id, is_new: true })
        })
    }

    fn retain(&self, partition: &str, retention: Retention) -> Result<(), Fault> {
        if retention.age_ms == Some(0) {
            return Err(Fault::new("INVALID", "age-ms: expected at least 1"));
        }
        self.work_on(partition, 0)?.history.retention = Some(retention);
        Ok(())
    }

    fn page<'a>(
        &'a self,
        partition: &'a str,
        page: Page,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Entry>, Fault>> {
        Box::pin(async move {
            check_name("partition", partition)?;
            let limit = check_page(limit)?;
            let extent = self.extent(partition).await?;
            let (from, backwards) = match page {
                Page::Before(from) => (from, true),
                Page::After(from) => (from, false),
            };
            // What is not kept any more is not there, also while it is still stored.
            let first = self.first_kept(partition, &extent).await?;
            let from = match page {
                Page::Before(_) => from,
                Page::After(_) => Some(from.unwrap_or(0).max(first.saturating_sub(1))),
            };
            let range = Range {
                prefix: RECORDS.to_owned(),
                after: from.map(record_name),
                limit,
                backwards,
            };
            let found = self.range(partition, range).await?;
            self.work.lock().count_reads(found.len().max(1))?;
            let mut entries = Vec::with_capacity(found.len());
            for (name, found) in found {
                let text = match self.staged(partition, &name) {
                    Some(Write::Set(text, _)) => text,
                    _ => found.value,
                };
                let record = position_of(&name).zip(Record::parse(&text));
                entries.extend(record.map(|(position, record)| entry(position, record)));
            }
            entries.retain(|entry| self.is_kept(&extent, entry));
            let staged = self.staged_entries(partition, &extent).into_iter();
            let staged = staged.filter(|entry| match page {
                Page::Before(from) => from.is_none_or(|from| entry.position < from),
                Page::After(from) => from.is_none_or(|from| entry.position > from),
            });
            if backwards {
                let mut all: Vec<Entry> = staged.collect();
                all.reverse();
                all.append(&mut entries);
                entries = all;
            } else {
                entries.extend(staged);
            }
            entries.truncate(limit);
            Ok(entries)
        })
    }

    fn entry<'a>(
        &'a self,
        partition: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Entry>, Fault>> {
        Box::pin(async move {
            check_name("partition", partition)?;
            check_name("id", id)?;
            self.work.lock().count_reads(2)?;
            if let Some(found) = self.stored_entry(partition, id).await? {
                let extent = self.extent(partition).await?;
                return Ok(Some(found).filter(|entry| self.is_kept(&extent, entry)));
            }
            let is_staged = {
                let work = self.work.lock();
                work.written.as_deref() == Some(partition)
                    && work.history.appends.iter().any(|(staged, ..)| staged == id)
            };
            if !is_staged {
                return Ok(None);
            }
            let extent = self.extent(partition).await?;
            let staged = self.staged_entries(partition, &extent);
            Ok(staged.into_iter().find(|entry| entry.id == id))
        })
    }

    fn change<'a>(
        &'a self,
        partition: &'a str,
        id: &'a str,
        entry: Option<String>,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            check_name("id", id)?;
            if let Some(entry) = &entry {
                check_json("an entry", entry)?;
            }
            let mark = match &entry {
                Some(_) => Mark::Amended(self.at_ms),
                None => Mark::Redacted(self.at_ms),
            };
            let text = entry.unwrap_or_else(|| "null".to_owned());
            {
                let mut work = self.work_on(partition, text.len() + RECORD_BYTES)?;
                let mut staged = work.history.appends.iter_mut();
                if let Some((_, key, record)) = staged.find(|(staged, ..)| staged == id) {
                    let is_redacted = Record::parse(&format!("0 {record}"))
                        .is_some_and(|record| matches!(record.mark, Mark::Redacted(_)));
                    if !is_redacted {
                        let key = key.clone().unwrap_or_default();
                        *record = Record::untimed(id, mark, &key, &text);
                    }
                    return Ok(!is_redacted);
                }
                work.count_reads(2)?;
            }
            let Some(name) = self.current(partition, &id_name(id)).await? else {
                return Ok(false);
            };
            let record = self.current(partition, &name).await?;
            let Some(record) = record.and_then(|text| Record::parse(&text)) else {
                return Ok(false);
            };
            if matches!(record.mark, Mark::Redacted(_)) {
                return Ok(false);
            }
            let extent = self.extent(partition).await?;
            let position = position_of(&name).unwrap_or(0);
            if !self.is_kept(&extent, &self::entry(position, record.clone())) {
                return Ok(false);
            }
            let is_redaction = matches!(mark, Mark::Redacted(_));
            let record = Record {
                mark,
                entry: text,
                ..record
            };
            self.stage(partition, name.clone(), 0, |_| {
                Ok(Write::Set(record.to_string(), None))
            })?;
            if is_redaction {
                self.work.lock().redactions.insert(name);
            }
            Ok(true)
        })
    }

    fn count<'a>(&'a self, partition: &'a str) -> BoxFuture<'a, Result<u64, Fault>> {
        Box::pin(async move {
            check_name("partition", partition)?;
            self.work.lock().count_reads(1)?;
            let extent = self.extent(partition).await?;
            let stored = extent.next - self.first_kept(partition, &extent).await?;
            let staged = self.staged_entries(partition, &extent).len() as u64;
            let most = extent.retention.count.unwrap_or(u64::MAX);
            Ok((stored + staged).min(most))
        })
    }
}
