//! The thread that writes.

use super::{
    ENTRIES, EXPIRING, Job, KEEP_EXPIRED_MS, NEVER, OwnedCommit, PARTITIONS, Shared, VERSIONS,
    is_live, name_of, open_file, visit, with_key,
};
use crate::{
    ports::{Commit, CommitError, PartitionOf, Range, Version},
    store::decide::{Entries, Live, Undecided, decide},
};
use redb::{Durability, ReadableTable, StorageError, Table};
use std::{borrow::Cow, path::PathBuf};
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
}

type EntryTable<'t> = Table<'t, &'static [u8], (u64, u64, u64, &'static str)>;

struct Tables<'t> {
    entries: EntryTable<'t>,
    partitions: Table<'t, &'static [u8], (u64, u64, u64)>,
    expiring: Table<'t, (u64, &'static [u8]), u32>,
}

/// One partition within the writer's transaction.
struct OpenPartition<'a, 't> {
    name: &'a [u8],
    entries: &'a EntryTable<'t>,
}

impl Entries for OpenPartition<'_, '_> {
    type Error = StorageError;

    fn live(&self, key: &str, at_ms: u64) -> Result<Option<Live<'_>>, StorageError> {
        let name = with_key(self.name, key);
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
        keys: &[(String, Version)],
    ) -> Result<bool, StorageError> {
        let mut expected = keys.iter();
        let mut same = true;
        visit(self.entries, self.name, range, at_ms, |key, version, _| {
            same = expected
                .next()
                .is_some_and(|(expected, seen)| expected == key && *seen == version);
            same
        })?;
        Ok(same && expected.next().is_none())
    }
}

type Answer = (
    oneshot::Sender<Result<u64, CommitError>>,
    Result<u64, CommitError>,
);

impl Writer {
    pub(super) fn run(self, mut jobs: mpsc::Receiver<Job>) {
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
    fn write(&self, batch: Vec<Job>) {
        let mut answers = Vec::with_capacity(batch.len());
        let written = self.try_write(batch, &mut answers);
        let failure = written.err().map(|error| {
            tracing::error!(file = %self.file.display(), %error, "state cannot be written");
            self.open_again();
            CommitError::Unavailable(format!("the state cannot be written: {error}"))
        });
        for (answer, outcome) in answers {
            // Nothing of the batch is there when the transaction as a whole has failed.
            let outcome = match (&failure, outcome) {
                (Some(failure), Ok(_)) => Err(failure.clone()),
                (_, outcome) => outcome,
            };
            answer.send(outcome).ok();
        }
    }

    fn try_write(&self, batch: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), redb::Error> {
        let mut commits = Vec::with_capacity(batch.len());
        let mut versions = Vec::new();
        for job in batch {
            match job {
                // Fails with the batch unless it is decided below.
                Job::Commit(commit, answer) => {
                    answers.push((answer, Ok(0)));
                    commits.push(commit);
                }
                Job::Version(plugin, version) => versions.push((plugin, version)),
            }
        }
        let database = self.database.read();
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        transaction
            .set_durability(self.durability)
            .map_err(redb::Error::from)?;
        let mut changed = !versions.is_empty();
        {
            let mut tables = Tables {
                entries: transaction.open_table(ENTRIES)?,
                partitions: transaction.open_table(PARTITIONS)?,
                expiring: transaction.open_table(EXPIRING)?,
            };
            for (commit, (_, outcome)) in commits.iter().zip(answers.iter_mut()) {
                *outcome = tables.apply(commit)?;
                changed |= outcome.is_ok();
            }
            let now = commits.iter().map(|commit| commit.at_ms).max();
            changed |= tables.purge(now.unwrap_or(0).saturating_sub(KEEP_EXPIRED_MS))?;
            let mut table = transaction.open_table(VERSIONS)?;
            for (plugin, version) in versions {
                table.insert(plugin.as_str(), version)?;
            }
        }
        if changed {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(())
    }

    /// After a failure to write, the file takes nothing more until it is opened anew.
    fn open_again(&self) {
        let mut database = self.database.write();
        database.take();
        match open_file(&self.file) {
            Ok(opened) => *database = Some(opened),
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "state cannot be opened again");
            }
        }
    }
}

impl Tables<'_> {
    fn apply(&mut self, commit: &OwnedCommit) -> Result<Result<u64, CommitError>, StorageError> {
        let name = name_of(&commit.plugin, &commit.partition);
        let partition = OpenPartition {
            name: &name,
            entries: &self.entries,
        };
        let borrowed = Commit {
            partition: PartitionOf {
                plugin: &commit.plugin,
                name: &commit.partition,
            },
            at_ms: commit.at_ms,
            seen: &commit.seen,
            writes: &commit.writes,
        };
        let changes = match decide(&partition, &borrowed) {
            Ok(changes) => changes,
            Err(Undecided::Refused(error)) => return Ok(Err(error)),
            Err(Undecided::Failed(error)) => return Err(error),
        };
        let known = self.partitions.get(name.as_slice())?;
        let (epoch, number, mut count) =
            known.map_or_else(|| (rand::random(), 0, 0), |known| known.value());
        let number = number + 1;
        for (key, to) in changes {
            let entry = with_key(&name, key);
            let before = match &to {
                Some((value, expires_at)) => {
                    let expires_at = expires_at.unwrap_or(NEVER);
                    if expires_at != NEVER {
                        let partition_bytes = u32::try_from(name.len()).unwrap_or(u32::MAX);
                        self.expiring
                            .insert((expires_at, entry.as_slice()), partition_bytes)?;
                    }
                    self.entries
                        .insert(entry.as_slice(), (epoch, number, expires_at, &**value))?
                        .map(|before| before.value().2)
                }
                None => self
                    .entries
                    .remove(entry.as_slice())?
                    .map(|before| before.value().2),
            };
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
        Ok(Ok(number))
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
