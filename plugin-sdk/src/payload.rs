//! What crosses the boundary as JSON: arguments in, arguments and answers out, attachments beside.

use crate::{
    arguments::for_clients,
    bindings::switchboard::plugin::types as wit,
    error::{Error, Result},
    imports,
    placeholder::{self, Placeholder},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap,
};
use serde_json::value::RawValue;
use std::{cell::RefCell, fmt};

/// An id: 1 to 128 letters, digits and `_ - . @ ~`. It cannot contain a
/// `:`, so no crafted id can name another room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    /// Returns the id.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD` when the text is no id.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let fits = (1..=128).contains(&text.len())
            && text.bytes().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'~')
            });
        if fits {
            Ok(Self(text))
        } else {
            Err(Error::invalid_payload(
                "an id has 1 to 128 letters, digits or _ - . @ ~",
            ))
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Id {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(text).map_err(|error| serde::de::Error::custom(error.message))
    }
}

thread_local! {
    /// The attachments of what is being written, while it is being written.
    static OUTGOING: RefCell<Option<Vec<wit::Attachment>>> = const { RefCell::new(None) };
}

/// Adds an attachment to what is being written, and returns its number; none when nothing is.
fn attach(attachment: wit::Attachment) -> Option<u32> {
    OUTGOING.with_borrow_mut(|outgoing| {
        let outgoing = outgoing.as_mut()?;
        outgoing.push(attachment);
        u32::try_from(outgoing.len() - 1).ok()
    })
}

/// A binary value in a payload. One that came with the event is passed on without being copied
/// through the plugin; [`Binary::read`] gets its bytes when they are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binary {
    /// The n-th attachment of the event being handled.
    Received(u32),
    /// The plugin's own bytes.
    Bytes(Vec<u8>),
}

impl Binary {
    /// Returns the bytes; empty where there is no such attachment, which the host rules out for
    /// what came in a payload.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        match self {
            Self::Received(index) => imports::attachment(*index).unwrap_or_default(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }

    /// Returns how many bytes there are, without reading them.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Received(index) => imports::attachment_size(*index).unwrap_or_default(),
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

#[derive(Deserialize)]
struct Marked {
    #[serde(rename = "_placeholder")]
    marker: bool,
    num: u32,
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let placeholder = Marked::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("expected binary data"))?;
        if placeholder.marker {
            Ok(Self::Received(placeholder.num))
        } else {
            Err(serde::de::Error::custom("expected binary data"))
        }
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let attachment = match self {
            Self::Received(index) => wit::Attachment::Received(*index),
            Self::Bytes(bytes) => wit::Attachment::Bytes(bytes.clone()),
        };
        let number = attach(attachment).ok_or_else(|| {
            serde::ser::Error::custom(
                "binary data can be emitted and acknowledged, not stored: read it first",
            )
        })?;
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("_placeholder", &true)?;
        map.serialize_entry("num", &number)?;
        map.end()
    }
}

/// Any JSON, binary values included, to be passed on as it came. It is kept as text, so that neither
/// its size nor its shape costs anything; [`Json::read`] reads it when it is needed.
///
/// It cannot be a member of a struct that is read through `#[serde(flatten)]`, nor of an untagged
/// enum: serde keeps no text there.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Returns a value as JSON.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::value::to_raw_value(value)
            .map(Self)
            .map_err(unwritable)
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Reads the value.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD` when it is not a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.text())
            .map_err(|error| Error::invalid_payload(for_clients(&error.to_string())))
    }

    /// Tells whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.text().starts_with('{')
    }
}

impl Default for Json {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let text = self.text();
        // What is malformed is refused where the whole is looked at.
        let found = placeholder::find(text).unwrap_or_default();
        let mut renumbered = String::new();
        let mut copied = 0;
        for Placeholder { start, end, number } in found {
            let Some(number) = attach(wit::Attachment::Received(number)) else {
                break;
            };
            renumbered.push_str(text.get(copied..start).unwrap_or_default());
            renumbered.push_str(&format!(r#"{{"_placeholder":true,"num":{number}}}"#));
            copied = end;
        }
        if copied == 0 {
            return self.0.serialize(serializer);
        }
        renumbered.push_str(text.get(copied..).unwrap_or_default());
        RawValue::from_string(renumbered)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

/// Writes a value as JSON, with the attachments that its binary values stand for.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> Result<(String, Vec<wit::Attachment>)> {
    let before = OUTGOING.replace(Some(Vec::new()));
    let text = serde_json::to_string(value);
    let attachments = OUTGOING.replace(before).unwrap_or_default();
    let text = text.map_err(unwritable)?;
    // A client can send binary data where the plugin expects any JSON. Passed on as a mere value it
    // would stand for an attachment that is not there, and the host would refuse the whole reply.
    match placeholder::find(&text) {
        Ok(found) if found.len() == attachments.len() => Ok((text, attachments)),
        _ => Err(Error::invalid_payload("binary data is not accepted here")),
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    crate::log::error(format!("a value cannot be written as JSON: {error}"));
    Error::new("PLUGIN_FAILED", "the plugin failed on this event")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_id_cannot_name_a_room() {
        for bad in ["", "a:b", "a b", "é", &"x".repeat(129)] {
            assert_eq!(Id::new(bad).unwrap_err().code, "INVALID_PAYLOAD", "{bad}");
            assert!(serde_json::from_value::<Id>(json!(bad)).is_err());
        }
    }

    #[test]
    fn binary_values_are_renumbered_as_they_are_written() {
        let came = r#"{ "a": [{ "num": 1, "_placeholder": true }], "b": 2 }"#;
        let came: Json = serde_json::from_str(came).unwrap();
        let own = Binary::Bytes(vec![1]);
        let (text, attachments) = write(&(own, came)).unwrap();
        assert_eq!(
            text,
            r#"[{"_placeholder":true,"num":0},{ "a": [{"_placeholder":true,"num":1}], "b": 2 }]"#
        );
        assert!(matches!(
            attachments.as_slice(),
            [wit::Attachment::Bytes(_), wit::Attachment::Received(1)]
        ));
        assert!(serde_json::to_string(&Binary::Received(0)).is_err());
    }

    #[test]
    fn binary_data_where_none_is_expected_is_the_senders_mistake() {
        for crafted in [
            json!({ "_placeholder": true, "num": 0 }),
            json!({ "a": [{ "_placeholder": true }] }),
        ] {
            assert_eq!(write(&crafted).unwrap_err().code, "INVALID_PAYLOAD");
        }
        let malformed: Json = serde_json::from_str(r#"{"_placeholder":true,"num":-1}"#).unwrap();
        assert_eq!(write(&malformed).unwrap_err().code, "INVALID_PAYLOAD");
        assert!(write(&json!({ "content": "\"_placeholder\":true" })).is_ok());
    }

    #[test]
    fn any_json_is_passed_on_as_it_came() {
        let json: Json = serde_json::from_str(r#"{ "b":1.50, "a":[ ] }"#).unwrap();
        assert_eq!(write(&json).unwrap().0, r#"{ "b":1.50, "a":[ ] }"#);
        assert!(json.is_object() && !Json::default().is_object());
        assert_eq!(Json::default().text(), "null");
        assert_eq!(Json::of(&[1]).unwrap().read::<Vec<u8>>(), Ok(vec![1]));
        let refused = json.read::<Vec<u8>>().unwrap_err();
        assert_eq!(refused.message, "invalid type: object, expected a sequence");
    }
}
