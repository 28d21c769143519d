//! Stored state as plugins import it, on the host's side.

use super::{
    bindings::switchboard::plugin as wit,
    capabilities::{Faulty, fault, invalid},
    guest::{Call, GuestState},
};
use crate::{
    core::state::{Mark, Retention, Timer},
    metrics::OfPlugin,
    ports::{Entry, Fault, Page},
};
use serde::{Serialize, ser::SerializeMap};
use serde_json::value::RawValue;

impl GuestState {
    /// Counts what a capability refused, by its code.
    fn counted<T>(&self, result: Result<T, Fault>) -> Faulty<T> {
        result.map_err(|fault| {
            let label = OfPlugin {
                plugin: self.about.info.name().as_str().to_owned().into(),
                outcome: fault.code.into(),
            };
            self.about.metrics.state_refused.get_or_create(&label).inc();
            fault.into()
        })
    }

    fn call(&self) -> Faulty<&Call> {
        let outside = || fault("NOT_GRANTED", "there is no state outside of an event");
        self.call.as_ref().ok_or_else(outside)
    }
}

impl wit::kv::Host for GuestState {
    async fn get(&mut self, partition: String, key: String) -> Faulty<Option<String>> {
        let call = self.call()?;
        let value = call.waits.during(call.state.get(&partition, &key)).await;
        self.counted(value)
    }

    fn set(
        &mut self,
        partition: String,
        key: String,
        value: String,
        ttl_ms: Option<u64>,
    ) -> Faulty<()> {
        self.counted(self.call()?.state.set(&partition, &key, value, ttl_ms))
    }

    fn delete(&mut self, partition: String, key: String) -> Faulty<()> {
        self.counted(self.call()?.state.delete(&partition, &key))
    }

    fn add(&mut self, partition: String, key: String, delta: i64) -> Faulty<()> {
        self.counted(self.call()?.state.add(&partition, &key, delta))
    }

    async fn list(
        &mut self,
        partition: String,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Faulty<Vec<(String, String)>> {
        let call = self.call()?;
        let after = after.as_deref();
        let entries = call.state.list(&partition, &prefix, after, limit);
        let answer = call.waits.during(entries).await;
        self.counted(answer)
    }
}

/// An entry as plugins see it.
struct Seen<'a>(&'a Entry);

impl Serialize for Seen<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = self.0;
        let text: &RawValue =
            serde_json::from_str(&entry.entry).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("position", &entry.position)?;
        map.serialize_entry("id", &entry.id)?;
        map.serialize_entry("at", &entry.at_ms)?;
        match entry.mark {
            Mark::Original => {}
            Mark::Amended(at) => map.serialize_entry("amended", &at)?,
            Mark::Redacted(at) => map.serialize_entry("redacted", &at)?,
        }
        map.serialize_entry("entry", text)?;
        map.end()
    }
}

fn to_json(value: &impl Serialize) -> Faulty<String> {
    serde_json::to_string(value).map_err(|error| {
        tracing::error!(%error, "stored state is not what was written");
        fault("UNAVAILABLE", "stored state cannot be read")
    })
}

impl wit::history::Host for GuestState {
    async fn append(
        &mut self,
        partition: String,
        entry: String,
        key: Option<String>,
    ) -> Faulty<(String, bool)> {
        let call = self.call()?;
        let appended = call.state.append(&partition, entry, key.as_deref());
        let appended = call.waits.during(appended).await;
        let appended = self.counted(appended)?;
        Ok((appended.id, appended.is_new))
    }

    fn retain(&mut self, partition: String, count: Option<u64>, age_ms: Option<u64>) -> Faulty<()> {
        let retention = Retention { count, age_ms };
        self.counted(self.call()?.state.retain(&partition, retention))
    }

    async fn page(
        &mut self,
        partition: String,
        before: Option<u64>,
        after: Option<u64>,
        limit: u32,
    ) -> Faulty<String> {
        let page = match (before, after) {
            (Some(_), Some(_)) => return Err(invalid("before, after: expected one of them")),
            (None, Some(after)) => Page::After(Some(after)),
            (before, None) => Page::Before(before),
        };
        let call = self.call()?;
        let entries = call.state.page(&partition, page, limit);
        let entries = call.waits.during(entries).await;
        let entries = self.counted(entries)?;
        to_json(&entries.iter().map(Seen).collect::<Vec<_>>())
    }

    async fn get(&mut self, partition: String, id: String) -> Faulty<Option<String>> {
        let call = self.call()?;
        let entry = call.state.entry(&partition, &id);
        let entry = call.waits.during(entry).await;
        let entry = self.counted(entry)?;
        entry.map(|entry| to_json(&Seen(&entry))).transpose()
    }

    async fn amend(&mut self, partition: String, id: String, entry: String) -> Faulty<bool> {
        let call = self.call()?;
        let change = call.state.change(&partition, &id, Some(entry));
        let answer = call.waits.during(change).await;
        self.counted(answer)
    }

    async fn redact(&mut self, partition: String, id: String) -> Faulty<bool> {
        let call = self.call()?;
        let change = call.state.change(&partition, &id, None);
        let answer = call.waits.during(change).await;
        self.counted(answer)
    }

    async fn count(&mut self, partition: String) -> Faulty<u64> {
        let call = self.call()?;
        let answer = call.waits.during(call.state.count(&partition)).await;
        self.counted(answer)
    }
}

impl wit::timers::Host for GuestState {
    fn schedule(
        &mut self,
        partition: String,
        name: String,
        at_ms: u64,
        payload: String,
        every_ms: Option<u64>,
    ) -> Faulty<()> {
        let timer = Timer {
            due_ms: at_ms,
            every_ms,
            payload,
        };
        self.counted(self.call()?.state.schedule(&partition, &name, timer))
    }

    fn cancel(&mut self, partition: String, name: String) -> Faulty<()> {
        self.counted(self.call()?.state.cancel(&partition, &name))
    }

    async fn get(&mut self, partition: String, name: String) -> Faulty<Option<String>> {
        #[derive(Serialize)]
        struct Shown<'a> {
            due: u64,
            every: Option<u64>,
            payload: Option<&'a RawValue>,
        }
        let call = self.call()?;
        let timer = call.waits.during(call.state.timer(&partition, &name)).await;
        let timer = self.counted(timer)?;
        let shown = timer.map(|timer| {
            to_json(&Shown {
                due: timer.due_ms,
                every: timer.every_ms,
                payload: serde_json::from_str(&timer.payload).ok(),
            })
        });
        shown.transpose()
    }
}
