//! One generation of a plugin: a version together with the operator's settings. It hands events to
//! instances, and keeps some of them warm.

use super::{
    config::{Isolation, PluginConfig, PluginsConfig},
    deadline::in_time,
    engine::LongCalls,
    guest::{self, About, Call, Guest, Texts, Waits},
    handle::Linked,
    kept::Kept,
    quarantine::{Change, Quarantine},
};
use crate::{
    core::event::Event,
    metrics::{self, Count, Durations, OfPlugin},
    ports::{CallError, Plugin, PluginInfo, StateAccess, Verdict},
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

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
    pub(super) kept: usize,
}

impl Usage {
    pub(super) fn of(all: &PluginsConfig, one: &PluginConfig) -> Self {
        Self {
            deadline: one.deadline.unwrap_or(all.deadline),
            isolation: one.isolation.unwrap_or(all.isolation),
            recycle_after_events: all.recycle_after_events.max(1),
            recycle_memory_bytes: (all.recycle_memory_mb as usize) << 20,
            calls: (all.max_instances as usize / 8).max(1),
            kept: (all.max_instances as usize / 64).clamp(1, 16),
        }
    }
}

/// How many instances there may be of all plugins together, in all their generations. Each holds the
/// permit that it was made with, and with a place among the kept ones that one instead, so that
/// those which are kept never leave too few for plugins that have none yet.
#[derive(Clone)]
pub(super) struct Budget {
    /// Those that are made for one event.
    pub(super) fresh: Arc<Semaphore>,
    /// Those that are kept for the next event.
    pub(super) kept: Arc<Semaphore>,
}

impl Budget {
    /// Splits what the pool of instances has.
    pub(super) fn of(config: &PluginsConfig) -> Self {
        let instances = config.max_instances as usize;
        let fresh = (instances / 2).max(1);
        Self {
            fresh: Arc::new(Semaphore::new(fresh)),
            kept: Arc::new(Semaphore::new(instances.saturating_sub(fresh))),
        }
    }
}

/// What instances are made of.
struct Mould {
    component: Linked,
    about: Arc<About>,
}

impl Mould {
    async fn instance(&self, permit: OwnedSemaphorePermit) -> Result<Box<Guest>, CallError> {
        let mut store = guest::store(self.component.engine(), &self.about);
        let handle = self
            .component
            .instantiate(&mut store)
            .await
            .map_err(|error| CallError::Unavailable(format!("{error:#}")))?;
        Ok(Box::new(Guest {
            store,
            handle,
            events: 0,
            permit,
        }))
    }
}

/// Where the instance for a call comes from.
enum Slot {
    /// It was kept.
    Kept(Box<Guest>),
    /// It is to be made.
    Fresh(Arc<Mould>, OwnedSemaphorePermit),
}

impl Slot {
    async fn instance(self) -> Result<Box<Guest>, CallError> {
        match self {
            Self::Kept(guest) => Ok(guest),
            // In a box, since calls of kept instances need no place for it.
            Self::Fresh(mould, permit) => Box::pin(mould.instance(permit)).await,
        }
    }
}

/// Counters of one generation, looked up once.
struct Counters {
    ok: Count,
    failure: Count,
    durations: Durations,
}

/// See the module's page.
pub struct Generation {
    mould: Arc<Mould>,
    about: Arc<About>,
    usage: Usage,
    long: Arc<LongCalls>,
    /// Calls of this plugin at once, so that a slow one does not take every instance.
    calls: Semaphore,
    budget: Budget,
    kept: Kept<Box<Guest>>,
    quarantine: Mutex<Quarantine>,
    /// Whether the quarantine need not be asked.
    serving: AtomicBool,
    counters: Counters,
}

