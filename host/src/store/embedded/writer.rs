//! The thread that writes.

use super::{
    Job, Notes, OwnedCommit, Shared, open_file, prepare,
    tables::{
        ENTRIES, EXPIRING, NEVER, OUTGOING, PARTITIONS, TIMERS, VERSIONS, is_live, name_of, visit,
        with_name,
    },
};
use crate::{
    core::state::TIMER,
    ports::{CommitError, Committed, Growth, Range, Unsent, Version},
    store::{
        decide::{Entries, KEEP_EXPIRED_MS, Live, Undecided, decide},
        timers::TimerIndex,
    },
};
use parking_lot::Mutex;
use redb::{Durability, ReadableTable, StorageError, Table};
use std::{borrow::Cow, path::PathBuf, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// Commits that one sync makes durable at most, so that none waits long for the others.
const BATCH: usize = 1_024;
/// How many expired entries one batch removes.
const PURGE_ENTRIES: usize = 1_000;

/// Writes what comes, for as long as somebody has the store.
pub(super) struct Writer {
    pub(super) file: PathBuf,
    pub(super) database: Shared,
    pub(super) durability: Durability,
    pub(super) notes: Arc<Mutex<Notes>>,
    pub(super) timers: Arc<TimerIndex>,
    /// What was found unsent.
    pub(super) unsent: Arc<Mutex<Vec<Unsent>>>,
    /// The place of the next commit; greater than that of any which is unsent.
    pub(super) next_place: u64,
    /// The place from which on it is not known what is in the file.
    pub(super) doubtful: Option<u64>,
}

type EntryTable<'t> = Table<'t, &'static [u8], (u64, u64, u64, &'static str)>;

struct Tables<'t> {
    entries: EntryTable<'t>,
    partitions: Table<'t, &'static [u8], (u64, u64, u64)>,
    expiring: Table<'t, (u64, &'static [u8]), u32>,
    timers: Table<'t, &'static [u8], u32>,
    /// The timers that were written, for the index once it is certain.
    wrote: Vec<WroteTimer>,
}

/// Which commit of the batch, and the timer's name and text.
type WroteTimer = (usize, String, Option<String>);

/// One partition within the writer's transaction.
struct OpenPartition<'a, 't> {
    name: &'a [u8],
    entries: &'a EntryTable<'t>,
}

impl Entries for OpenPartition<'_, '_> {
    type Error = StorageError;

    fn live(&self, name: &str, at_ms: u64) -> Result<Option<Live<'_>>, StorageError> {
        let name = with_name(self.name, name);
        let entry = self.entries.get(name.as_slice())?;
        Ok(entry.and_then(|entry| {
            let (epoch, number, expires_at, value) = entry.value();
            is_live(expires_at, at_ms).then(|| Live {
                value: Cow::Owned(value.to_owned()),
                version: Version { epoch, number },
                expires_at: (expires_at != NEVER).then_some(expires_at),
            })
        }))
    }

    fn range_is(
        &self,
        range: &Range,
        at_ms: u64,
        names: &[(String, Version)],
    ) -> Result<bool, StorageError> {
        let mut expected = names.iter();
        let mut same = true;
        visit(self.entries, self.name, range, at_ms, |name, version, _| {
            same = expected
                .next()
                .is_some_and(|(expected, seen)| expected == name && *seen == version);
            same
        })?;
        Ok(same && expected.next().is_none())
    }
}

type Answer = (
    oneshot::Sender<Result<Committed, CommitError>>,
    Result<Committed, CommitError>,
);

