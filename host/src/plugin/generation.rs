//! One generation of a plugin: a version together with the operator's settings. It hands events to
//! instances, and keeps some of them warm.

use super::{
    bindings::PluginPre,
    config::{Isolation, PluginConfig, PluginsConfig},
    guest::{self, About, Call, Guest, GuestState},
    quarantine::{Change, Quarantine},
};
use crate::{
    core::event::Event,
    metrics::{self, OfPlugin},
    ports::{CallError, KvTransaction, Plugin, PluginInfo, Verdict},
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use wasmtime::Engine;

/// How instances of one generation are used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) deadline: Duration,
    pub(super) isolation: Isolation,
    pub(super) recycle_after_events: u32,
    pub(super) recycle_memory_bytes: usize,
    /// Calls at once.
    pub(super) calls: usize,
    /// Instances that are kept while there is nothing to do.
    pub(super) warm: usize,
}

impl Usage {
    pub(super) fn of(all: &PluginsConfig, one: &PluginConfig) -> Self {
        Self {
            deadline: one.deadline.unwrap_or(all.deadline),
            isolation: one.isolation.unwrap_or(all.isolation),
            recycle_after_events: all.recycle_after_events.max(1),
            recycle_memory_bytes: (all.recycle_memory_mb as usize) << 20,
            calls: (all.max_instances as usize / 8).max(1),
            warm: (all.max_instances as usize / 64).clamp(1, 16),
        }
    }
}

/// Counters of one generation, looked up once.
struct Counters {
    ok: Counter,
    failure: Counter,
    seconds: Histogram,
}

/// See the module's page.
pub struct Generation {
    engine: Engine,
    pre: PluginPre<GuestState>,
    about: Arc<About>,
    usage: Usage,
    /// Calls of this plugin at once, so that a slow one does not take every instance.
    own_permits: Semaphore,
    /// Calls of all plugins at once; fewer than there may be instances, since some are kept warm.
    permits: Arc<Semaphore>,
    warm: Mutex<Vec<Guest>>,
    quarantine: Mutex<Quarantine>,
    counters: Counters,
}

