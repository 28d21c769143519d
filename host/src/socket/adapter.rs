//! The adapter under every namespace. It only makes the local delivery reachable: who is in which
//! room is `rooms`' business, and the library's rooms follow it.

use dashmap::DashMap;
use socketioxide::adapter::Emitter;
use socketioxide_core::{
    adapter::{BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, SocketEmitter},
    packet::Packet,
};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// The delivery of one namespace.
pub(super) type Local = Arc<CoreLocalAdapter<Emitter>>;

/// The deliveries of all namespaces, by path.
pub(super) type Locals = Arc<DashMap<String, Local>>;

/// See the module's page.
pub(super) struct HostAdapter {
    local: Local,
}

impl CoreAdapter<Emitter> for HostAdapter {
    type Error = Infallible;
    type State = Locals;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(locals: &Locals, local: CoreLocalAdapter<Emitter>) -> Self {
        let local = Arc::new(local);
        locals.insert(local.path().to_string(), local.clone());
        Self { local }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        on_success();
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        opts: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Infallible> {
        Ok(self.local.broadcast_with_ack(packet, opts, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.local
    }
}

impl DefinedAdapter for HostAdapter {}
