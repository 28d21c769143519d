//! A quick look at JSON that crosses the edge. Four texts are checked for an ordinary event, and nearly
//! all are plain: one pass finds what takes a parser and several passes to find in any other.

/// A whole number of fewer digits is one that 64 bits of floating point hold; their largest has 309.
pub(super) const HARMLESS_DIGITS: usize = 300;

/// So many bytes of a string are looked at at once.
const BLOCK: usize = size_of::<u64>();

/// Tells whether a text is a JSON array (RFC 8259) in which nothing needs a closer look: it is nested no
/// deeper than that, its array included; no number has an exponent or so many digits that it may be
/// beyond what 64 bits of floating point hold; no text in it is written by code points (`\u005f`) or has
/// `_placeholder` in it. Where it says no, the text may be valid all the same.
pub(super) fn is_plain_array(text: &str, max_depth: usize) -> bool {
    let mut scan = Scan {
        text: text.as_bytes(),
        at: 0,
    };
    let whole = |scan: &mut Scan<'_>| {
        let first = scan.token()?;
        (first == b'[').then_some(())?;
        scan.value(first, max_depth)?;
        scan.token().is_none().then_some(())
    };
    whole(&mut scan).is_some()
}

/// A place in a text. What is not plain is `None`.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Returns the next byte that is not white space.
    fn token(&mut self) -> Option<u8> {
        loop {
            match self.next()? {
                b' ' | b'\n' | b'\r' | b'\t' => {}
                byte => return Some(byte),
            }
        }
    }

    /// Goes behind a value that begins with a byte, in which so many arrays and objects may be nested.
    fn value(&mut self, first: u8, depth: usize) -> Option<()> {
        match first {
            b'"' => self.string(),
            b'0'..=b'9' => self.number(first),
            b'-' => {
                let digit = self.next()?;
                self.number(digit)
            }
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.array(depth.checked_sub(1)?),
            b't' => self.word(b"rue"),
            b'f' => self.word(b"alse"),
            b'n' => self.word(b"ull"),
            _ => None,
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        let mut first = self.token()?;
        if first == b']' {
            return Some(());
        }
        loop {
            self.value(first, depth)?;
            match self.token()? {
                b']' => return Some(()),
                b',' => first = self.token()?,
                _ => return None,
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        let mut first = self.token()?;
        if first == b'}' {
            return Some(());
        }
        loop {
            (first == b'"').then_some(())?;
            self.string()?;
            (self.token()? == b':').then_some(())?;
            let value = self.token()?;
            self.value(value, depth)?;
            match self.token()? {
                b'}' => return Some(()),
                b',' => first = self.token()?,
                _ => return None,
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        let is_it = self.text.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        is_it.then_some(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// Goes behind a number whose first digit has been read.
    fn number(&mut self, first: u8) -> Option<()> {
        let start = self.at;
        match first {
            // Nothing but a point follows a leading zero.
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            let point = self.at;
            self.digits();
            (self.at > point).then_some(())?;
        }
        let is_harmless = self.at - start < HARMLESS_DIGITS - 1;
        (is_harmless && !matches!(self.peek(), Some(b'e' | b'E'))).then_some(())
    }

    /// Goes behind a string whose first quotation mark has been read.
    fn string(&mut self) -> Option<()> {
        loop {
            match self.meaning_byte()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    _ => return None,
                },
                b'_' if !self.text.get(self.at..)?.starts_with(b"placeholder") => {}
                _ => return None,
            }
        }
    }

    /// Goes behind the next byte of a string that means something, and returns it.
    fn meaning_byte(&mut self) -> Option<u8> {
        let mut rest = self.text.get(self.at..)?;
        while let Some((block, after)) = rest.split_first_chunk() {
            if let Some(place) = first_meaning(u64::from_le_bytes(*block)) {
                self.at = self.text.len() - rest.len() + place + 1;
                return block.get(place).copied();
            }
            rest = after;
        }
        self.at = self.text.len() - rest.len();
        loop {
            let byte = self.next()?;
            if matches!(byte, b'"' | b'\\' | b'_' | 0..b' ') {
                return Some(byte);
            }
        }
    }
}

/// Returns the place of the first of eight bytes that is a quotation mark, a backslash, `_` or a control
/// character: the highest bit of a byte is set by the subtraction where it is below what is taken from
/// it, and bytes that have it anyway are none of these. A borrow reaches only bytes behind one that is
/// found.
fn first_meaning(bytes: u64) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; BLOCK]);
    let is = |byte: u8| (bytes ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
    let is_control = bytes.wrapping_sub(ONES * u64::from(b' '));
    let found = (is(b'"') | is(b'\\') | is(b'_') | is_control) & !bytes & (ONES << 7);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Values as clients send them.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|number| json!(number)),
            (-1e6..1e6).prop_map(|number: f64| json!(number.round() / 4.0)),
            any::<bool>().prop_map(|yes| json!(yes)),
            Just(Value::Null),
            "[a-z_é\"/\\\\\n ]{0,40}".prop_map(|text| json!(text)),
        ];
        leaf.prop_recursive(6, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map("[a-zA-Z_]{0,20}", inner, 0..5)
                    .prop_map(|object| object.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ordinary_values_pass_and_broken_ones_do_not(
            value in values(),
            place in any::<prop::sample::Index>(),
            byte in " -~",
        ) {
            let text = json!([value]).to_string();
            prop_assert!(is_plain_array(&text, 8), "{}", text);
            let pretty = serde_json::to_string_pretty(&json!([value])).unwrap();
            prop_assert!(is_plain_array(&pretty, 8), "{}", pretty);
            // One character of it is another.
            let mut broken: Vec<char> = text.chars().collect();
            let place = place.index(broken.len());
            broken.splice(place..=place, byte.chars());
            let broken: String = broken.into_iter().collect();
            if is_plain_array(&broken, 8) {
                prop_assert!(serde_json::from_str::<Vec<Value>>(&broken).is_ok(), "{}", broken);
            }
        }
    }

    #[test]
    fn each_byte_is_known_at_each_place_whatever_is_before_it() {
        let means = |byte: &u8| matches!(byte, b'"' | b'\\' | b'_' | 0..b' ');
        for before in [b' ', b'!', b'#', 0x5b, 0x5d, 0x5e, 0x60, 0x7f, 0x80, 0xff] {
            for byte in 0..=u8::MAX {
                for place in 0..BLOCK {
                    let mut block = [before; BLOCK];
                    block[place] = byte;
                    let found = first_meaning(u64::from_le_bytes(block));
                    assert_eq!(found, block.iter().position(means), "{block:?}");
                }
            }
        }
    }

    #[test]
    fn what_needs_no_closer_look_passes() {
        for text in [
            "[]",
            " [ ] ",
            r#"[1,-2.5,0,-0,0.25,true,false,null,"",{}]"#,
            r#"[{"a":[{"b_c":"_d"}],"é":"a\n\"\\\/"},"\t"]"#,
            "[\r\n\t1 , [ { } ] ]",
            &format!("[\"{}\"]", "x".repeat(1_000)),
            &format!("[{}]", "9".repeat(HARMLESS_DIGITS - 1)),
        ] {
            assert!(is_plain_array(text, 4), "{text}");
        }
        for length in 0..3 * BLOCK {
            let string = "é".repeat(length);
            assert!(is_plain_array(&format!("[\"{string}\"]"), 1), "{length}");
            for inside in ["\u{1f}", "\u{0}", "_placeholder", r"\u0041", r"\x", "\""] {
                let text = format!("[\"{string}{inside}{string}\"]");
                assert!(!is_plain_array(&text, 1), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_array_or_needs_a_closer_look_does_not() {
        for text in [
            "",
            " ",
            "{}",
            "1",
            "\"\"",
            "[",
            "]",
            "[]]",
            "[],",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{]",
            "[{]",
            "[{}",
            "[{1:2}]",
            "[{\"a\"}]",
            "[{\"a\":}]",
            "[{\"a\":1,}]",
            "[{,}]",
            "[\"a]",
            "[\"a\\\"]",
            "[tru]",
            "[true1]",
            "[nul",
            "[True]",
            "[01]",
            "[-01]",
            "[-]",
            "[+1]",
            "[.5]",
            "[1.]",
            "[1.e1]",
            "[1e5]",
            "[1E5]",
            "[0x1]",
            "[NaN]",
            "[\u{a0}]",
            "\u{feff}[]",
            "[]\u{0}",
            "['a']",
            "[//\n1]",
        ] {
            assert!(!is_plain_array(text, 4), "{text}");
        }
        assert!(!is_plain_array("[[[[[]]]]]", 4));
        assert!(!is_plain_array(&"[".repeat(1_000_000), 64));
        let long = format!("[{}]", "9".repeat(HARMLESS_DIGITS));
        assert!(!is_plain_array(&long, 4));
    }
}
