//! A Rust lexer that knows just enough to find paths: words and punctuation with their lines, without
//! comments, strings and lifetimes.

/// A word or a punctuation mark of Rust source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier, a keyword, or a number.
    Word(&'a str),
    /// `::`.
    PathSeparator,
    /// Any other mark.
    Mark(char),
}

/// Returns the tokens of a source text, each with its line counted from 1.
pub(crate) fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, token) = next(rest, first);
        let (eaten, left) = rest.split_at(length);
        if let Some(token) = token {
            tokens.push((line, token));
        }
        line += eaten.matches('\n').count();
        rest = left;
    }
    tokens
}

/// Returns the length of what `rest` begins with, and the token it is unless it is to be skipped.
fn next(rest: &str, first: char) -> (usize, Option<Token<'_>>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), None);
    }
    if let Some(length) = string(rest) {
        return (length, None);
    }
    if first == '\'' {
        return (character_or_lifetime(rest), None);
    }
    if first.is_alphanumeric() || first == '_' {
        let length = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        return (length, rest.get(..length).map(Token::Word));
    }
    if rest.starts_with("::") {
        return (2, Some(Token::PathSeparator));
    }
    let token = (!first.is_whitespace()).then_some(Token::Mark(first));
    (first.len_utf8(), token)
}

/// Returns the length of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut position = 0;
    while let Some(left) = rest.get(position..).filter(|left| !left.is_empty()) {
        if left.starts_with("/*") {
            depth += 1;
            position += 2;
        } else if left.starts_with("*/") {
            depth -= 1;
            position += 2;
            if depth == 0 {
                break;
            }
        } else {
            position += left.chars().next().map_or(1, char::len_utf8);
        }
    }
    position
}

/// Returns the length of a string literal of any kind, none when `rest` does not begin with one.
fn string(rest: &str) -> Option<usize> {
    let after_prefix = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - after_prefix.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = after_prefix.strip_prefix('r') {
        let body = raw.trim_start_matches('#');
        let hashes = raw.len() - body.len();
        if let Some(body) = body.strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let opening = rest.len() - body.len();
            return Some(
                body.find(&end)
                    .map_or(rest.len(), |at| opening + at + end.len()),
            );
        }
    }
    let body = after_prefix.strip_prefix('"')?;
    let opening = rest.len() - body.len();
    Some(closing(body, '"').map_or(rest.len(), |at| opening + at))
}

/// Returns the position behind the first unescaped `quote`.
fn closing(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Returns the length of a character literal, or of a lifetime's quote.
fn character_or_lifetime(rest: &str) -> usize {
    let Some(body) = rest.strip_prefix('\'') else {
        return 0;
    };
    let mut characters = body.chars();
    match (characters.next(), characters.next()) {
        (Some('\\'), _) => closing(body, '\'').map_or(rest.len(), |at| at + 1),
        (Some(one), Some('\'')) => one.len_utf8() + 2,
        // A lifetime: its name follows as a word, which is no path.
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text)
            .into_iter()
            .filter_map(|(_, token)| match token {
                Token::Word(word) => Some(word),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn comments_and_strings_are_left_out() {
        let text = r##"
            // crate::one
            /* crate::two /* nested */ still */
            let a = "crate::three \" four"; let b = r#"five " six"#; let c = b"seven"; let d = br"\"; end
        "##;
        assert_eq!(
            words(text),
            ["let", "a", "let", "b", "let", "c", "let", "d", "end"]
        );
    }

    #[test]
    fn characters_and_lifetimes_are_told_apart() {
        assert_eq!(words("'\"' a '\\'' b 'x' c"), ["a", "b", "c"]);
        assert_eq!(
            words("fn f<'a>(x: &'a str) {}"),
            ["fn", "f", "a", "x", "a", "str"]
        );
        assert_eq!(words("'é' a '\\u{1F600}' b"), ["a", "b"]);
    }

    #[test]
    fn lines_are_counted_through_what_is_left_out() {
        let found = tokens("/* a\nb */ x\n\"c\nd\" y");
        assert_eq!(found, [(2, Token::Word("x")), (4, Token::Word("y"))]);
    }

    #[test]
    fn paths_keep_their_separator() {
        let expected = [
            Token::Word("crate"),
            Token::PathSeparator,
            Token::Word("core"),
            Token::Mark(';'),
        ];
        assert_eq!(
            tokens("crate::core;")
                .into_iter()
                .map(|(_, token)| token)
                .collect::<Vec<_>>(),
            expected
        );
    }
}