impl Generation {
    pub(super) fn new(
        pre: PluginPre<GuestState>,
        about: Arc<About>,
        usage: Usage,
        permits: Arc<Semaphore>,
        quarantine: Quarantine,
    ) -> Self {
        let plugin = about.info.name().as_str().to_owned();
        let outcome = |outcome: &'static str| {
            let label = OfPlugin {
                plugin: plugin.clone().into(),
                outcome: outcome.into(),
            };
            about.metrics.calls.get_or_create(&label).clone()
        };
        let label = metrics::Plugin {
            plugin: plugin.clone().into(),
        };
        let counters = Counters {
            ok: outcome("ok"),
            failure: outcome("failure"),
            seconds: about.metrics.call_seconds.get_or_create(&label).clone(),
        };
        about.metrics.quarantined.get_or_create(&label).set(0);
        Self {
            engine: pre.engine().clone(),
            pre,
            about,
            usage,
            own_permits: Semaphore::new(usage.calls),
            permits,
            warm: Mutex::default(),
            quarantine: Mutex::new(quarantine),
            counters,
        }
    }

    async fn instance(&self) -> Result<Guest, CallError> {
        let warm = self.warm.lock().pop();
        match warm {
            Some(guest) => Ok(guest),
            None => self
                .instantiate()
                .await
                .map_err(|error| CallError::Unavailable(format!("{error:#}"))),
        }
    }

    async fn instantiate(&self) -> wasmtime::Result<Guest> {
        let mut store = guest::store(&self.engine, &self.about);
        let plugin = self.pre.instantiate_async(&mut store).await?;
        Ok(Guest {
            store,
            plugin,
            events: 0,
        })
    }

    /// Keeps an instance for another event, unless it has been used enough.
    fn put_back(&self, mut guest: Guest) {
        guest.events += 1;
        let used_up = self.usage.isolation == Isolation::Event
            || guest.events >= self.usage.recycle_after_events
            || guest.memory() > self.usage.recycle_memory_bytes;
        if used_up {
            return;
        }
        guest.store.data_mut().call = None;
        let mut warm = self.warm.lock();
        if warm.len() < self.usage.warm {
            warm.push(guest);
        }
    }

    async fn run(
        &self,
        event: &Arc<Event>,
        state: &Arc<dyn KvTransaction>,
    ) -> Result<Verdict, CallError> {
        let closed = |_| CallError::Unavailable("the host is stopping".to_owned());
        let _own_permit = self.own_permits.acquire().await.map_err(closed)?;
        let _permit = self.permits.acquire().await.map_err(closed)?;
        let deadline = self.usage.deadline;
        // An instance that is not put back, for a trap, a timeout or because the whole call was
        // cancelled, is dropped here with its store.
        let called = tokio::time::timeout(deadline, async {
            let mut guest = self.instance().await?;
            let data = guest.store.data_mut();
            data.log_lines = 0;
            data.call = Some(Call {
                event: event.clone(),
                state: state.clone(),
            });
            guest.store.set_epoch_deadline(1);
            let argument = guest::to_wit(event, &self.about.info);
            let result = guest
                .plugin
                .switchboard_plugin_guest()
                .call_handle(&mut guest.store, &argument)
                .await
                .map_err(|error| CallError::Trap(describe_trap(&error)))?;
            Ok((guest, result))
        });
        let (guest, result) = called.await.unwrap_or(Err(CallError::Timeout(deadline)))?;
        self.put_back(guest);
        guest::from_wit(result, &self.about.bounds).map_err(CallError::BadReply)
    }

    fn fault(&self, event: &Event, now: Instant) {
        let user = event
            .peer
            .as_ref()
            .map_or("", |peer| peer.identity.user.as_str());
        let change = self.quarantine.lock().fault(user, now);
        self.tell(change);
    }

    fn tell(&self, change: Change) {
        let info = &self.about.info;
        let label = metrics::Plugin {
            plugin: info.name().as_str().to_owned().into(),
        };
        let gauge = self.about.metrics.quarantined.get_or_create(&label);
        match change {
            Change::None => {}
            Change::Entered => {
                gauge.set(1);
                tracing::error!(
                    plugin = %info.name(), version = info.manifest.version, digest = info.digest,
                    "the plugin fails again and again and is given no events for now; replace it to end that at once"
                );
            }
            Change::Left => {
                gauge.set(0);
                tracing::info!(
                    plugin = %info.name(), version = info.manifest.version, digest = info.digest,
                    "the plugin is given events again"
                );
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        let label = OfPlugin {
            plugin: self.about.info.name().as_str().to_owned().into(),
            outcome: outcome.into(),
        };
        self.about.metrics.calls.get_or_create(&label).inc();
    }
}

impl Plugin for Generation {
    fn info(&self) -> &PluginInfo {
        &self.about.info
    }

    fn call<'a>(
        &'a self,
        event: &'a Arc<Event>,
        state: &'a Arc<dyn KvTransaction>,
    ) -> BoxFuture<'a, Result<Verdict, CallError>> {
        Box::pin(async move {
            let start = Instant::now();
            if let Err(wait) = self.quarantine.lock().admit(start) {
                self.count("quarantined");
                let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
                return Err(CallError::Quarantined { retry_after_ms });
            }
            let result = self.run(event, state).await;
            let end = Instant::now();
            self.counters.seconds.observe((end - start).as_secs_f64());
            match &result {
                Ok(verdict) => {
                    let counter = match verdict {
                        Ok(_) => &self.counters.ok,
                        Err(_) => &self.counters.failure,
                    };
                    counter.inc();
                    let change = self.quarantine.lock().success();
                    self.tell_if(change);
                }
                Err(CallError::Unavailable(_) | CallError::Quarantined { .. }) => {
                    self.count("unavailable");
                }
                Err(error) => {
                    self.count(match error {
                        CallError::Timeout(_) => "timeout",
                        CallError::Trap(_) => "trap",
                        _ => "bad-reply",
                    });
                    self.fault(event, end);
                }
            }
            result
        })
    }

    fn report_bad_reply(&self, event: &Event, _why: &str) {
        self.count("bad-reply");
        self.fault(event, Instant::now());
    }
}

impl Generation {
    /// Tells whether the plugin is given no events for now.
    pub(super) fn is_quarantined(&self) -> bool {
        !self.quarantine.lock().is_serving()
    }

    fn tell_if(&self, change: Change) {
        if change != Change::None {
            self.tell(change);
        }
    }
}

/// Returns a trap in one line: what happened and, where the plugin said something itself, that.
pub(super) fn describe_trap(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => trap.to_string(),
        None => format!("{error:#}")
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}
