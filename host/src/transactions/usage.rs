//! How much plugins store, where their operators set bounds.
//!
//! All of a plugin's entries are counted when its first commit asks, and again every minute; between
//! two counts what this host commits is added. So a bound holds exactly on a store of one host, and
//! on one that hosts share it can be passed by what the others commit within a minute.

use crate::{
    core::names::PluginName,
    ports::{Fault, Growth, StateBounds, StateStore, Stored},
};
use dashmap::DashMap;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long a count is good for.
const COUNT_AGAIN: Duration = Duration::from_secs(60);

/// What a plugin stores.
#[derive(Debug, Clone, Copy)]
struct Usage {
    counted_at: Instant,
    counting: bool,
    now: Growth,
}

/// See the module's page.
#[derive(Default)]
pub(super) struct Meter(DashMap<PluginName, Usage>);

impl Meter {
    /// Adds what a commit brought, where it is counted.
    pub(super) fn add(&self, plugin: &PluginName, growth: Growth) {
        if !self.0.is_empty()
            && let Some(mut usage) = self.0.get_mut(plugin)
        {
            usage.now.entries += growth.entries;
            usage.now.bytes += growth.bytes;
        }
    }

    /// Tells whether a plugin stores less than its bounds.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub(super) async fn has_place(
        self: &Arc<Self>,
        store: &Arc<dyn StateStore>,
        plugin: &PluginName,
        bounds: &StateBounds,
        at_ms: u64,
    ) -> Result<bool, Fault> {
        let known = self.0.get_mut(plugin).map(|mut usage| {
            let is_old = usage.counted_at.elapsed() > COUNT_AGAIN && !usage.counting;
            usage.counting |= is_old;
            (usage.now, is_old)
        });
        let now = match known {
            Some((now, false)) => now,
            Some((now, true)) => {
                // In the background: what is known is good enough until then.
                let (meter, store, plugin) = (self.clone(), store.clone(), plugin.clone());
                tokio::spawn(async move { meter.count(&store, &plugin, at_ms).await });
                now
            }
            None => self.count(store, plugin, at_ms).await?,
        };
        let below = |now: i64, bound: Option<u64>| {
            bound.is_none_or(|bound| u64::try_from(now).unwrap_or(0) < bound)
        };
        Ok(below(now.entries, bounds.entries) && below(now.bytes, bounds.bytes))
    }

    async fn count(
        &self,
        store: &Arc<dyn StateStore>,
        plugin: &PluginName,
        at_ms: u64,
    ) -> Result<Growth, Fault> {
        let before = self.0.get(plugin).map(|usage| usage.now);
        let mut counted = Growth::default();
        let mut visitor = |stored: Stored| {
            counted.now(Some(stored.name.len() + stored.text.len()));
            Ok(())
        };
        // Stores of this process look through everything at once.
        let visiting =
            tokio::task::block_in_place(|| store.each(Some(plugin), at_ms, &mut visitor));
        let visited = visiting.await;
        if let (Err(_), Some(mut usage)) = (&visited, self.0.get_mut(plugin)) {
            usage.counting = false;
        }
        visited?;
        let mut usage = self.0.entry(plugin.clone()).or_insert(Usage {
            counted_at: Instant::now(),
            counting: false,
            now: Growth::default(),
        });
        usage.counting = false;
        usage.counted_at = Instant::now();
        // What was committed while it was counted is in the count or not; it is taken as not.
        let since = before.map_or_else(Growth::default, |before| Growth {
            entries: usage.now.entries - before.entries,
            bytes: usage.now.bytes - before.bytes,
        });
        usage.now = Growth {
            entries: counted.entries + since.entries,
            bytes: counted.bytes + since.bytes,
        };
        Ok(usage.now)
    }
}
