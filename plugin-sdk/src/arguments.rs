//! The arguments of an event, and what is said of one that cannot be read.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

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
                Some(_) => for_clients(&error.to_string()),
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
    fn errors_are_told_in_words_of_json() {
        #[derive(Debug, Deserialize)]
        struct Say {
            #[allow(dead_code)]
            text: String,
        }
        let args = Arguments::new(r#"[7,{"text":{}}]"#).unwrap();
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
