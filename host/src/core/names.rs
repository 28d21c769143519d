//! Ids and names as types of their own. Each can be made only of a text that follows its rule, so
//! that whoever holds one need not check again.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// Why a text is not the name it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{}` is not valid: {rule}", shortened(.text))]
pub struct InvalidName {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl InvalidName {
    pub(super) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        Self {
            what,
            text: text.to_owned(),
            rule,
        }
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(64).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the name, or why the text is none.
            ///
            /// # Errors
            /// When the text breaks the rule of this kind of name.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                Self::check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// Checks that a text could be such a name, without making it one.
            ///
            /// # Errors
            /// When the text breaks the rule of this kind of name.
            pub fn check(text: &str) -> Result<(), InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(())
                } else {
                    Err(InvalidName::new($what, text, $rule))
                }
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

/// Nearly all names are ASCII, and each event has several.
fn has_control(text: &str) -> bool {
    let (control, beyond_ascii) = text.bytes().fold((false, false), |(control, beyond), b| {
        (control | b.is_ascii_control(), beyond | !b.is_ascii())
    });
    control || beyond_ascii && text.chars().any(char::is_control)
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'~'))
}

fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

text_name!(
    /// The id of a user. Never contains a `:`, so no crafted id can name another room.
    UserId, "user id", "expected 1 to 128 letters, digits or _ - . @ ~", is_id
);

text_name!(
    /// The name of a plugin, as its manifest says.
    PluginName, "plugin name",
    "expected 1 to 64 lower-case letters, digits or -, beginning with a letter", is_slug
);

text_name!(
    /// The part of a room's name before its first `:`; what a plugin is granted.
    RoomPrefix, "room prefix",
    "expected 1 to 64 lower-case letters, digits or -, beginning with a letter", is_slug
);

text_name!(
    /// A namespace of Socket.IO, such as `/`.
    Namespace, "namespace", "expected `/`, or `/` followed by 1 to 127 letters, digits or _ - /",
    |text| text.len() <= 128
        && text.strip_prefix('/').is_some_and(|rest| rest
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/')))
);

impl Namespace {
    /// Returns a copy that shares no counter of references: what every event of a connection counts
    /// would otherwise be counted by all threads in one place.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Arc::from(self.as_str()))
    }
}

text_name!(
    /// The name of an event: 1 to 128 bytes without control characters, `"` and `\`.
    EventName, "event name", "expected 1 to 128 bytes without control characters, quotes or backslashes",
    |text| (1..=128).contains(&text.len())
        && !has_control(text)
        && memchr::memchr2(b'"', b'\\', text.as_bytes()).is_none()
);

text_name!(
    /// The name of a room: a prefix, `:`, and something that is not empty; at most 512 bytes.
    RoomName, "room", "expected `prefix:name`, at most 512 bytes, without control characters",
    |text| text.len() <= 512
        && !has_control(text)
        && text
            .split_once(':')
            .is_some_and(|(prefix, rest)| is_slug(prefix) && !rest.is_empty())
);

impl Namespace {
    /// Returns the namespace `/`.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from("/"))
    }
}

impl PluginName {
    /// Returns the name of a plugin that has not said its own yet.
    #[must_use]
    pub fn unnamed() -> Self {
        Self(Arc::from("unnamed"))
    }
}

impl RoomName {
    /// Returns the name that a server of another kind in the same cluster gave to a room. Where no
    /// plugin could give it, it has no prefix that a plugin could be granted either. None for a name
    /// that only looks like a plugin's.
    #[must_use]
    pub fn foreign(name: &str) -> Option<Self> {
        if let Ok(name) = Self::new(name) {
            return Some(name);
        }
        let looks_like = name
            .split_once(':')
            .is_some_and(|(prefix, _)| is_slug(prefix));
        let fits = !name.is_empty() && name.len() <= 512 && !has_control(name);
        (fits && !looks_like).then(|| Self(Arc::from(name)))
    }

