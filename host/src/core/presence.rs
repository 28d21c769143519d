//! What a user is seen as.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A user's state, as others see it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Connected nowhere, or wants to seem so.
    #[default]
    Offline,
    /// Connected, and not active for a while, or says so.
    Away,
    /// Says so.
    Busy,
    /// Connected and active.
    Online,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Online, Self::Away, Self::Busy, Self::Offline];

    /// Returns the status of this name, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Online => "online",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A user's state, and since when it is no better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The state.
    pub status: Status,
    /// When the user was active last, in milliseconds since 1970 UTC, as far as that is known and may be:
    /// of who wants to seem offline it is when that was said.
    pub at_ms: Option<u64>,
}
