//! What crosses the boundary as JSON: arguments in, arguments and answers out, attachments beside.

use crate::{
    bindings::switchboard::plugin::types as wit,
    error::{Error, Result},
    imports,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap,
};
use serde_json::{Value, value::RawValue};
use std::{cell::RefCell, fmt};

/// An id as the dialects define it: 1 to 128 letters, digits and `_ - . @ ~`. It cannot contain a
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
struct Placeholder {
    #[serde(rename = "_placeholder")]
    marker: bool,
    num: u32,
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let placeholder = Placeholder::deserialize(deserializer)
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
        let number = OUTGOING.with_borrow_mut(|outgoing| {
            let outgoing = outgoing.as_mut()?;
            outgoing.push(attachment);
            u32::try_from(outgoing.len() - 1).ok()
        });
        let number = number.ok_or_else(|| {
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

/// Any JSON, binary values included, to be passed on as it came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Json(pub Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        AsCame(&self.0).serialize(serializer)
    }
}

struct AsCame<'a>(&'a Value);

impl Serialize for AsCame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(AsCame)),
            Value::Object(object) => {
                let received = (object.get("_placeholder") == Some(&Value::Bool(true)))
                    .then(|| object.get("num").and_then(Value::as_u64))
                    .flatten()
                    .and_then(|number| u32::try_from(number).ok());
                match received {
                    Some(index) => Binary::Received(index).serialize(serializer),
                    None => serializer
                        .collect_map(object.iter().map(|(key, value)| (key, AsCame(value)))),
                }
            }
            other => other.serialize(serializer),
        }
    }
}

/// Writes a value as JSON, with the attachments that its binary values stand for.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T) -> Result<(String, Vec<wit::Attachment>)> {
    let before = OUTGOING.replace(Some(Vec::new()));
    let text = serde_json::to_string(value);
    let attachments = OUTGOING.replace(before).unwrap_or_default();
    let text = text.map_err(|error| {
        crate::log::error(format!("a payload cannot be written as JSON: {error}"));
        Error::new("PLUGIN_FAILED", "the plugin failed on this event")
    })?;
    Ok((text, attachments))
}

/// The arguments of an event, each read when a handler asks for it.
pub struct Arguments<'a>(Vec<&'a RawValue>);

impl<'a> Arguments<'a> {
    pub(crate) fn new(args: &'a str) -> Result<Self> {
        serde_json::from_str(args)
            .map(Self)
            .map_err(|_| Error::invalid_payload("the arguments are not a JSON array"))
    }

    /// Returns argument `index`; one that is missing reads as `null`, and so as `None` where that is
    /// possible.
    pub(crate) fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T> {
        let given = self.0.get(index);
        let text = given.map_or("null", |raw| raw.get());
        serde_json::from_str(text).map_err(|error| {
            let mut place = format!("argument {}", index + 1);
            let path = path_of(text, &error);
            if !path.is_empty() {
                place = format!("{place}, `{path}`");
            }
            let why = match given {
                None => "it is missing".to_owned(),
                Some(_) => without_position(&error.to_string()),
            };
            Error::invalid_payload(format!("{place}: {why}"))
        })
    }
}

/// Returns which value of a JSON text an error is about.
fn path_of(text: &str, error: &serde_json::Error) -> String {
    let path = path_at(text, error.line(), error.column());
    // A value that a type of ours refuses is told of behind the end of what it is in, when it is the
    // last there; a missing field really is the whole's.
    if error.to_string().starts_with("missing field") || error.column() == 0 {
        return path;
    }
    let before = path_at(text, error.line(), error.column() - 1);
    if before.len() > path.len() {
        before
    } else {
        path
    }
}

