//! The objects that stand for binary values in JSON: `{"_placeholder":true,"num":0}`.
//!
//! They are found in the text, in one pass and without building a tree: a client's JSON of a
//! megabyte would make a tree of a hundred.

/// A placeholder in a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placeholder {
    /// Where it begins.
    pub(crate) start: usize,
    /// Where what follows it begins.
    pub(crate) end: usize,
    /// Which attachment it stands for.
    pub(crate) number: u32,
}

/// What reads as a placeholder to some client, and is not of the form that clients write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

const MARKER: &str = "_placeholder";

/// Returns the placeholders of a valid JSON text, in order.
pub(crate) fn find(text: &str) -> Result<Vec<Placeholder>, Malformed> {
    let mut found = Vec::new();
    if !is_suspect(text.as_bytes()) {
        return Ok(found);
    }
    let mut rest = text;
    while let Some(next) = rest.find(['{', '"']) {
        rest = rest.get(next..).unwrap_or_default();
        if rest.starts_with('"') {
            let (string, after) = split_string(rest);
            if is_marker(string) && is_true_member(after) {
                return Err(Malformed);
            }
            rest = after;
        } else if let Some((number, after)) = read(rest) {
            found.push(Placeholder {
                start: text.len() - rest.len(),
                end: text.len() - after.len(),
                number,
            });
            rest = after;
        } else {
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    Ok(found)
}

/// Tells whether the marker may be in a text. A name may be written with escapes. This is asked of
/// every text that passes, so it looks at eight bytes at once, and closer where a rare one is among them.
fn is_suspect(text: &[u8]) -> bool {
    let begins = |rest: &[u8]| rest.starts_with(MARKER.as_bytes()) || rest.starts_with(b"\\u");
    let mut rest = text;
    while let Some((block, after)) = rest.split_first_chunk() {
        let is_worth_a_look = has_rare(u64::from_le_bytes(*block));
        if is_worth_a_look && (0..block.len()).any(|at| rest.get(at..).is_some_and(begins)) {
            return true;
        }
        rest = after;
    }
    // What is left is shorter than the marker.
    rest.windows(2).any(begins)
}

/// Tells whether `_` or a backslash is among eight bytes.
fn has_rare(bytes: u64) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; size_of::<u64>()]);
    // The highest bit of a byte is set where 1 is taken from 0.
    let is = |byte: u8| (bytes ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
    (is(b'_') | is(b'\\')) & !bytes & (ONES << 7) != 0
}

/// Reads a placeholder at the beginning of a text, its members in any order; returns its number and
/// what follows.
fn read(text: &str) -> Option<(u32, &str)> {
    let (mut marked, mut number) = (false, None);
    let mut rest = text.strip_prefix('{')?;
    for end in [',', '}'] {
        let (name, value) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        let value = value.trim_start().strip_prefix(':')?.trim_start();
        rest = match name {
            MARKER => {
                marked = true;
                value.strip_prefix("true")?
            }
            "num" => {
                let after = value.trim_start_matches(|c: char| c.is_ascii_digit());
                number = value.strip_suffix(after)?.parse().ok();
                after
            }
            _ => return None,
        };
        rest = rest.trim_start().strip_prefix(end)?;
    }
    marked.then_some((number?, rest))
}

/// Splits a text that begins with a string behind that string.
fn split_string(text: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return text.split_at(at + 1),
            _ => {}
        }
    }
    (text, "")
}

fn is_marker(string: &str) -> bool {
    // Each character takes at most six bytes, and there are the quotes.
    string.len() <= MARKER.len() * 6 + 2
        && serde_json::from_str::<String>(string).is_ok_and(|name| name == MARKER)
}

fn is_true_member(after_name: &str) -> bool {
    after_name
        .trim_start()
        .strip_prefix(':')
        .is_some_and(|value| value.trim_start().starts_with("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Result<Vec<u32>, Malformed> {
        Ok(find(text)?.iter().map(|found| found.number).collect())
    }

    #[test]
    fn a_marker_is_suspected_wherever_it_begins() {
        for length in 0..20 {
            for end in 0..20 {
                let (before, after) = ("é_\\\\ ".repeat(length), "x".repeat(end));
                for inside in [MARKER, r"\u005f"] {
                    let text = format!("{before}{inside}{after}");
                    assert!(is_suspect(text.as_bytes()), "{text}");
                }
                assert!(!is_suspect(format!("{before}{after}").as_bytes()));
            }
        }
    }

    #[test]
    fn placeholders_are_found_where_they_are() {
        for (text, expected) in [
            (r#"[1,{"a":"b"}]"#, vec![]),
            (r#"{"_placeholder":true,"num":7}"#, vec![7]),
            (
                r#"[{"a":{ "num" : 1 , "_placeholder" : true }},{"_placeholder":true,"num":0}]"#,
                vec![1, 0],
            ),
            // Neither a text that looks like one, nor another member of that name.
            (
                r#"["{\"_placeholder\":true,\"num\":0}","_placeholder"]"#,
                vec![],
            ),
            (r#"{"_placeholder":false,"num":0}"#, vec![]),
            (
                r#"{"a":"\u0000\"","b":{"_placeholder":true,"num":2}}"#,
                vec![2],
            ),
        ] {
            assert_eq!(numbers(text), Ok(expected), "{text}");
        }
        let text = r#"{"a":{"_placeholder":true,"num":0},"b":1}"#;
        let found = find(text).unwrap();
        assert_eq!(
            &text[found[0].start..found[0].end],
            r#"{"_placeholder":true,"num":0}"#
        );
    }

    #[test]
    fn what_only_some_readers_take_for_one_is_refused() {
        for text in [
            r#"{"_placeholder":true}"#,
            r#"{"_placeholder":true,"num":-1}"#,
            r#"{"_placeholder":true,"num":1.5}"#,
            r#"{"_placeholder":true,"num":4294967296}"#,
            r#"{"_placeholder":true,"_placeholder":true}"#,
            r#"{"_placeholder":true,"num":0,"more":1}"#,
            r#"{"_place\u0068older":true,"num":0}"#,
            r#"[{"x":[{"_placeholder" : true , "num":"0"}]}]"#,
        ] {
            assert_eq!(numbers(text), Err(Malformed), "{text}");
        }
    }
}
