//! Channels of Redis that plugins have to do with, and which of them a plugin may publish to.

use super::names::InvalidName;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a channel of Redis: 1 to 256 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(String);

impl ChannelName {
    /// Returns the name, or why the text is none.
    ///
    /// # Errors
    /// When the text breaks the rule.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        if (1..=256).contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        let rule = "expected 1 to 256 bytes without control characters";
        Err(InvalidName::new("channel", text, rule))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ChannelName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(&text)
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> Self {
        name.0
    }
}

/// Channels that a plugin is granted: one by its name, or with a `*` at the end all that begin so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelGrant(String);

impl ChannelGrant {
    /// Returns the grant, or why the text is none.
    ///
    /// # Errors
    /// When the text breaks the rule.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let begins = text.strip_suffix('*').unwrap_or(text);
        if ChannelName::new(text).is_ok() && !begins.contains('*') {
            return Ok(Self(text.to_owned()));
        }
        let rule = "expected a channel's name, or with one `*` at its end what names begin with";
        Err(InvalidName::new("channel", text, rule))
    }

    /// Tells whether a channel is one of these.
    #[must_use]
    pub fn covers(&self, channel: &ChannelName) -> bool {
        match self.0.strip_suffix('*') {
            Some(begins) => channel.as_str().starts_with(begins),
            None => channel.as_str() == self.0,
        }
    }
}

impl TryFrom<String> for ChannelGrant {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(&text)
    }
}

impl From<ChannelGrant> for String {
    fn from(grant: ChannelGrant) -> Self {
        grant.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_covers_what_it_says_and_no_more() {
        let channel = |text| ChannelName::new(text).unwrap();
        for (grant, covered, others) in [
            (
                "message:new",
                &["message:new"][..],
                &["message:newer", "message:", "x"][..],
            ),
            (
                "message:*",
                &["message:", "message:new"],
                &["message", "messages:new"],
            ),
            ("*", &["x"], &[]),
        ] {
            let granted = ChannelGrant::new(grant).unwrap();
            for name in covered {
                assert!(granted.covers(&channel(name)), "{grant} {name}");
            }
            for name in others {
                assert!(!granted.covers(&channel(name)), "{grant} {name}");
            }
        }
        for bad in ["", "a*b", "*a", "**", "a\nb", &"x".repeat(300)] {
            assert!(ChannelGrant::new(bad).is_err(), "{bad}");
        }
        assert!(ChannelName::new("a\0").is_err() && ChannelName::new("é *").is_ok());
    }
}
