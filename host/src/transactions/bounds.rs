//! What one event may read and write; the limits that `wit/capabilities.wit` names.

use crate::ports::Fault;

/// Bytes of the name of a partition, a key, a timer or an idempotency key.
pub(super) const NAME_BYTES: usize = 512;
/// Bytes of a value, an entry or a payload.
pub(super) const VALUE_BYTES: usize = 65_536;
/// Reads of one event; a page counts as one read for each key or entry in it.
pub(super) const READS: usize = 1_000;
/// Keys, timers and history entries that one event may write.
pub(super) const WRITES: usize = 1_000;
/// Keys or entries of a page.
pub(super) const PAGE: u32 = 1_000;
/// Bytes that one event may write, names included.
pub(super) const WRITTEN_BYTES: usize = 4 << 20;
/// The shortest time after which a timer repeats, in milliseconds.
pub(super) const SHORTEST_REPEAT_MS: u64 = 1_000;

pub(super) fn check_name(what: &str, name: &str) -> Result<(), Fault> {
    if (1..=NAME_BYTES).contains(&name.len()) {
        return Ok(());
    }
    Err(Fault::new(
        "INVALID",
        format!(
            "{what}: expected 1 to {NAME_BYTES} bytes, got {}",
            name.len()
        ),
    ))
}

pub(super) fn check_value(what: &str, value: &str) -> Result<(), Fault> {
    if value.len() <= VALUE_BYTES {
        return Ok(());
    }
    Err(Fault::new(
        "TOO_LARGE",
        format!("{what} of {} bytes, of at most {VALUE_BYTES}", value.len()),
    ))
}

pub(super) fn check_json(what: &str, text: &str) -> Result<(), Fault> {
    check_value(what, text)?;
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| Fault::new("INVALID", format!("{what} that is not JSON: {error}")))
}

pub(super) fn check_page(limit: u32) -> Result<usize, Fault> {
    if (1..=PAGE).contains(&limit) {
        return Ok(limit as usize);
    }
    Err(Fault::new(
        "INVALID",
        format!("limit: expected 1 to {PAGE}, got {limit}"),
    ))
}