    /// Returns the part before the first `:`; nothing where there is none.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.as_str()
            .split_once(':')
            .map_or("", |(prefix, _)| prefix)
    }

    /// Returns the room that every connection of a user is in.
    #[must_use]
    pub fn of_user(user: &UserId) -> Self {
        Self(Arc::from(format!("{USER_PREFIX}:{user}")))
    }
}

/// The host's own room prefix: it can be emitted to by naming the user, and joined by nobody.
pub const USER_PREFIX: &str = "user";

/// The names that Socket.IO's clients or the host use themselves. Neither a client nor a plugin may
/// send an event of such a name. (Socket.IO: `RESERVED_EVENTS` of its server and its client.)
const RESERVED: &[&str] = &[
    "connect",
    "connect_error",
    "connection",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "error",
    "auth",
    "auth-success",
    "session",
    "token-expiring",
];

impl EventName {
    /// Tells whether Socket.IO or the host keeps a name for itself.
    #[must_use]
    pub fn is_reserved(name: &str) -> bool {
        RESERVED.contains(&name)
    }
}

/// The host's id of a connection: opaque, not secret, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(Uuid);

impl ConnectionId {
    /// Returns an id that nobody has had.
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// Returns the id that a text stands for, none where it is no such id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 36)
            .then(|| Uuid::try_parse(text).ok().map(Self))
            .flatten()
    }
}

impl From<ConnectionId> for Uuid {
    fn from(id: ConnectionId) -> Self {
        id.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_name_a_room() {
        assert!(UserId::new("ann.b@x~1_-").is_ok());
        for bad in ["", "a:b", "a b", "ä", &"x".repeat(129)] {
            assert!(UserId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_room_has_a_prefix_and_a_rest() {
        assert_eq!(
            RoomName::new("conversation:a:b").map(|room| room.prefix().to_owned()),
            Ok("conversation".to_owned())
        );
        for bad in ["", "course", "course:", ":x", "Course:x", "course:\n", "*"] {
            assert!(RoomName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_have_no_control_characters_of_any_script() {
        for good in ["say", "\u{e9}v\u{e9}nement", "\u{1f44b}"] {
            assert!(EventName::new(good).is_ok(), "{good}");
            assert!(RoomName::new(&format!("room:{good}")).is_ok(), "{good}");
        }
        for bad in ["a\n", "a\u{7f}", "a\u{85}", "\u{e9}\u{9f}", "\u{e9}\t"] {
            assert!(EventName::new(bad).is_err(), "{bad:?}");
            assert!(RoomName::new(&format!("room:{bad}")).is_err(), "{bad:?}");
            assert_eq!(RoomName::foreign(bad), None, "{bad:?}");
        }
        for bad in ["", "a\"", "a\\"] {
            assert!(EventName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_foreign_name_is_a_room_that_no_plugin_can_be_granted() {
        for name in ["lobby", "7", "Lobby:1", ":x", "a b:c"] {
            let room = RoomName::foreign(name).unwrap();
            assert!(RoomPrefix::new(room.prefix()).is_err(), "{name}");
        }
        assert_eq!(
            RoomName::foreign("room:1").map(|room| room.prefix().to_owned()),
            Some("room".to_owned())
        );
        for name in ["", "room:", "room:\n", &format!("room:{}", "x".repeat(600))] {
            assert_eq!(RoomName::foreign(name), None, "{name}");
        }
    }

    #[test]
    fn a_connection_id_survives_its_text() {
        let id = ConnectionId::fresh();
        assert_eq!(ConnectionId::parse(&id.to_string()), Some(id));
        assert_eq!(ConnectionId::parse("nonsense"), None);
    }

    #[test]
    fn an_error_shows_the_start_of_a_long_text_only() {
        let message = UserId::new(&"é".repeat(500)).unwrap_err().to_string();
        assert!(message.chars().count() < 200, "{message}");
    }
}