impl Generation {
    pub(super) fn new(
        component: Linked,
        about: Arc<About>,
        usage: Usage,
        long: Arc<LongCalls>,
        budget: Budget,
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
            durations: about.metrics.call_seconds.get_or_create(&label).clone(),
        };
        about.metrics.quarantined.get_or_create(&label).set(0);
        Self {
            mould: Arc::new(Mould {
                component,
                about: about.clone(),
            }),
            about,
            usage,
            long,
            calls: Semaphore::new(usage.calls),
            budget,
            kept: Kept::new(usage.kept),
            quarantine: Mutex::new(quarantine),
            serving: AtomicBool::new(true),
            counters,
        }
    }

    /// Returns an instance that was kept, or the right to make one, after a wait where there are as
    /// many as there may be.
    async fn slot(&self) -> Result<Slot, CallError> {
        if let Some(guest) = self.kept.take() {
            return Ok(Slot::Kept(guest));
        }
        let permit = self.budget.fresh.clone().acquire_owned().await;
        let permit = permit.map_err(|error| CallError::Unavailable(error.to_string()))?;
        Ok(Slot::Fresh(self.mould.clone(), permit))
    }

    /// Keeps an instance for another event, unless it has been used enough or there is no place.
    fn put_back(&self, mut guest: Box<Guest>) {
        guest.events += 1;
        let used_up = self.usage.isolation == Isolation::Event
            || guest.events >= self.usage.recycle_after_events
            || guest.memory() > self.usage.recycle_memory_bytes;
        if used_up {
            return;
        }
        guest.store.data_mut().call = None;
        // One that has been kept before has its place.
        if guest.events == 1 {
            let Ok(place) = self.budget.kept.clone().try_acquire_owned() else {
                return;
            };
            guest.permit = place;
        }
        self.kept.put_back(guest);
    }

    /// Refuses an event while the plugin is given none at all.
    fn check_pause(&self) -> Result<(), CallError> {
        if self.serving.load(Ordering::Relaxed) {
            return Ok(());
        }
        let pause = self.quarantine.lock().pause_left(Instant::now());
        pause.map_or(Ok(()), |pause| Err(self.quarantined(pause)))
    }

    /// Returns the right to run one call, after a wait where too many are under way.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(turn) = self.calls.try_acquire() {
            return Ok(turn);
        }
        let turn = self.calls.acquire().await;
        turn.map_err(|error| CallError::Unavailable(error.to_string()))
    }

    async fn run(
        &self,
        event: &Arc<Event>,
        state: &Arc<dyn StateAccess>,
        slot: Slot,
        start: Instant,
    ) -> Result<Verdict, CallError> {
        let waits = Arc::new(Waits::default());
        let call = Call {
            event: event.clone(),
            state: state.clone(),
            waits: waits.clone(),
        };
        // An instance that is not put back, for a trap, a timeout or because the whole call was
        // cancelled, is dropped here with its store.
        let call = Box::pin(async move {
            let mut guest = slot.instance().await?;
            let event = call.event.clone();
            let data = guest.store.data_mut();
            data.log_lines = 0;
            data.soft.clear();
            data.call = Some(call);
            guest.store.set_epoch_deadline(1);
            let texts = Texts::of(&event, &guest.store.data().about.info);
            let result = guest
                .handle
                .call(&mut guest.store, texts.to_wit(&event))
                .await
                .map_err(|error| CallError::Trap(describe_trap(&error)))?;
            let soft = std::mem::take(&mut guest.store.data_mut().soft);
            Ok((guest, result, soft))
        });
        let deadline = self.usage.deadline;
        let (guest, result, soft) =
            in_time(start.into(), deadline, &waits, &self.long, call).await?;
        self.put_back(guest);
        guest::from_wit(result, soft, &self.about.bounds).map_err(CallError::BadReply)
    }

    fn fault(&self, outcome: &'static str, event: &Event, now: Instant) {
        self.count(outcome);
        let user = event
            .peer
            .as_ref()
            .map_or("", |peer| peer.identity.user.as_str());
        self.change(|quarantine| quarantine.fault(user, now));
    }

    fn quarantined(&self, wait: Duration) -> CallError {
        self.count("quarantined");
        CallError::Quarantined {
            retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Quarantine) -> Change) {
        let mut quarantine = self.quarantine.lock();
        let change = change(&mut quarantine);
        self.serving
            .store(quarantine.is_serving(), Ordering::Relaxed);
        self.tell(change);
    }

    fn tell(&self, change: Change) {
        if change == Change::None {
            return;
        }
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
                    "quarantined: the plugin fails again and again and is given no events for now; replace it to end that at once"
                );
            }
            Change::Left => {
                gauge.set(0);
                tracing::info!(
                    plugin = %info.name(), version = info.manifest.version, digest = info.digest,
                    "out of quarantine: the plugin is given events again"
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
        state: &'a Arc<dyn StateAccess>,
    ) -> BoxFuture<'a, Result<Verdict, CallError>> {
        Box::pin(async move {
            // Nobody waits for a plugin that takes no events, nor uses an instance up.
            self.check_pause()?;
            let _turn = self.turn().await?;
            let slot = self.slot().await?;
            let start = Instant::now();
            if !self.serving.load(Ordering::Relaxed) {
                // Asked only now: a plugin may have been quarantined while its event waited.
                let admitted = self.quarantine.lock().admit(start);
                admitted.map_err(|wait| self.quarantined(wait))?;
            }
            let result = self.run(event, state, slot, start).await;
            let end = Instant::now();
            self.counters.durations.observe(end - start);
            match &result {
                Ok(Ok(_)) => {
                    self.counters.ok.inc();
                }
                Ok(Err(_)) => {
                    self.counters.failure.inc();
                    self.report_good_reply();
                }
                Err(CallError::Timeout(_)) => self.fault("timeout", event, end),
                Err(CallError::Trap(_)) => self.fault("trap", event, end),
                Err(CallError::BadReply(_)) => self.fault("bad-reply", event, end),
                Err(CallError::Unavailable(_) | CallError::Quarantined { .. }) => {
                    self.count("unavailable");
                    self.quarantine.lock().abandon(end);
                }
            }
            result
        })
    }

    fn report_good_reply(&self) {
        if self.serving.load(Ordering::Relaxed) {
            return;
        }
        self.change(|quarantine| quarantine.success());
    }

    fn report_bad_reply(&self, event: &Event, _why: &str) {
        self.fault("bad-reply", event, Instant::now());
    }
}

impl Generation {
    /// Tells whether the plugin is given no events for now.
    pub(super) fn is_quarantined(&self) -> bool {
        !self.quarantine.lock().is_serving()
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