impl Writer {
    pub(super) fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            self.write(batch);
        }
        // Everybody has let go of the store: the file is closed with its last owner.
        self.database.write().take();
    }

    /// Writes a batch, and answers everybody in it.
    fn write(&mut self, batch: Vec<Job>) {
        let (mut commits, mut answers, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        for job in batch {
            match job {
                Job::Commit(commit, answer) => {
                    // Decided below, or failed with the whole batch.
                    answers.push((answer, Err(CommitError::Conflict)));
                    commits.push(commit);
                }
                Job::Notes => {}
                Job::Flush(flushed) => flushes.push(flushed),
            }
        }
        let notes = self.notes.lock().clone();
        let first_place = self.next_place;
        let failure = match self.try_write(&commits, &notes, &mut answers) {
            Ok(wrote) => {
                self.forget(&notes);
                for (commit, name, text) in wrote {
                    if let Some(commit) = commits.get(commit) {
                        let partition = commit.borrow().partition;
                        self.timers.wrote(partition, &name, text.as_deref());
                    }
                }
                None
            }
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "state cannot be written");
                self.open_again(first_place);
                let why = format!("the state cannot be written: {error}");
                Some(CommitError::Unavailable(why))
            }
        };
        for (answer, outcome) in answers {
            // Nothing of the batch is there when the transaction as a whole has failed.
            answer.send(failure.clone().map_or(outcome, Err)).ok();
        }
        for flushed in flushes {
            flushed.send(()).ok();
        }
    }

    /// Forgets notes that are written, unless there is something newer.
    fn forget(&self, written: &Notes) {
        let mut notes = self.notes.lock();
        notes
            .versions
            .retain(|plugin, version| written.versions.get(plugin) != Some(version));
        notes.sent.retain(|place| !written.sent.contains(place));
    }

    fn try_write(
        &mut self,
        commits: &[OwnedCommit],
        notes: &Notes,
        answers: &mut [Answer],
    ) -> Result<Vec<WroteTimer>, redb::Error> {
        let database = self.database.read();
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        transaction
            .set_durability(self.durability)
            .map_err(redb::Error::from)?;
        let mut changed = !notes.versions.is_empty() || !notes.sent.is_empty();
        let wrote = {
            let mut tables = Tables {
                entries: transaction.open_table(ENTRIES)?,
                partitions: transaction.open_table(PARTITIONS)?,
                expiring: transaction.open_table(EXPIRING)?,
                timers: transaction.open_table(TIMERS)?,
                wrote: Vec::new(),
            };
            let mut outgoing = transaction.open_table(OUTGOING)?;
            for place in &notes.sent {
                outgoing.remove(place)?;
            }
            for (index, (commit, (_, outcome))) in
                commits.iter().zip(answers.iter_mut()).enumerate()
            {
                *outcome = match tables.apply(index, commit)? {
                    Err(refused) => Err(refused),
                    Ok(growth) => {
                        changed = true;
                        let place = self.next_place;
                        self.next_place += 1;
                        if let Some(text) = &commit.outgoing {
                            let text = (commit.plugin.as_str(), &*commit.partition, &**text);
                            outgoing.insert(place, text)?;
                        }
                        Ok(Committed { place, growth })
                    }
                };
            }
            let now = commits.iter().map(|commit| commit.at_ms).max();
            changed |= tables.purge(now.unwrap_or(0).saturating_sub(KEEP_EXPIRED_MS))?;
            let mut table = transaction.open_table(VERSIONS)?;
            for (plugin, version) in &notes.versions {
                table.insert(plugin.as_str(), version)?;
            }
            tables.wrote
        };
        if changed {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(wrote)
    }

    /// After a failure to write, the file takes nothing more until it is opened anew. What failed may
    /// be in it all the same, when the failure came last: then its timers fire, and what it wanted
    /// sent is.
    pub(super) fn open_again(&mut self, first_place: u64) {
        let first_place = *self.doubtful.get_or_insert(first_place);
        let mut database = self.database.write();
        database.take();
        let opened = open_file(&self.file).map_err(redb::Error::from);
        match opened.and_then(|opened| Ok((prepare(&opened)?, opened))) {
            Ok((mut found, opened)) => {
                self.timers.replace_by(found.timers);
                // What came before was sent by this host, though that may not be written.
                found.unsent.retain(|unsent| unsent.place >= first_place);
                self.unsent.lock().extend(found.unsent);
                *database = Some(opened);
                self.doubtful = None;
            }
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "state cannot be opened again");
            }
        }
    }
}

