//! When which timer is due, for stores that belong to one process.

use crate::{
    core::{
        names::PluginName,
        state::{TIMER, Timer, timer_name},
    },
    ports::{DueTimer, DueTimers, Fault, PartitionOf, StateStore},
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A partition, and a timer in it.
type Place = (String, String);

/// The timers of one plugin.
#[derive(Default)]
struct OfPlugin {
    /// When each is looked at next.
    looks: HashMap<Place, u64>,
    /// The same, the earliest first.
    order: BTreeSet<(u64, Place)>,
}

impl OfPlugin {
    fn put(&mut self, place: Place, look: Option<u64>) {
        let before = match look {
            Some(look) => {
                self.order.insert((look, place.clone()));
                self.looks.insert(place.clone(), look)
            }
            None => self.looks.remove(&place),
        };
        if let Some(before) = before
            && look != Some(before)
        {
            self.order.remove(&(before, place));
        }
    }
}

/// All timers.
#[derive(Default)]
pub(super) struct TimerIndex(Mutex<BTreeMap<PluginName, OfPlugin>>);

impl TimerIndex {
    /// Takes note of a name that was written in a partition, if it is a timer's.
    pub(super) fn wrote(&self, partition: PartitionOf<'_>, name: &str, text: Option<&str>) {
        let Some(timer) = name.strip_prefix(TIMER) else {
            return;
        };
        let place = (partition.name.to_owned(), timer.to_owned());
        self.put(partition.plugin, place, text.and_then(Timer::due_of));
    }

    /// Takes over what another index knows, and forgets what this one did: also who has taken what,
    /// whose commit finds out.
    pub(super) fn replace_by(&self, other: Self) {
        *self.0.lock() = other.0.into_inner();
    }

    fn put(&self, plugin: &PluginName, place: Place, look: Option<u64>) {
        let mut plugins = self.0.lock();
        let timers = plugins.entry(plugin.clone()).or_default();
        timers.put(place, look);
        if timers.looks.is_empty() {
            plugins.remove(plugin);
        }
    }

    /// Takes timers that are due, for nobody to get them again before a time; returns when there may
    /// be more.
    fn take(
        &self,
        of: &BTreeSet<PluginName>,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> (Vec<(PluginName, Place)>, Option<u64>) {
        let mut plugins = self.0.lock();
        let mut taken = Vec::new();
        let mut next = None::<u64>;
        // None has to wait for those whose names come before its own.
        let share = limit.div_ceil(of.len().max(1));
        for (plugin, timers) in plugins.iter_mut().filter(|(name, _)| of.contains(*name)) {
            let most = taken.len() + share;
            while let Some((look, place)) = timers.order.first().cloned() {
                if look > now_ms || taken.len() >= most {
                    next = Some(next.map_or(look, |next| next.min(look)));
                    break;
                }
                timers.put(place.clone(), Some(until_ms.max(now_ms + 1)));
                taken.push((plugin.clone(), place));
            }
        }
        (taken, next)
    }

    /// See [`StateStore::due`].
    pub(super) async fn due(
        &self,
        store: &dyn StateStore,
        of: &BTreeSet<PluginName>,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> Result<DueTimers, Fault> {
        let (taken, next_ms) = self.take(of, now_ms, until_ms, limit);
        let mut timers = Vec::with_capacity(taken.len());
        for (plugin, (partition, name)) in taken {
            let stored = PartitionOf {
                plugin: &plugin,
                name: &partition,
            };
            let found = store.read(stored, &timer_name(&name), now_ms).await?;
            let timer = found.and_then(|found| Some((Timer::parse(&found.value)?, found.version)));
            if let Some((timer, version)) = timer
                && timer.due_ms <= now_ms
            {
                timers.push(DueTimer {
                    plugin,
                    partition,
                    name,
                    version,
                    timer,
                });
            }
        }
        timers.sort_by_key(|due| due.timer.due_ms);
        Ok(DueTimers { timers, next_ms })
    }

    /// See [`StateStore::postpone`].
    pub(super) async fn postpone(&self, store: &dyn StateStore, timer: &DueTimer, until_ms: u64) {
        let stored = PartitionOf {
            plugin: &timer.plugin,
            name: &timer.partition,
        };
        let now = store.read(stored, &timer_name(&timer.name), 0).await;
        // One of that name that was scheduled since is another timer.
        if !now.is_ok_and(|now| now.is_some_and(|now| now.version == timer.version)) {
            return;
        }
        let place = (timer.partition.clone(), timer.name.clone());
        let mut plugins = self.0.lock();
        if let Some(timers) = plugins.get_mut(&timer.plugin)
            && timers.looks.contains_key(&place)
        {
            timers.put(place, Some(until_ms));
        }
    }
}
