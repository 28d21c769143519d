//! A handler's view of timers.

use super::{
    bounds::{SHORTEST_REPEAT_MS, check_json, check_name},
    transaction::Transaction,
};
use crate::{
    core::state::{Timer, timer_name},
    ports::{Fault, TimersAccess, Write},
};
use futures_util::future::BoxFuture;

impl TimersAccess for Transaction {
    fn schedule(&self, partition: &str, name: &str, timer: Timer) -> Result<(), Fault> {
        check_name("timer", name)?;
        check_json("a payload", &timer.payload)?;
        if timer
            .every_ms
            .is_some_and(|every| every < SHORTEST_REPEAT_MS)
        {
            return Err(Fault::new(
                "INVALID",
                format!("every-ms: expected at least {SHORTEST_REPEAT_MS}"),
            ));
        }
        self.stage(partition, timer_name(name), timer.payload.len(), |_| {
            Ok(Write::Set(timer.to_string(), None))
        })
    }

    fn cancel(&self, partition: &str, name: &str) -> Result<(), Fault> {
        check_name("timer", name)?;
        self.stage(partition, timer_name(name), 0, |_| Ok(Write::Delete))
    }

    fn timer<'a>(
        &'a self,
        partition: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Timer>, Fault>> {
        Box::pin(async move {
            check_name("partition", partition)?;
            check_name("timer", name)?;
            self.work.lock().count_reads(1)?;
            let text = self.current(partition, &timer_name(name)).await?;
            Ok(text.and_then(|text| Timer::parse(&text)))
        })
    }
}
