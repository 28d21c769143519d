//! How the file is laid out.

use crate::{
    core::names::PluginName,
    ports::{Range, Version},
};
use redb::{ReadableTable, StorageError, TableDefinition};
use std::ops::Bound;

/// What the tables below mean. A file with another number is not this version's.
pub(super) const FORMAT: u64 = 2;

/// Under the empty name: the format.
pub(super) const FORMATS: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
/// An entry that never expires.
pub(super) const NEVER: u64 = u64::MAX;

/// By the name of the partition and that of the entry: the version's epoch and number, when it expires, and
/// the value.
pub(super) const ENTRIES: TableDefinition<'_, &[u8], (u64, u64, u64, &str)> =
    TableDefinition::new("entries");
/// By the name of the partition: its epoch, the number of its last commit, and its entries.
pub(super) const PARTITIONS: TableDefinition<'_, &[u8], (u64, u64, u64)> =
    TableDefinition::new("partitions");
/// When what expires: the partition's name is the first so many bytes of the entry's.
pub(super) const EXPIRING: TableDefinition<'_, (u64, &[u8]), u32> =
    TableDefinition::new("expiring");
/// By plugin: the version of its state that was written last.
pub(super) const VERSIONS: TableDefinition<'_, &str, u32> = TableDefinition::new("versions");

/// By the name of the partition and that of the entry, for each timer: how long the former is.
pub(super) const TIMERS: TableDefinition<'_, &[u8], u32> = TableDefinition::new("timers");
/// By the place of a commit: whose it is, where, and what it wants sent.
pub(super) const OUTGOING: TableDefinition<'_, u64, (&str, &str, &str)> =
    TableDefinition::new("outgoing");

/// Returns the bytes that the names of a partition's entries begin with. The name of a plugin has no
/// zero, and that of a partition is preceded by its length, so that no two begin alike.
pub(super) fn name_of(plugin: &PluginName, partition: &str) -> Vec<u8> {
    let length = u16::try_from(partition.len()).unwrap_or(u16::MAX);
    let mut name = Vec::with_capacity(plugin.as_str().len() + partition.len() + 64);
    name.extend(plugin.as_str().as_bytes());
    name.push(0);
    name.extend(length.to_be_bytes());
    name.extend(partition.as_bytes());
    name
}

pub(super) fn with_name(partition: &[u8], entry: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(partition.len() + entry.len());
    name.extend(partition);
    name.extend(entry.as_bytes());
    name
}

pub(super) fn is_live(expires_at: u64, at_ms: u64) -> bool {
    expires_at > at_ms
}

/// Returns the partition and the plugin of such bytes.
pub(super) fn parts_of(partition: &[u8]) -> Option<(PluginName, &str)> {
    let zero = partition.iter().position(|byte| *byte == 0)?;
    let (plugin, rest) = partition.split_at_checked(zero)?;
    let plugin = PluginName::new(std::str::from_utf8(plugin).ok()?).ok()?;
    Some((plugin, std::str::from_utf8(rest.get(3..)?).ok()?))
}

/// Returns the partition, the plugin and the name of an entry.
pub(super) fn whole_name(name: &[u8]) -> Option<(&str, PluginName, &str)> {
    let zero = name.iter().position(|byte| *byte == 0)?;
    let length: [u8; 2] = name.get(zero + 1..zero + 3)?.try_into().ok()?;
    let end = zero + 3 + usize::from(u16::from_be_bytes(length));
    let (plugin, partition) = parts_of(name.get(..end)?)?;
    Some((
        partition,
        plugin,
        std::str::from_utf8(name.get(end..)?).ok()?,
    ))
}

/// Visits the entries of a range that have not expired, in the order asked for, until there are as
/// many as it is limited to or the visitor has seen enough.
pub(super) fn visit(
    entries: &impl ReadableTable<&'static [u8], (u64, u64, u64, &'static str)>,
    partition: &[u8],
    range: &Range,
    at_ms: u64,
    mut visitor: impl FnMut(&str, Version, &str) -> bool,
) -> Result<(), StorageError> {
    let whole = |bound: Bound<String>| bound.map(|name| with_name(partition, &name));
    let (start, end) = range.bounds();
    let (start, end) = (whole(start), whole(end));
    let bounds = (
        start.as_ref().map(Vec::as_slice),
        end.as_ref().map(Vec::as_slice),
    );
    let mut found = entries.range::<&[u8]>(bounds)?;
    let mut left = range.limit;
    while left > 0 {
        let entry = if range.backwards {
            found.next_back()
        } else {
            found.next()
        };
        let Some(entry) = entry else { break };
        let (name, entry) = entry?;
        let name = name.value();
        // A range without an end goes on into other partitions.
        let Some(name) = name.strip_prefix(partition) else {
            break;
        };
        let (epoch, number, expires_at, value) = entry.value();
        if !is_live(expires_at, at_ms) {
            continue;
        }
        let name = std::str::from_utf8(name)
            .map_err(|_| StorageError::Corrupted("a name is not a text".to_owned()))?;
        left -= 1;
        if !visitor(name, Version { epoch, number }, value) {
            break;
        }
    }
    Ok(())
}
