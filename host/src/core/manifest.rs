//! What a plugin says of itself in `describe`.

use super::{
    event::Notice,
    names::{EventName, PluginName, RoomPrefix, USER_PREFIX},
};
use serde::Deserialize;
use serde_json::Value;

/// The capabilities that need no grant.
pub const ALWAYS_GRANTED: [&str; 3] = ["log", "settings", "attachments"];

/// The capabilities that a plugin's manifest must name.
pub const GRANTABLE: [&str; 7] = [
    "rooms", "kv", "history", "timers", "typing", "presence", "channels",
];

/// The answer of `describe`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name, one for all versions.
    pub name: PluginName,
    /// Its version, any text of 1 to 64 characters.
    pub version: String,
    /// What it wants to be called for.
    #[serde(default)]
    pub subscriptions: Subscriptions,
    /// The prefixes of its rooms.
    #[serde(default)]
    pub rooms: Vec<RoomPrefix>,
    /// The imports that it needs.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// A JSON Schema of the operator's settings.
    #[serde(default)]
    pub settings: Option<Value>,
    /// The versions of its stored state.
    #[serde(default)]
    pub state: StateVersions,
}

/// The events that a plugin wants to be called for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscriptions {
    /// Clients' events.
    #[serde(default)]
    pub messages: Vec<EventName>,
    /// What the host observes.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Backends' events.
    #[serde(default)]
    pub server: Vec<EventName>,
}

/// Which versions of stored state a plugin reads, and which one it writes.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct StateVersions {
    /// What it can read.
    pub reads: Vec<u32>,
    /// What it writes.
    pub writes: u32,
}

impl Default for StateVersions {
    fn default() -> Self {
        Self {
            reads: vec![1],
            writes: 1,
        }
    }
}

/// Why an answer of `describe` is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not the JSON that is expected.
    #[error("describe did not answer a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// The JSON is right, what it says is not.
    #[error("the manifest's `{member}` is not valid: {why}")]
    Member {
        /// Which member.
        member: &'static str,
        /// Why.
        why: String,
    },
}

impl Manifest {
    /// Returns what is known of a plugin before it was asked: nothing.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            name: PluginName::unnamed(),
            version: String::new(),
            subscriptions: Subscriptions::default(),
            rooms: Vec::new(),
            capabilities: Vec::new(),
            settings: None,
            state: StateVersions::default(),
        }
    }

    /// Returns the manifest that a text holds.
    ///
    /// # Errors
    /// When the text is not JSON of the expected form, subscribes to a name that cannot occur, or
    /// names a capability that this host does not have.
    pub fn parse(text: &str) -> Result<Self, InvalidManifest> {
        let manifest: Self = serde_json::from_str(text)?;
        let fail = |member, why: String| Err(InvalidManifest::Member { member, why });
        if !(1..=64).contains(&manifest.version.len()) {
            return fail("version", "expected 1 to 64 characters".to_owned());
        }
        for notice in &manifest.subscriptions.notices {
            if !Notice::NAMES.contains(&notice.as_str()) {
                return fail(
                    "subscriptions.notices",
                    format!(
                        "there is no notice `{notice}`; expected one of {}",
                        Notice::NAMES.join(", ")
                    ),
                );
            }
        }
        for event in &manifest.subscriptions.messages {
            if EventName::is_reserved(event.as_str()) {
                return fail("subscriptions.messages", format!("`{event}` is reserved"));
            }
        }
        for capability in &manifest.capabilities {
            let known = |name: &str| name == capability;
            if !ALWAYS_GRANTED.iter().any(|name| known(name))
                && !GRANTABLE.iter().any(|name| known(name))
            {
                return fail(
                    "capabilities",
                    format!(
                        "this host has no `{capability}`; it has {}, {}",
                        ALWAYS_GRANTED.join(", "),
                        GRANTABLE.join(", ")
                    ),
                );
            }
        }
        if manifest
            .rooms
            .iter()
            .any(|prefix| prefix.as_str() == USER_PREFIX)
        {
            return fail("rooms", format!("`{USER_PREFIX}` is the host's own"));
        }
        if !manifest.state.reads.contains(&manifest.state.writes) {
            return fail(
                "state",
                "`reads` must contain the version in `writes`".to_owned(),
            );
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_manifest_is_enough() {
        let manifest = Manifest::parse(r#"{"name":"chat","version":"1"}"#).unwrap();
        assert_eq!(
            manifest.state,
            StateVersions {
                reads: vec![1],
                writes: 1
            }
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("[", "describe did not answer a manifest"),
            (r#"{"name":"Chat","version":"1"}"#, "plugin name `Chat`"),
            (
                r#"{"name":"chat","version":"1","subscribe":{}}"#,
                "unknown field `subscribe`",
            ),
            (
                r#"{"name":"chat","version":"1","rooms":["user"]}"#,
                "`user` is the host's own",
            ),
            (
                r#"{"name":"chat","version":"1","capabilities":["fs"]}"#,
                "this host has no `fs`",
            ),
            (
                r#"{"name":"chat","version":"1","subscriptions":{"notices":["conected"]}}"#,
                "no notice `conected`",
            ),
            (
                r#"{"name":"chat","version":"1","subscriptions":{"messages":["auth"]}}"#,
                "`auth` is reserved",
            ),
            (
                r#"{"name":"chat","version":"1","state":{"reads":[1],"writes":2}}"#,
                "must contain",
            ),
        ] {
            let message = Manifest::parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