impl Tables<'_> {
    fn apply(
        &mut self,
        index: usize,
        commit: &OwnedCommit,
    ) -> Result<Result<Growth, CommitError>, StorageError> {
        let name = name_of(&commit.plugin, &commit.partition);
        let partition_bytes = u32::try_from(name.len()).unwrap_or(u32::MAX);
        let partition = OpenPartition {
            name: &name,
            entries: &self.entries,
        };
        let borrowed = commit.borrow();
        let changes = match decide(&partition, &borrowed) {
            Ok(changes) => changes,
            Err(Undecided::Refused(error)) => return Ok(Err(error)),
            Err(Undecided::Failed(error)) => return Err(error),
        };
        let known = self.partitions.get(name.as_slice())?;
        let (epoch, number, mut count) =
            known.map_or_else(|| (rand::random(), 0, 0), |known| known.value());
        let number = number + 1;
        let mut growth = Growth::default();
        for (entry_name, to) in changes {
            let name_bytes = entry_name.len();
            growth.now(to.as_ref().map(|(text, _)| name_bytes + text.len()));
            let entry = with_name(&name, &entry_name);
            if entry_name.starts_with(TIMER) {
                let text = to.as_ref().map(|(text, _)| text.clone().into_owned());
                match &text {
                    Some(_) => self.timers.insert(entry.as_slice(), partition_bytes)?,
                    None => self.timers.remove(entry.as_slice())?,
                };
                self.wrote.push((index, entry_name.into_owned(), text));
            }
            let before = match &to {
                Some((value, expires_at)) => {
                    let expires_at = expires_at.unwrap_or(NEVER);
                    if expires_at != NEVER {
                        self.expiring
                            .insert((expires_at, entry.as_slice()), partition_bytes)?;
                    }
                    self.entries
                        .insert(entry.as_slice(), (epoch, number, expires_at, &**value))?
                        .map(|before| (before.value().2, before.value().3.len()))
                }
                None => self
                    .entries
                    .remove(entry.as_slice())?
                    .map(|before| (before.value().2, before.value().3.len())),
            };
            growth.before(before.map(|(_, text_bytes)| name_bytes + text_bytes));
            let before = before.map(|(expires_at, _)| expires_at);
            count = count + u64::from(to.is_some()) - u64::from(before.is_some());
            let now = to.and_then(|(_, expires_at)| expires_at).unwrap_or(NEVER);
            if let Some(before) = before
                && before != NEVER
                && before != now
            {
                self.expiring.remove((before, entry.as_slice()))?;
            }
        }
        self.count(&name, epoch, number, count)?;
        Ok(Ok(growth))
    }

    /// Notes how many entries a partition has. One without any begins anew, in another epoch.
    fn count(
        &mut self,
        name: &[u8],
        epoch: u64,
        number: u64,
        count: u64,
    ) -> Result<(), StorageError> {
        if count == 0 {
            self.partitions.remove(name)?;
        } else {
            self.partitions.insert(name, (epoch, number, count))?;
        }
        Ok(())
    }

    /// Removes some of what had expired by a time; tells whether there was anything.
    fn purge(&mut self, expired_by: u64) -> Result<bool, StorageError> {
        let mut expired = Vec::new();
        let end: (u64, &[u8]) = (expired_by.saturating_add(1), &[]);
        for entry in self.expiring.range(..end)?.take(PURGE_ENTRIES) {
            let (date, partition_bytes) = entry?;
            let (expires_at, name) = date.value();
            expired.push((expires_at, name.to_vec(), partition_bytes.value()));
        }
        for (expires_at, name, partition_bytes) in &expired {
            self.expiring.remove((*expires_at, name.as_slice()))?;
            self.entries.remove(name.as_slice())?;
            let partition = name.get(..*partition_bytes as usize).unwrap_or_default();
            let known = self.partitions.get(partition)?.map(|known| known.value());
            if let Some((epoch, number, count)) = known {
                self.count(partition, epoch, number, count.saturating_sub(1))?;
            }
        }
        Ok(!expired.is_empty())
    }
}
