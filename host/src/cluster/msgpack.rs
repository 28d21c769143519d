//! JSON with attachments as MessagePack, where bytes stand in their place, and back.

use bytes::Bytes;
use rmpv::Value;
use std::io::{self, Read};
use time::OffsetDateTime;

/// What is not what it should be; the text says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// How deep a value may be.
const DEPTH: usize = 128;

/// How many values there may be in one message: more than fit into one of a client's. Each takes some
/// tens of bytes here, also where it is a single one on its way.
const VALUES: usize = 1 << 20;

/// Returns what JSON says, with attachments in the place of their placeholders.
pub(super) fn from_json(json: &str, attachments: &[Bytes]) -> Result<Value, Malformed> {
    let mut value = serde_json::from_str(json).map_err(|_| Malformed("expected JSON"))?;
    if !attachments.is_empty() {
        put_in(&mut value, attachments);
    }
    Ok(value)
}

fn put_in(value: &mut Value, attachments: &[Bytes]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| put_in(item, attachments)),
        Value::Map(entries) => {
            let number = placeholder(entries);
            match number.and_then(|number| attachments.get(number)) {
                Some(bytes) => *value = Value::Binary(bytes.to_vec()),
                None => entries
                    .iter_mut()
                    .for_each(|(_, item)| put_in(item, attachments)),
            }
        }
        _ => {}
    }
}

fn placeholder(entries: &[(Value, Value)]) -> Option<usize> {
    let get = |name: &str| entries.iter().find(|(key, _)| key.as_str() == Some(name));
    get("_placeholder").filter(|(_, value)| value.as_bool() == Some(true))?;
    get("num").and_then(|(_, value)| usize::try_from(value.as_u64()?).ok())
}

/// Returns a value as JSON, and the bytes that were in it.
pub(super) fn to_json(mut value: Value) -> Result<(String, Vec<Bytes>), Malformed> {
    let mut attachments = Vec::new();
    take_out(&mut value, &mut attachments);
    let json =
        serde_json::to_string(&value).map_err(|_| Malformed("expected what JSON can say"))?;
    Ok((json, attachments))
}

fn take_out(value: &mut Value, attachments: &mut Vec<Bytes>) {
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| take_out(item, attachments)),
        Value::Map(entries) => {
            // As JSON does in JavaScript, where it is undefined.
            entries.retain(|(_, item)| !is_undefined(item));
            entries
                .iter_mut()
                .for_each(|(_, item)| take_out(item, attachments));
        }
        Value::Binary(bytes) => {
            let bytes = std::mem::take(bytes);
            *value = attach(bytes, attachments);
        }
        Value::Ext(..) if is_undefined(value) => *value = Value::Nil,
        Value::Ext(-1, time) => *value = time_of(time).map_or(Value::Nil, Value::from),
        // Node.js writes an ArrayBuffer like this.
        Value::Ext(0, bytes) => {
            let bytes = std::mem::take(bytes);
            *value = attach(bytes, attachments);
        }
        Value::Ext(..) => *value = Value::Nil,
        _ => {}
    }
}

fn attach(bytes: Vec<u8>, attachments: &mut Vec<Bytes>) -> Value {
    let number = attachments.len() as u64;
    attachments.push(Bytes::from(bytes));
    Value::Map(vec![
        ("_placeholder".into(), true.into()),
        ("num".into(), number.into()),
    ])
}

/// Tells whether Node.js wrote `undefined`.
fn is_undefined(value: &Value) -> bool {
    matches!(value, Value::Ext(0, bytes) if bytes.as_slice() == [0])
}

/// Returns a `Date` of Node.js as the text that JSON has for it: MessagePack's own timestamps.
fn time_of(bytes: &[u8]) -> Option<String> {
    let (seconds, nanoseconds) = match *bytes {
        [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
        [a, b, c, d, e, f, g, h] => {
            let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            (i64::try_from(both & 0x3_ffff_ffff).ok()?, both >> 34)
        }
        [a, b, c, d, ref rest @ ..] if rest.len() == 8 => {
            let seconds = i64::from_be_bytes(rest.try_into().ok()?);
            (seconds, u64::from(u32::from_be_bytes([a, b, c, d])))
        }
        _ => return None,
    };
    // What no calendar has becomes nothing, as an invalid `Date` does.
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    Some(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        nanoseconds / 1_000_000
    ))
}

/// Reads MessagePack, or JSON where a text of it begins with a brace, as Node.js does.
pub(super) fn read(bytes: &[u8]) -> Result<Value, Malformed> {
    if bytes.first() == Some(&b'{') {
        if values_of_json(bytes) > VALUES {
            return Err(TOO_MANY);
        }
        return serde_json::from_slice(bytes).map_err(|_| Malformed("expected JSON"));
    }
    let mut bytes = Bounded {
        bytes,
        reads: VALUES,
    };
    rmpv::decode::read_value_with_max_depth(&mut bytes, DEPTH).map_err(|_| match bytes.reads {
        0 => TOO_MANY,
        _ => Malformed("expected MessagePack"),
    })
}

