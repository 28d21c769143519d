//! The contract, generated from `wit/`, and the plugin's exports.

#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    clippy::restriction
)]

wit_bindgen::generate!({ path: "../../../wit", world: "plugin" });

use crate::Probe;

// Only a component exports; the names are none that a native linker takes.
#[cfg(target_family = "wasm")]
export!(Probe with_types_in self);
