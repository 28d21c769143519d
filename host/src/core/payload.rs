//! Checks of the JSON that crosses the edge, inbound and outbound.
//!
//! Arguments travel as text and are not parsed into values here, except where a binary placeholder
//! may hide in them: stock clients close the connection when a placeholder names an attachment that
//! did not come, so one crafted event could otherwise disconnect a whole room.

use super::plain::{HARMLESS_DIGITS, is_plain_array};
use serde::de::IgnoredAny;
use serde_json::Value;

/// Why arguments are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArgs {
    /// Not JSON.
    #[error("the arguments are not valid JSON: {0}")]
    Json(String),
    /// Nested deeper than some readers can read.
    #[error("the arguments are nested deeper than {0} levels")]
    TooDeep(usize),
    /// A number that some readers cannot read.
    #[error("the arguments have a number beyond what 64 bits of floating point hold")]
    Number,
    /// JSON, but not an array.
    #[error("the arguments are not a JSON array")]
    NotAnArray,
    /// Placeholders and attachments do not match.
    #[error("binary placeholders and attachments do not match one to one: {0}")]
    Placeholders(String),
}

/// Splits a packet's array into the event's name and the JSON array of its arguments.
///
/// # Errors
/// When the text is not an array that begins with a text without escapes.
pub fn split_packet(packet: &str) -> Result<(&str, String), InvalidArgs> {
    let (name, rest) = split_name(packet).ok_or(InvalidArgs::NotAnArray)?;
    let rest = rest.trim_start();
    let args = match rest.strip_prefix(',') {
        // A comma promises an argument.
        Some(args) if args.trim_start().starts_with(']') => return Err(InvalidArgs::NotAnArray),
        Some(args) => {
            let mut text = String::with_capacity(args.len() + 1);
            text.push('[');
            text.push_str(args);
            text
        }
        None if rest.trim_end() == "]" => "[]".to_owned(),
        None => return Err(InvalidArgs::NotAnArray),
    };
    Ok((name, args))
}

/// Returns the event's name in a packet's array, whatever comes behind it; empty where there is none.
#[must_use]
pub fn name_of_packet(packet: &str) -> &str {
    split_name(packet).map_or("", |(name, _)| name)
}

fn split_name(packet: &str) -> Option<(&str, &str)> {
    let rest = packet.trim_start().strip_prefix('[')?.trim_start();
    rest.strip_prefix('"')?.split_once('"')
}

/// Returns the array that goes to a client: the event's name, then its arguments. The arguments
/// must have passed [`check_args`].
#[must_use]
pub fn join_packet(name: &str, args: &str) -> String {
    let inner = args.trim();
    let inner = inner
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(inner)
        .trim();
    let mut text = String::with_capacity(name.len() + inner.len() + 5);
    text.push_str("[\"");
    text.push_str(name);
    text.push('"');
    if !inner.is_empty() {
        text.push(',');
        text.push_str(inner);
    }
    text.push(']');
    text
}

/// Returns the array of one argument, a JSON text whose placeholders stand for nothing.
///
/// # Errors
/// When the text is not one JSON value, or what [`check_args`] refuses.
pub fn args_of_one(value: &str, depth: usize) -> Result<String, InvalidArgs> {
    // By itself: a text such as `1, 2` is not JSON, and would be two arguments.
    serde_json::from_str::<IgnoredAny>(value)
        .map_err(|error| InvalidArgs::Json(error.to_string()))?;
    let args = format!("[{value}]");
    check_args(&args, 0, depth)?;
    Ok(args)
}

/// How deep what comes in may be nested, its array included. Less than [`OUTGOING_DEPTH`], so that a
/// plugin can put what came in into something of its own.
pub const INCOMING_DEPTH: usize = 64;

/// How deep what goes out may be nested. What is deeper, readers of JSON refuse, and stock clients
/// close the connection over it.
pub const OUTGOING_DEPTH: usize = 120;

/// Checks that a text is a JSON array whose placeholders and `attachments` match one to one, and that
/// every reader of JSON can read it. What passes on the way in passes on the way out too, wherever in
/// an answer or an emission it stands: else a client could make a plugin's replies invalid.
///
/// # Errors
/// When it is not.
pub fn check_args(args: &str, attachments: usize, depth: usize) -> Result<(), InvalidArgs> {
    if attachments == 0 && is_plain_array(args, depth) {
        return Ok(());
    }
    look_closer(args, attachments, depth)
}

fn look_closer(args: &str, attachments: usize, depth: usize) -> Result<(), InvalidArgs> {
    check_shape(args.as_bytes(), depth)?;
    if !args.trim_start().starts_with('[') {
        return Err(InvalidArgs::NotAnArray);
    }
    if attachments == 0 && !may_have_placeholder(args.as_bytes()) {
        return serde_json::from_str::<IgnoredAny>(args)
            .map(|_| ())
            .map_err(|error| InvalidArgs::Json(error.to_string()));
    }
    let value: Value =
        serde_json::from_str(args).map_err(|error| InvalidArgs::Json(error.to_string()))?;
    let mut seen = vec![false; attachments];
    check_placeholders(&value, &mut seen)?;
    match seen.iter().position(|seen| !seen) {
        Some(index) => Err(InvalidArgs::Placeholders(format!(
            "attachment {index} has no placeholder"
        ))),
        None => Ok(()),
    }
}