/// Returns which value of a JSON text ends or is being read at a place, such as `at[1].name`; empty
/// for the whole.
fn path_at(text: &str, line: usize, column: usize) -> String {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let read = text
        .as_bytes()
        .get(..(before + column).min(text.len()))
        .unwrap_or_default();
    let mut steps: Vec<Step> = Vec::new();
    let mut string: Option<Vec<u8>> = None;
    let mut escaped = false;
    let mut last = Vec::new();
    for byte in read {
        if let Some(content) = &mut string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    last = string.take().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            content.push(*byte);
            continue;
        }
        match byte {
            b'"' => string = Some(Vec::new()),
            b'{' => steps.push(Step::Member(String::new())),
            b'[' => steps.push(Step::Index(0)),
            b'}' | b']' => {
                steps.pop();
            }
            b':' => {
                if let Some(Step::Member(name)) = steps.last_mut() {
                    *name = String::from_utf8_lossy(&last).into_owned();
                }
            }
            b',' => match steps.last_mut() {
                Some(Step::Index(index)) => *index += 1,
                Some(Step::Member(name)) => name.clear(),
                None => {}
            },
            _ => {}
        }
    }
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Member(name) if name.is_empty() => {}
            Step::Member(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&name);
            }
        }
    }
    path
}

enum Step {
    Member(String),
    Index(usize),
}

/// Takes the place in the text out of an error of serde's: clients have no such text.
fn without_position(message: &str) -> String {
    match message.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => message.to_owned(),
    }
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
    fn arguments_say_which_one_is_wrong() {
        #[derive(Debug, Deserialize)]
        struct Point {
            #[allow(dead_code)]
            at: Vec<u8>,
        }
        let args = Arguments::new(r#"[{"at":[1,"x"]},7]"#).unwrap();
        let message = |index: usize| args.get::<Point>(index).unwrap_err().message;
        assert!(
            message(0).starts_with("argument 1, `at[1]`: invalid type"),
            "{}",
            message(0)
        );
        assert!(!message(0).contains("line"), "{}", message(0));
        assert!(
            message(1).starts_with("argument 2: invalid type"),
            "{}",
            message(1)
        );
        assert_eq!(message(2), "argument 3: it is missing");
        assert_eq!(args.get::<Option<u8>>(2), Ok(None));
    }

    #[test]
    fn a_refused_value_is_named_wherever_it_stands() {
        #[derive(Debug, Deserialize)]
        struct Place {
            #[allow(dead_code)]
            room: Id,
            #[allow(dead_code)]
            seat: Option<Id>,
        }
        for (text, name) in [
            (r#"[{"room":"a:b"}]"#, "room"),
            (r#"[{"room":"a:b","seat":"s"}]"#, "room"),
            (r#"[{"room":"r", "seat":"a:b" }]"#, "seat"),
        ] {
            let message = Arguments::new(text)
                .unwrap()
                .get::<Place>(0)
                .unwrap_err()
                .message;
            assert!(message.contains(&format!("`{name}`")), "{text}: {message}");
        }
        let missing = Arguments::new(r#"[{"seat":"s"}]"#)
            .unwrap()
            .get::<Place>(0)
            .unwrap_err()
            .message;
        assert_eq!(missing, "argument 1: missing field `room`");
    }

    #[test]
    fn the_place_of_an_error_is_found_whatever_the_text_looks_like() {
        for (text, path) in [
            (r#"{"a":{"b c":[{},{"d":tru"#, "a.b c[1].d"),
            ("{\n \"a\": [1,\n 2, nul", "a[2]"),
            (r#"{"a\"}":"{[,:","b":7"#, "b"),
            (r#"{"a":{"b":1}}"#, ""),
            (r#"{"a":{"b":1}"#, "a"),
            ("7", ""),
            ("", ""),
        ] {
            let line = text.matches('\n').count() + 1;
            let column = text.rsplit('\n').next().unwrap().len();
            assert_eq!(path_at(text, line, column), path, "{text}");
        }
        assert_eq!(path_at("é", 9, 9), "");
    }

    #[test]
    fn binary_values_are_renumbered_as_they_are_written() {
        let came = Json(json!({ "a": [{ "_placeholder": true, "num": 1 }], "b": 2 }));
        let own = Binary::Bytes(vec![1]);
        let (text, attachments) = write(&(own, came)).unwrap();
        assert_eq!(
            text,
            r#"[{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":1}],"b":2}]"#
        );
        assert!(matches!(
            attachments.as_slice(),
            [wit::Attachment::Bytes(_), wit::Attachment::Received(1)]
        ));
        assert!(serde_json::to_string(&Binary::Received(0)).is_err());
    }
}
