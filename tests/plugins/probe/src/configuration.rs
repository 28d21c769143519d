//! What a test may change in a built component without building it again: one block of bytes in the
//! file, after a marker that the tests look for, holds a JSON object padded with spaces.

use serde_json::{Map, Value};

/// How many bytes the block has: the marker, then the JSON text with its padding.
pub(crate) const BLOCK_BYTES: usize = 1024;

/// What the tests look for in the component's bytes.
pub(crate) const MARKER: &str = "PROBE-CONFIGURATION";

/// What holds where nothing was patched.
const DEFAULTS: &str = r#"{"name":"probe","version":"0"}"#;

static BLOCK: [u8; BLOCK_BYTES] = block();

#[allow(clippy::indexing_slicing)] // In a constant the compiler checks the bounds.
const fn block() -> [u8; BLOCK_BYTES] {
    let mut bytes = [b' '; BLOCK_BYTES];
    let marker = MARKER.as_bytes();
    let defaults = DEFAULTS.as_bytes();
    let mut at = 0;
    while at < marker.len() {
        bytes[at] = marker[at];
        at += 1;
    }
    at = 0;
    while at < defaults.len() {
        bytes[marker.len() + at] = defaults[at];
        at += 1;
    }
    bytes
}

/// The patched configuration.
pub(crate) struct Configuration {
    /// The plugin's name, and its room prefix.
    pub(crate) name: String,
    /// The version that every answer carries.
    pub(crate) version: String,
    /// Whether `describe` traps.
    pub(crate) trap_in_describe: bool,
    /// Members that replace those of the manifest, so that a test can make any manifest.
    pub(crate) manifest: Map<String, Value>,
}

impl Configuration {
    /// Reads the block as it is in the running component.
    pub(crate) fn read() -> Self {
        // Without the black box the compiler would read the block at build time, and a patched file
        // would go on saying what was built.
        let block = std::hint::black_box(&BLOCK);
        let text = String::from_utf8_lossy(block);
        let json = text.trim_start_matches(MARKER).trim_end();
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        let text = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            name: text("name"),
            version: text("version"),
            trap_in_describe: value
                .get("trapInDescribe")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            manifest: value
                .get("manifest")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
        }
    }
}