/// Checks how deep a text is nested, and the size of its numbers: what stands in strings does not
/// count. The text need not be JSON.
fn check_shape(text: &[u8], max_depth: usize) -> Result<(), InvalidArgs> {
    let mut depth = 0_usize;
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'"' => behind_string(after),
            b'[' | b'{' => {
                depth += 1;
                if depth > max_depth {
                    return Err(InvalidArgs::TooDeep(max_depth));
                }
                after
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                after
            }
            b'0'..=b'9' => {
                let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                let end = rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
                let (number, after) = rest.split_at(end);
                if !is_finite(number) {
                    return Err(InvalidArgs::Number);
                }
                after
            }
            _ => after,
        };
    }
    Ok(())
}

/// Returns what follows the end of a string.
fn behind_string(mut text: &[u8]) -> &[u8] {
    while let Some(place) = memchr::memchr2(b'"', b'\\', text) {
        let is_end = text.get(place) == Some(&b'"');
        text = text
            .get(place + 1 + usize::from(!is_end)..)
            .unwrap_or_default();
        if is_end {
            return text;
        }
    }
    &[]
}

fn is_finite(number: &[u8]) -> bool {
    let harmless = number.len() < HARMLESS_DIGITS && memchr::memchr2(b'e', b'E', number).is_none();
    harmless
        || std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse::<f64>().ok())
            .is_none_or(f64::is_finite)
}

/// Stops at two rare bytes only. A key can be written with escapes, so a backslash-u makes a text
/// suspect too.
fn may_have_placeholder(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'_', b'\\', text).any(|place| {
        let rest = text.get(place..).unwrap_or_default();
        rest.starts_with(b"_placeholder") || rest.starts_with(b"\\u")
    })
}

