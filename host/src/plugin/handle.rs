//! A component's function that takes events.
//!
//! Whether it has the contract's type is checked once for a component, and not for each of its instances:
//! the type has some forty parts, and to compare them is a good part of what a fresh instance costs.

use super::{
    bindings::{PluginPre, types as wit},
    guest::GuestState,
};
use std::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{
    Engine, Store,
    component::{ComponentExportIndex, Func, InstancePre, TypedFunc},
    error::Context,
};

/// The version of the contract that this host speaks.
pub(super) const GUEST: &str = "switchboard:plugin/guest@0.1.0";

type Params<'a> = (wit::Event<'a>,);
type Returned = (Result<wit::Reply, wit::Failure>,);

/// A component, linked with what it may use.
pub(super) struct Linked {
    pre: InstancePre<GuestState>,
    handle: ComponentExportIndex,
    is_checked: AtomicBool,
}

impl Linked {
    /// Returns a component that has the contract's functions.
    ///
    /// # Errors
    /// When it has not.
    pub(super) fn new(pre: &PluginPre<GuestState>) -> wasmtime::Result<Self> {
        let pre = pre.instance_pre().clone();
        let component = pre.component();
        let interface = component.get_export_index(None, GUEST);
        let handle = interface
            .and_then(|interface| component.get_export_index(Some(&interface), "handle"))
            .context("the component has no function `handle`")?;
        Ok(Self {
            pre,
            handle,
            is_checked: AtomicBool::new(false),
        })
    }

    pub(super) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    /// Makes an instance, and returns its function.
    ///
    /// # Errors
    /// When that fails, or the function is of another type.
    pub(super) async fn instantiate(
        &self,
        store: &mut Store<GuestState>,
    ) -> wasmtime::Result<Handle> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let function = instance
            .get_func(&mut *store, self.handle)
            .context("the component has no function `handle`")?;
        if !self.is_checked.load(Ordering::Relaxed) {
            function.typed::<Params<'_>, Returned>(&*store)?;
            self.is_checked.store(true, Ordering::Relaxed);
        }
        Ok(Handle(function))
    }
}

/// The function of one instance.
pub(super) struct Handle(Func);

impl Handle {
    /// Hands an event to the instance.
    ///
    /// # Errors
    /// Its trap.
    pub(super) async fn call(
        &self,
        store: &mut Store<GuestState>,
        event: wit::Event<'_>,
    ) -> wasmtime::Result<Result<wit::Reply, wit::Failure>> {
        // SAFETY: it is the same function of the same component whose type was checked with the first
        // instance that `Linked` made; an instance cannot change it.
        #[allow(unsafe_code)]
        let handle = unsafe { TypedFunc::<Params<'_>, Returned>::new_unchecked(self.0) };
        let (result,) = handle.call_async(store, (event,)).await?;
        Ok(result)
    }
}
