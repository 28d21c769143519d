//! The section `[state]`.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where plugins' state is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// What keeps it; where none is named, `serve` takes `redis` if one is configured, and else
    /// `embedded`; `dev` takes `memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// The directory of the embedded store. It belongs to one host at a time.
    pub dir: PathBuf,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            backend: None,
            dir: "state".into(),
        }
    }
}

/// What keeps state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The process: gone with it.
    Memory,
    /// A directory: there again after whatever ended the host.
    Embedded,
    /// Redis: shared by all hosts that use it.
    Redis,
}
