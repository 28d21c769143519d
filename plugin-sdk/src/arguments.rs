//! The arguments of an event, and what is said of one that cannot be read.

use crate::error::{Error, Result};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::{fmt, marker::PhantomData};

/// The arguments of an event, each read when a handler asks for it.
pub struct Arguments<'a>(&'a str);

impl<'a> Arguments<'a> {
    /// Takes the text of a JSON array.
    pub(crate) fn new(array: &'a str) -> Self {
        Self(array)
    }

    /// Returns argument `index`; one that is missing reads as `null`, and so as `None` where that is
    /// possible.
    pub(crate) fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T> {
        match nth(self.0, index) {
            Ok(Some(argument)) => Ok(argument),
            Ok(None) => serde_json::from_str("null").map_err(|_| missing(index)),
            Err(error) => Err(self.wrong(index, &error)),
        }
    }

    #[cold]
    fn wrong(&self, index: usize, error: &serde_json::Error) -> Error {
        let mut place = format!("argument {}", index + 1);
        let path = path_of(self.0, error);
        let path = path.strip_prefix(&format!("[{index}]")).unwrap_or_default();
        if !path.is_empty() {
            place = format!("{place}, `{}`", path.trim_start_matches('.'));
        }
        let why = for_clients(&error.to_string());
        Error::invalid_payload(format!("{place}: {why}"))
    }
}

#[cold]
fn missing(index: usize) -> Error {
    Error::invalid_payload(format!("argument {}: it is missing", index + 1))
}

/// Returns a value of a JSON array, none where there are not so many.
fn nth<T: DeserializeOwned>(array: &str, index: usize) -> serde_json::Result<Option<T>> {
    struct Nth<T>(usize, PhantomData<T>);

    impl<'de, T: DeserializeOwned> Visitor<'de> for Nth<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(
            self,
            mut array: A,
        ) -> std::result::Result<Self::Value, A::Error> {
            for _ in 0..self.0 {
                if array.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            let found = array.next_element()?;
            while array.next_element::<IgnoredAny>()?.is_some() {}
            Ok(found)
        }
    }

    serde_json::Deserializer::from_str(array).deserialize_seq(Nth(index, PhantomData))
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

/// Says an error of serde's to clients: they have no such text, and know no names of Rust's.
pub(crate) fn for_clients(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |it| it.0);
    let message = message.replace("type: map", "type: object");
    match message.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Id;
    use serde::Deserialize;

    #[test]
    fn arguments_say_which_one_is_wrong() {
        #[derive(Debug, Deserialize)]
        struct Point {
            #[allow(dead_code)]
            at: Vec<u8>,
        }
        let args = Arguments::new(r#"[{"at":[1,"x"]},7]"#);
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
            let message = Arguments::new(text).get::<Place>(0).unwrap_err().message;
            assert!(message.contains(&format!("`{name}`")), "{text}: {message}");
        }
        let missing = Arguments::new(r#"[{"seat":"s"}]"#)
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
    fn errors_are_told_in_words_of_json() {
        #[derive(Debug, Deserialize)]
        struct Say {
            #[allow(dead_code)]
            text: String,
        }
        let args = Arguments::new(r#"[7,{"text":{}}]"#);
        let message = |index: usize| args.get::<Say>(index).unwrap_err().message;
        assert_eq!(
            message(0),
            "argument 1: invalid type: integer `7`, expected an object"
        );
        assert_eq!(
            message(1),
            "argument 2, `text`: invalid type: object, expected a string"
        );
    }
}
