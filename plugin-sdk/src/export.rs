//! How a plugin becomes a component.

use crate::{bindings::switchboard::plugin::types as wit, plugin::Plugin};
use std::cell::OnceCell;

#[cfg(target_family = "wasm")]
#[global_allocator]
static MEMORY: crate::allocator::Recycling = crate::allocator::Recycling::new();

thread_local! {
    /// The plugin of this instance. Its handlers are functions, so nothing of an event stays in it.
    static PLUGIN: OnceCell<Plugin> = const { OnceCell::new() };
}

fn with_plugin<T>(constructor: fn() -> Plugin, use_it: impl FnOnce(&Plugin) -> T) -> T {
    PLUGIN.with(|cell| {
        use_it(cell.get_or_init(|| {
            // Without this the operator would see that the plugin trapped, and not why.
            std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
            constructor()
        }))
    })
}

/// Called by the component's `describe`.
#[must_use]
pub fn describe(constructor: fn() -> Plugin) -> String {
    with_plugin(constructor, Plugin::describe)
}

/// Called by the component's `handle`.
///
/// # Errors
/// The handler's verdict.
pub fn handle(constructor: fn() -> Plugin, event: wit::Event) -> Result<wit::Reply, wit::Failure> {
    with_plugin(constructor, |plugin| plugin.handle(event))
}

/// Makes a component of a plugin: takes the name of the function that returns it.
///
/// ```
/// # use switchboard_plugin::Plugin;
/// fn plugin() -> Plugin {
///     Plugin::new("chat").version(env!("CARGO_PKG_VERSION"))
/// }
///
/// switchboard_plugin::export!(plugin);
/// # fn main() {}
/// ```
///
/// In native code, where tests run, it does nothing.
#[macro_export]
macro_rules! export {
    ($plugin:path) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        const _: () = {
            struct Component;

            impl $crate::bindings::exports::switchboard::plugin::guest::Guest for Component {
                fn describe() -> ::std::string::String {
                    $crate::export::describe($plugin)
                }

                fn handle(
                    event: $crate::bindings::exports::switchboard::plugin::guest::Event,
                ) -> ::std::result::Result<
                    $crate::bindings::exports::switchboard::plugin::guest::Reply,
                    $crate::bindings::exports::switchboard::plugin::guest::Failure,
                > {
                    $crate::export::handle($plugin, event)
                }
            }

    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
        // Where it is not exported, the function is still used.
        #[cfg(not(target_family = "wasm"))]
        const _: fn() -> $crate::Plugin = $plugin;
    };
}
