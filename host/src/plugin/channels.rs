//! The capability `channels`, on the host's side.

use super::{
    bindings::switchboard::plugin as wit,
    capabilities::{Faulty, fault, invalid},
    guest::GuestState,
};
use crate::core::{
    channel::ChannelName,
    instruction::Instruction,
    payload::{self, OUTGOING_DEPTH},
};

/// Messages that one event may publish, and their bytes together.
const MESSAGES: usize = 100;
const BYTES: usize = 1_000_000;

impl wit::channels::Host for GuestState {
    fn publish(&mut self, channel: String, payload: String) -> Faulty<()> {
        let channel = ChannelName::new(&channel).map_err(|error| invalid(error.to_string()))?;
        let info = &self.about.info;
        if !info.channels.iter().any(|grant| grant.covers(&channel)) {
            let plugin = info.name();
            return Err(fault(
                "NOT_GRANTED",
                format!(
                    "the channel `{channel}` is not granted to this plugin (plugin.{plugin}.channels)"
                ),
            ));
        }
        if !self.about.has_redis {
            let why = "there is no Redis to publish to: none is configured (redis.host)";
            return Err(fault("UNAVAILABLE", why));
        }
        let sizes = self
            .soft
            .iter()
            .filter_map(|instruction| match instruction {
                Instruction::Publish { payload, .. } => Some(payload.len()),
                _ => None,
            });
        let (count, bytes) = sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
        if count >= MESSAGES {
            let why = format!("more than {MESSAGES} messages published in one event");
            return Err(fault("TOO_MANY", why));
        }
        if bytes + payload.len() > BYTES {
            let why = format!("more than {BYTES} bytes published in one event");
            return Err(fault("TOO_LARGE", why));
        }
        payload::args_of_one(&payload, OUTGOING_DEPTH)
            .map_err(|error| invalid(format!("payload: {error}")))?;
        self.soft.push(Instruction::Publish { channel, payload });
        Ok(())
    }
}