fn check_placeholders(value: &Value, seen: &mut [bool]) -> Result<(), InvalidArgs> {
    match value {
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_placeholders(item, seen)),
        Value::Object(object) => {
            if object.get("_placeholder") != Some(&Value::Bool(true)) {
                return object
                    .values()
                    .try_for_each(|item| check_placeholders(item, seen));
            }
            let number = object.get("num").and_then(Value::as_u64);
            let slot = number
                .and_then(|number| usize::try_from(number).ok())
                .and_then(|number| seen.get_mut(number));
            match slot {
                Some(slot) if !*slot => {
                    *slot = true;
                    Ok(())
                }
                Some(_) => Err(InvalidArgs::Placeholders(
                    "two placeholders name the same attachment".to_owned(),
                )),
                None => Err(InvalidArgs::Placeholders(
                    "a placeholder names an attachment that is not there".to_owned(),
                )),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_is_split_and_joined_to_the_same() {
        for (packet, name, args) in [
            (r#"["a"]"#, "a", "[]"),
            (r#"["a",1,{"b":[2]}]"#, "a", r#"[1,{"b":[2]}]"#),
            (r#" [ "a" , 1 ]"#, "a", "[ 1 ]"),
        ] {
            let (got_name, got_args) = split_packet(packet).unwrap();
            assert_eq!((got_name, got_args.as_str()), (name, args));
            let joined = join_packet(got_name, &got_args);
            assert_eq!(
                serde_json::from_str::<Value>(&joined).unwrap(),
                serde_json::from_str::<Value>(packet).unwrap()
            );
        }
        for bad in ["", "{}", "[1]", r#"["a" 1]"#, r#"["a"#] {
            assert!(split_packet(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stray_placeholders_are_refused() {
        let one = r#"[{"_placeholder":true,"num":0}]"#;
        assert_eq!(check_args(one, 1, OUTGOING_DEPTH), Ok(()));
        for (args, attachments) in [
            (one, 0),
            (one, 2),
            (r#"[{"_placeholder":true,"num":1}]"#, 1),
            (r#"[{"_placeholder":true,"num":-1}]"#, 1),
            (r#"[{"_placeholder":true}]"#, 1),
            (r#"[{"_placeholder":true,"num":0.5}]"#, 1),
            (
                r#"[{"a":{"_placeholder":true,"num":0}},{"_placeholder":true,"num":0}]"#,
                1,
            ),
            (r#"[{"\u005fplaceholder":true,"num":7}]"#, 0),
            ("[1]", 1),
        ] {
            assert!(
                matches!(
                    check_args(args, attachments, OUTGOING_DEPTH),
                    Err(InvalidArgs::Placeholders(_))
                ),
                "{args}"
            );
        }
        assert_eq!(
            check_args(r#"[{"_placeholder":false,"num":9}]"#, 0, OUTGOING_DEPTH),
            Ok(())
        );
    }

    #[test]
    fn one_argument_is_one_json_value() {
        let of_one = |text| args_of_one(text, INCOMING_DEPTH);
        assert_eq!(of_one(r#"{"a":1}"#).as_deref(), Ok(r#"[{"a":1}]"#));
        assert_eq!(of_one("null").as_deref(), Ok("[null]"));
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        for bad in [
            "",
            "1,2",
            "1]",
            "{",
            placeholder,
            "1e999",
            &"[".repeat(100_000),
        ] {
            assert!(of_one(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_arrays_of_json_pass() {
        for bad in ["", "{}", "[", "[1,]", "[1]x", "[nul]", &"[".repeat(500)] {
            assert!(check_args(bad, 0, OUTGOING_DEPTH).is_err(), "{bad}");
        }
        assert_eq!(
            check_args(r#"["ü\n", -1.5e3, null]"#, 0, OUTGOING_DEPTH),
            Ok(())
        );
    }

    #[test]
    fn what_some_readers_cannot_read_is_refused_whatever_stands_beside_it() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for beside in ["", r#""_placeholder","#, r#""\u0041","#] {
            for (value, refusal) in [
                ("1e999".to_owned(), Some(InvalidArgs::Number)),
                ("-1E+400".to_owned(), Some(InvalidArgs::Number)),
                ("9".repeat(400), Some(InvalidArgs::Number)),
                ("1e308".to_owned(), None),
                ("1e-999".to_owned(), None),
                (r#""1e999[[[\"[[[""#.to_owned(), None),
                (nested(INCOMING_DEPTH - 1), None),
                (
                    nested(INCOMING_DEPTH),
                    Some(InvalidArgs::TooDeep(INCOMING_DEPTH)),
                ),
                (nested(400_000), Some(InvalidArgs::TooDeep(INCOMING_DEPTH))),
            ] {
                let args = format!("[{beside}{value}]");
                let checked = check_args(&args, 0, INCOMING_DEPTH);
                assert_eq!(checked.err(), refusal, "{beside} {}", value.len());
            }
        }
        let wrapped = format!(r#"[{{"a":{{"b":{}}}}}]"#, nested(INCOMING_DEPTH - 1));
        assert_eq!(check_args(&wrapped, 0, OUTGOING_DEPTH), Ok(()));
    }

    /// Texts that are nearly packets: pieces that mean something, in any order.
    fn nearly_a_packet() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("["),
            Just("]"),
            Just("{"),
            Just("}"),
            Just("\""),
            Just(","),
            Just(":"),
            Just("\\"),
            Just("a"),
            Just("é"),
            Just(" "),
            Just("\n"),
            Just("1"),
            Just("-"),
            Just("null"),
            Just("true"),
            Just("\"a\""),
            Just("[\"a\","),
            Just("[\"a\"]"),
            Just("{\"_placeholder\":true,\"num\":0}"),
            Just("{\"\\u005fplaceholder\":true}"),
            Just("\"_placeholder\":"),
            Just("\u{0}"),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    fn has_placeholder(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(has_placeholder),
            Value::Object(object) => {
                object.get("_placeholder") == Some(&Value::Bool(true))
                    || object.values().any(has_placeholder)
            }
            _ => false,
        }
    }

    /// Texts with what is looked for in shapes, and what looks like it.
    fn nearly_harmful() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[\\[{\\]}\"\\\\,.eE+-]{1,3}",
            "[0-9]{1,2}",
            (100_usize..400).prop_map(|digits| "7".repeat(digits)),
            (100_usize..400).prop_map(|letters| "x".repeat(letters)),
            (1_usize..70).prop_map(|levels| "[".repeat(levels)),
            Just("1e999".to_owned()),
            Just("é".to_owned()),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_plain_at_a_glance_passes_a_closer_look(text in prop_oneof![nearly_harmful(), nearly_a_packet()]) {
            for text in [format!("[{text}]"), format!("[\"{text}\"]"), text] {
                if is_plain_array(&text, INCOMING_DEPTH) {
                    prop_assert_eq!(look_closer(&text, 0, INCOMING_DEPTH), Ok(()));
                }
            }
        }

        #[test]
        fn what_passes_is_a_packet_to_every_reader(packet in nearly_a_packet()) {
            let Ok((name, args)) = split_packet(&packet) else { return Ok(()) };
            let Ok(name) = crate::core::names::EventName::new(name) else { return Ok(()) };
            if check_args(&args, 0, OUTGOING_DEPTH).is_err() {
                return Ok(());
            }
            let whole: Vec<Value> = serde_json::from_str(&packet).unwrap();
            prop_assert_eq!(whole.first().and_then(Value::as_str), Some(name.as_str()));
            let args_alone: Vec<Value> = serde_json::from_str(&args).unwrap();
            prop_assert_eq!(whole.get(1..).unwrap(), args_alone.as_slice());
            prop_assert!(!args_alone.iter().any(has_placeholder));
            let joined: Vec<Value> = serde_json::from_str(&join_packet(name.as_str(), &args)).unwrap();
            prop_assert_eq!(joined, whole);
        }
    }
}
