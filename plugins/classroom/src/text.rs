//! Texts of a bounded length.

use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// A text of `MIN` to `MAX` characters; another one is refused as it is read, by the member's name.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Text<const MIN: usize, const MAX: usize>(String);

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let length = text.chars().count();
        if (MIN..=MAX).contains(&length) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "expected {MIN} to {MAX} characters, got {length}"
        )))
    }
}
