//! What a handler asks of timers.

use crate::{
    capabilities::{parse, text},
    error::Fault,
    imports,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

type Faulty<T> = Result<T, Fault>;

/// A timer that is due, as the handler of [`Plugin::on_timer`](crate::Plugin::on_timer) gets it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Timer<T> {
    /// Where it was scheduled.
    pub partition: String,
    /// Its name.
    pub name: String,
    /// When it was due, in milliseconds since 1970 UTC.
    pub due: u64,
    /// What was given to it.
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    pub payload: T,
}

/// A timer that waits.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Scheduled<T> {
    /// When it is due, in milliseconds since 1970 UTC.
    pub due: u64,
    /// How long after that it is due again, in milliseconds.
    pub every: Option<u64>,
    /// What it was given.
    #[serde(bound(deserialize = "T: Deserialize<'de>"))]
    pub payload: T,
}

/// The timers of one partition. Part of the same transactions as [`Kv`](crate::Kv): one that is
/// scheduled by a handler which fails is not. A timer outlives swaps and whatever the store outlives,
/// is never early and normally within a second, and what its handler does happens once. Needs the
/// capability `timers`.
///
/// ```
/// # use std::time::Duration;
/// # use switchboard_plugin::{Ack, Cx, Plugin, Result, Timer};
/// fn start(cx: &mut Cx, question: String) -> Result<Ack> {
///     let minute = Duration::from_secs(60);
///     cx.timers("quiz:7").after(minute, "close", &question)?;
///     Ok(Ack::ok())
/// }
///
/// fn close(cx: &mut Cx, timer: Timer<String>) -> Result<()> {
///     cx.emit("closed").to_room(timer.partition).send(&timer.payload)
/// }
///
/// let plugin = Plugin::new("quiz")
///     .rooms(["quiz"])
///     .needs(["timers"])
///     .on("start", start)
///     .on_timer("close", close);
/// # drop(plugin);
/// ```
#[derive(Debug, Clone)]
pub struct Timers {
    pub(crate) partition: String,
    pub(crate) now_ms: u64,
}

impl Timers {
    /// Schedules a timer at a time, in milliseconds since 1970 UTC, in the place of one of that
    /// name; one that is past is due now.
    ///
    /// # Errors
    /// See [`Fault`]; more than 65,536 bytes of JSON are [`Fault::TooLarge`].
    pub fn at<T: Serialize + ?Sized>(
        &self,
        due_ms: u64,
        name: impl AsRef<str>,
        payload: &T,
    ) -> Faulty<()> {
        imports::timers_schedule(
            &self.partition,
            name.as_ref(),
            due_ms,
            &text(payload)?,
            None,
        )
    }

    /// Schedules a timer so long after the event's time. With no time at all it is due at once: this
    /// is how a handler has something done in another partition.
    ///
    /// # Errors
    /// Those of [`Self::at`].
    pub fn after<T: Serialize + ?Sized>(
        &self,
        time: Duration,
        name: impl AsRef<str>,
        payload: &T,
    ) -> Faulty<()> {
        self.at(self.now_ms.saturating_add(millis(time)), name, payload)
    }

    /// Schedules a timer that is due again and again, for the first time so long after the event's
    /// time. Times that were missed are left out.
    ///
    /// # Errors
    /// Those of [`Self::at`]; less than a second is [`Fault::Invalid`].
    pub fn every<T: Serialize + ?Sized>(
        &self,
        time: Duration,
        name: impl AsRef<str>,
        payload: &T,
    ) -> Faulty<()> {
        let (every, payload) = (millis(time), text(payload)?);
        let due = self.now_ms.saturating_add(every);
        imports::timers_schedule(&self.partition, name.as_ref(), due, &payload, Some(every))
    }

    /// Takes a timer away; one that is absent is not an error.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn cancel(&self, name: impl AsRef<str>) -> Faulty<()> {
        imports::timers_cancel(&self.partition, name.as_ref())
    }

    /// Returns the timer of a name.
    ///
    /// # Errors
    /// See [`Fault`]; a payload that is not a `T` is [`Fault::Invalid`].
    pub fn get<T: DeserializeOwned>(&self, name: impl AsRef<str>) -> Faulty<Option<Scheduled<T>>> {
        let timer = imports::timers_get(&self.partition, name.as_ref())?;
        timer.map(|timer| parse(name.as_ref(), &timer)).transpose()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
