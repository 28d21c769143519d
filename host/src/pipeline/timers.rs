//! Timers that are due become events of the plugin whose they are.
//!
//! Which host runs a timer's handler is not certain, and it may be run twice; but what it does
//! happens once, since the commit takes the timer away and is refused where it is gone. A handler
//! that fails is run again later: at first after a second, then less and less often.

use super::Pipeline;
use crate::{
    core::{
        event::{Event, Notice, TIMER_NOTICE, Trigger, fresh_id},
        names::PluginName,
    },
    ports::{DueTimer, DueTimers, Fault},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Semaphore;

/// How long nobody else gets a timer that is being handled, in milliseconds.
const CLAIM_MS: u64 = 5_000;
/// Timers that are taken at once, and that are handled at once.
const TAKEN: usize = 128;
const AT_ONCE: usize = 64;
/// How often timers are looked for at least: others may have written them, or have left them.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long after a first failure a timer is tried again, and how long at most, in milliseconds.
const FIRST_RETRY_MS: u64 = 1_000;
const LAST_RETRY_MS: u64 = 5 * 60 * 1_000;

/// Timers whose failures are remembered; beyond that all are tried again soon.
const REMEMBERED: usize = 10_000;

/// A timer, and how often its handler has failed since it last went well.
type Failures = Mutex<HashMap<(PluginName, String, String), u32>>;

/// Runs the handlers of timers until the host stops.
pub async fn fire_timers(pipeline: Arc<Pipeline>) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let failures: Arc<Failures> = Arc::default();
    let mut reachable = true;
    loop {
        let due = pipeline.due_timers().await;
        let now_ms = super::now_ms();
        let wait = match due {
            Ok(DueTimers { timers, next_ms }) => {
                reachable = true;
                for timer in timers {
                    let Ok(turn) = at_once.clone().acquire_owned().await else {
                        return;
                    };
                    if pipeline.stopping.is_cancelled() {
                        return;
                    }
                    let (pipeline, failures) = (pipeline.clone(), failures.clone());
                    let tasks = pipeline.tasks.clone();
                    tasks.spawn(async move {
                        pipeline.fire(&timer, &failures).await;
                        drop(turn);
                    });
                }
                let next = next_ms.map(|next| Duration::from_millis(next.saturating_sub(now_ms)));
                next.map_or(LOOK_EVERY, |next| next.min(LOOK_EVERY))
            }
            Err(Fault { message, .. }) => {
                if reachable {
                    tracing::warn!(why = message, "timers cannot be looked for");
                }
                reachable = false;
                LOOK_EVERY
            }
        };
        let waiting = async {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = pipeline.transactions.scheduled() => {}
            }
        };
        if pipeline.unless_stopping(waiting).await.is_none() {
            return;
        }
    }
}

impl Pipeline {
    /// Takes timers that are due, of the plugins that are there and take them.
    async fn due_timers(&self) -> Result<DueTimers, Fault> {
        let table = self.routes.snapshot();
        let plugins: BTreeSet<PluginName> = table
            .plugins()
            .iter()
            .map(|plugin| plugin.info())
            .filter(|info| takes_timers(&info.manifest.subscriptions.notices))
            .map(|info| info.name().clone())
            .collect();
        if plugins.is_empty() {
            return Ok(DueTimers::default());
        }
        let (store, now_ms) = (self.transactions.store(), super::now_ms());
        store.due(&plugins, now_ms, now_ms + CLAIM_MS, TAKEN).await
    }

    async fn fire(self: &Arc<Self>, due: &DueTimer, failures: &Failures) {
        let table = self.routes.snapshot();
        let Some(plugin) = table.plugin(&due.plugin) else {
            // Gone in the meantime: the timer waits for it.
            return;
        };
        let info = plugin.info();
        let now_ms = super::now_ms();
        let event = Arc::new(Event {
            id: fresh_id(now_ms),
            at_ms: now_ms,
            namespace: info.namespace.clone(),
            peer: None,
            trigger: Trigger::Notice(Notice::Timer {
                partition: due.partition.as_str().into(),
                name: due.name.as_str().into(),
                due_ms: due.timer.due_ms,
                payload: due.timer.payload.as_str().into(),
            }),
            attachments: Vec::new(),
            wants_ack: false,
            depth: 0,
        });
        let transaction = self.transactions.begin_firing(due, now_ms);
        let place = (due.plugin.clone(), due.partition.clone(), due.name.clone());
        // It may have been cancelled or scheduled anew while it waited for its turn.
        if let Ok(false) = self.transactions.is_still_due(&transaction).await {
            failures.lock().remove(&place);
            return;
        }
        match self.call(plugin, &event, transaction).await {
            Ok(called) => {
                failures.lock().remove(&place);
                let late_ms = now_ms.saturating_sub(due.timer.due_ms);
                let metrics = &self.executor.metrics;
                metrics.timer_delay.observe(Duration::from_millis(late_ms));
                let caused = self.carry_out(called.steps, called.done, info, &event);
                let caused = caused.await;
                self.deliver(caused, None, 1);
            }
            Err(failure) => {
                let count = {
                    let mut failures = failures.lock();
                    // Those that were cancelled since are never heard of again.
                    if failures.len() >= REMEMBERED {
                        failures.clear();
                    }
                    let count = failures.entry(place).or_insert(0);
                    *count += 1;
                    *count
                };
                let retry_ms = (FIRST_RETRY_MS << (count - 1).min(16)).min(LAST_RETRY_MS);
                tracing::warn!(
                    plugin = %due.plugin, partition = due.partition, timer = due.name,
                    code = %failure.code, why = failure.message, retry_ms,
                    "the handler of a timer failed; it is run again later"
                );
                let store = self.transactions.store();
                store.postpone(due, now_ms + retry_ms).await;
            }
        }
    }
}

fn takes_timers(notices: &[String]) -> bool {
    notices.iter().any(|notice| notice == TIMER_NOTICE)
}
