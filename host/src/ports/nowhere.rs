//! A connection of tests that nothing is sent on.

use super::{CloseReason, Frame, Lost, Outbound, SendError};
use crate::core::names::RoomName;
use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use std::{sync::Arc, time::Duration};

pub(crate) struct Nowhere;

impl Nowhere {
    pub(crate) fn outbound() -> Arc<dyn Outbound> {
        Arc::new(Self)
    }
}

impl Outbound for Nowhere {
    fn emit(&self, _: &Frame, _: bool) -> Result<(), SendError> {
        Ok(())
    }
    fn name(&self) -> &str {
        "nowhere"
    }
    fn enter(&self, _: &RoomName) {}
    fn exit(&self, _: &RoomName) {}
    fn take(&self, _: &Frame, _: bool) -> Result<(), SendError> {
        Ok(())
    }
    fn emit_to_room(&self, _: &RoomName, _: &[&str], _: &Frame, _: bool) -> Result<(), Lost> {
        Ok(())
    }
    fn emit_with_ack(
        &self,
        _: &Frame,
        _: Duration,
    ) -> BoxFuture<'static, Result<(String, Vec<Bytes>), &'static str>> {
        Box::pin(ready(Err("timeout")))
    }
    fn disconnect(&self) {}
    fn close_transport(&self, _: CloseReason) {}
}
