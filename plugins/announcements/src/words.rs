//! Words that are not allowed, found as whole words, whatever their case.
//!
//! What a word is, is said by the Unicode standard (annex 29), so that it holds for all scripts. Texts
//! are compared in normal form KC and without case: `ＳＰＡＭ`, `Spam` and `spam` are one word, and
//! `Straße` is `STRASSE`. What is listed may also be several words, which are found one after the
//! other, whatever is between them.

use std::collections::BTreeSet;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Returns the first of the listed words that is in a text.
pub(crate) fn first_in<'a>(listed: &'a [String], text: &str) -> Option<&'a String> {
    let text = words(text);
    let seen: BTreeSet<&String> = text.iter().collect();
    listed.iter().find(|listed| {
        let wanted = words(listed);
        wanted.first().is_some_and(|first| seen.contains(first))
            && text.windows(wanted.len()).any(|found| found == wanted)
    })
}

fn words(text: &str) -> Vec<String> {
    let text: String = text.nfkc().collect();
    // To upper case first, since letters that differ in lower case only, such as ß and ss, meet there.
    text.unicode_words()
        .map(|word| word.to_uppercase().to_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_found_in_any_case_and_script() {
        let found = |listed: &str, text: &str| first_in(&[listed.to_owned()], text).is_some();
        for (listed, text) in [
            ("spam", "No SPAM, please"),
            ("spam", "(spam)"),
            ("spam", "spam-free"),
            ("SPAM", "ｓｐａｍ"),
            ("STRASSE", "auf der Straße"),
            ("straße", "STRASSE 7"),
            ("ΛΌΓΟΣ", "ο λόγος"),
            ("école", "l’E\u{301}COLE, ecole\u{301} E\u{301}cole"),
            ("हिन्दी", "यह हिन्दी है"),
            ("作弊", "不要作弊"),
            ("free money", "Free  MONEY!"),
            ("can't", "I can't"),
        ] {
            assert!(found(listed, text), "{listed} in {text}");
        }
        for (listed, text) in [
            ("ass", "the class assembles"),
            ("spam", "spammer antispam spam_x"),
            ("free money", "money free"),
            ("free money", "free the money"),
            ("हिन", "यह हिन्दी है"),
            ("!?", "what!?"),
            ("spam", ""),
        ] {
            assert!(!found(listed, text), "{listed} in {text}");
        }
    }
}