const TOO_MANY: Malformed = Malformed("expected fewer values in one message");

/// Reads so often at most: at least once for each value.
struct Bounded<'a> {
    bytes: &'a [u8],
    reads: usize,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads = self.reads.saturating_sub(1);
        match self.reads {
            0 => Err(io::ErrorKind::FileTooLarge.into()),
            _ => self.bytes.read(buffer),
        }
    }
}

/// Returns about how many values there are in JSON: what separates or opens them.
fn values_of_json(json: &[u8]) -> usize {
    let (mut values, mut in_text, mut is_escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_text = !in_text,
            b',' | b':' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

/// Writes MessagePack.
pub(super) fn write(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    // Writing into memory does not fail.
    rmpv::encode::write_value(&mut bytes, value).ok();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_in_their_place_and_come_back() {
        let json = r#"["name",{"z":1.5,"a":[{"_placeholder":true,"num":1},null,"é"]},{"_placeholder":true,"num":0},-7]"#;
        let attachments = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let value = from_json(json, &attachments).unwrap();
        let (again, bytes) = to_json(read(&write(&value)).unwrap()).unwrap();
        // They are numbered anew, in the order in which they stand.
        assert_eq!(
            again,
            r#"["name",{"z":1.5,"a":[{"_placeholder":true,"num":0},null,"é"]},{"_placeholder":true,"num":1},-7]"#
        );
        assert_eq!(bytes, ["two", "one"]);
    }

    #[test]
    fn what_only_javascript_has_becomes_what_its_json_has() {
        let undefined = Value::Ext(0, vec![0]);
        let date = Value::Ext(-1, 1_700_000_000_u32.to_be_bytes().to_vec());
        let millis = (123_000_000_u64 << 34) | 951_782_400;
        let leap_day = Value::Ext(-1, millis.to_be_bytes().to_vec());
        let value = Value::Array(vec![
            undefined.clone(),
            Value::Map(vec![("a".into(), undefined), ("b".into(), date)]),
            leap_day,
        ]);
        let (json, _) = to_json(value).unwrap();
        assert_eq!(
            json,
            r#"[null,{"b":"2023-11-14T22:13:20.000Z"},"2000-02-29T00:00:00.123Z"]"#
        );
    }

    #[test]
    fn any_date_is_a_text_or_nothing() {
        let at = |seconds: i64| {
            let bytes = [&[0; 4][..], &seconds.to_be_bytes()].concat();
            to_json(Value::Ext(-1, bytes)).unwrap().0
        };
        assert_eq!(at(-315_619_200), r#""1960-01-01T00:00:00.000Z""#);
        assert_eq!(at(253_402_300_799), r#""9999-12-31T23:59:59.000Z""#);
        for beyond in [253_402_300_800, i64::MAX, i64::MIN] {
            assert_eq!(at(beyond), "null");
        }
        assert_eq!(to_json(Value::Ext(-1, vec![1, 2, 3])).unwrap().0, "null");
    }

    #[test]
    fn many_small_values_are_refused_and_one_large_one_is_not() {
        let array = |count: u32| [&[0xdd][..], &count.to_be_bytes()].concat();
        let nils = |count: u32| [array(count), vec![0xc0; count as usize]].concat();
        assert!(read(&nils(1_000_000)).is_ok());
        assert_eq!(read(&nils(1_100_000)), Err(TOO_MANY));
        let large = Value::Array(vec![
            Value::Binary(vec![0; 8 << 20]),
            "é".repeat(4 << 20).into(),
        ]);
        assert!(read(&write(&large)) == Ok(large));
        let json = |count: usize| format!(r#"{{"a":[1{}]}}"#, ",1".repeat(count));
        assert!(read(json(1_000_000).as_bytes()).is_ok());
        assert_eq!(read(json(1_100_000).as_bytes()), Err(TOO_MANY));
        let text = format!(r#"{{"a":"\"{}"}}"#, ",[".repeat(1_000_000));
        assert!(read(text.as_bytes()).is_ok(), "a text is one value");
    }

    #[test]
    fn what_is_not_valid_is_refused() {
        assert!(read(b"").is_err());
        assert!(read(b"{\"a\":").is_err());
        assert!(read(&[0xd9, 5, b'a']).is_err(), "cut off");
        assert!(read(&[0x91; 4_000]).is_err(), "too deep");
        assert!(to_json(Value::Map(vec![(Value::Nil, Value::Nil)])).is_err());
    }
}
