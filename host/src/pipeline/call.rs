//! One plugin's part in one event: called in a transaction, committed, and carried out.

use super::{
    Pipeline,
    check::{self, Checked, CheckedAnswer, Step, Unacceptable},
    execute::{By, Caused},
    outgoing,
};
use crate::{
    core::{
        code::{Code, Failure},
        event::{Event, Notice, Trigger},
        names::PluginName,
    },
    metrics,
    ports::{CallError, CommitError, Plugin, PluginInfo, StateAccess},
    transactions::{Done, Held, Transaction},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long an acknowledgement waits at most for what was joined to be heard.
const SETTLED: Duration = Duration::from_secs(1);

/// What a call led to that was committed.
pub(super) struct Called {
    /// The acknowledgement, if the plugin has one.
    pub(super) answer: Option<CheckedAnswer>,
    /// What is to be done.
    pub(super) steps: Vec<Step>,
    /// What was committed, if anything was.
    pub(super) done: Option<Done>,
}

impl Called {
    /// Nothing to be done.
    fn nothing() -> Self {
        Self {
            answer: None,
            steps: Vec::new(),
            done: None,
        }
    }
}

impl Pipeline {
    /// Calls a plugin until what it read is still true when its writes are committed.
    pub(super) async fn call(
        &self,
        plugin: &Arc<dyn Plugin>,
        event: &Arc<Event>,
        mut transaction: Arc<Transaction>,
    ) -> Result<Called, Failure> {
        let info = plugin.info();
        let mut held = Held::default();
        for _ in 0..self.transactions.attempts() {
            let Checked { answer, steps } = self.run(plugin, event, &transaction).await?;
            match self.transactions.has_place(&transaction, &info.state).await {
                Ok(true) => {}
                Ok(false) => return Err(self.state_full(info)),
                Err(fault) => return Err(out_of_reach(info.name(), &fault.message)),
            }
            let text = || outgoing::to_text(&info.namespace, &steps);
            match self.transactions.commit(&transaction, text).await {
                Ok(done) => {
                    return Ok(Called {
                        answer,
                        steps,
                        done,
                    });
                }
                Err(CommitError::Conflict) => {}
                // For this event's data alone, so it counts towards no quarantine.
                Err(CommitError::Invalid(why)) => return Err(bad_reply(plugin, event, why)),
                Err(CommitError::Unavailable(why)) => return Err(out_of_reach(info.name(), &why)),
            }
            self.count_conflict(info.name());
            let still_due = self.transactions.is_still_due(&transaction).await;
            match still_due {
                Ok(true) => {}
                Ok(false) => return Ok(Called::nothing()),
                Err(fault) => return Err(out_of_reach(info.name(), &fault.message)),
            }
            // In a box, as it is rare and would make every call's future twice as large.
            (transaction, held) = Box::pin(self.transactions.again(&transaction, held)).await;
        }
        Err(Failure::new(
            Code::Conflict,
            "others changed the same state again and again",
        ))
    }

    async fn run(
        &self,
        plugin: &Arc<dyn Plugin>,
        event: &Arc<Event>,
        transaction: &Arc<Transaction>,
    ) -> Result<Checked, Failure> {
        let state: Arc<dyn StateAccess> = transaction.clone();
        let verdict = plugin.call(event, &state).await.map_err(|error| {
            log_failed_call(plugin, event, &error);
            error.to_failure()
        })?;
        let (info, rooms) = (plugin.info(), &self.executor.rooms);
        let checked =
            check::check(verdict?, info, event, rooms, &self.bounds).map_err(|unacceptable| {
                match unacceptable {
                    Unacceptable::Refused(failure) => {
                        plugin.report_good_reply();
                        failure
                    }
                    Unacceptable::BadReply(why) => {
                        plugin.report_bad_reply(event, &why);
                        bad_reply(plugin, event, why)
                    }
                }
            })?;
        plugin.report_good_reply();
        Ok(checked)
    }

    /// Executes what was committed, when it is its turn among the commits of its partition.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        steps: Vec<Step>,
        done: Option<Done>,
        plugin: &PluginInfo,
        event: &Event,
    ) -> Vec<Caused> {
        if let Some(done) = &done {
            done.turn().await;
        }
        let by = By {
            namespace: &event.namespace,
            plugin: plugin.name(),
            depth: event.depth,
            owed: match &event.trigger {
                Trigger::Message { .. } => event.peer.as_ref().map(|peer| peer.connection),
                _ => None,
            },
        };
        let effects = self.executor.execute(steps, by);
        if let Some(done) = done {
            done.finish();
        }
        self.ask(effects.pending, plugin.name(), event.depth);
        let is_join = |caused: &Caused| matches!(caused.notice, Notice::Joined { .. });
        if effects.caused.iter().any(is_join)
            && let Some(settled) = self.executor.relay.settled()
        {
            // Who is told that it has joined hears what is said in the room from then on.
            timeout(SETTLED, settled).await.ok();
        }
        effects.caused
    }

    fn state_full(&self, plugin: &PluginInfo) -> Failure {
        let label = metrics::Plugin {
            plugin: plugin.name().as_str().to_owned().into(),
        };
        let metrics = &self.executor.metrics;
        if metrics.state_full.get_or_create(&label).inc() == 0 {
            tracing::error!(
                plugin = %plugin.name(),
                "the plugin stores as much as it may (max_state_entries, max_state_bytes): it can only delete"
            );
        }
        Failure::new(Code::StateFull, "no more can be stored")
    }

    fn count_conflict(&self, plugin: &PluginName) {
        let label = metrics::Plugin {
            plugin: plugin.as_str().to_owned().into(),
        };
        self.executor.metrics.conflicts.get_or_create(&label).inc();
    }
}

fn out_of_reach(plugin: &PluginName, why: &str) -> Failure {
    // The store says once that it is in trouble; here it would be said for every event.
    tracing::debug!(%plugin, why, "state is out of reach");
    Failure::new(Code::Unavailable, "state is out of reach")
}

fn bad_reply(plugin: &Arc<dyn Plugin>, event: &Event, why: String) -> Failure {
    let error = CallError::BadReply(why);
    log_failed_call(plugin, event, &error);
    error.to_failure()
}

fn log_failed_call(plugin: &Arc<dyn Plugin>, event: &Event, error: &CallError) {
    let info = plugin.info();
    if let CallError::Quarantined { .. } = error {
        // That it is was said when it began, and is counted.
        tracing::debug!(plugin = %info.name(), event = event.trigger.name(), %error, "an event was not handed over");
        return;
    }
    tracing::warn!(
        plugin = %info.name(),
        version = info.manifest.version,
        digest = info.digest,
        event = event.trigger.name(),
        id = %event.id,
        connection = event.peer.as_ref().map(|peer| tracing::field::display(peer.connection)),
        %error,
        "a plugin failed on an event"
    );
}
