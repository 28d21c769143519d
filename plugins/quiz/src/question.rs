//! Questions: what may be asked, what may be answered, and what is right.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use std::{collections::BTreeSet, fmt, ops::RangeInclusive};
use switchboard_plugin::{Error, Id, Json, Result};

const TEXT: RangeInclusive<usize> = 1..=4_000;
const OPTIONS: RangeInclusive<usize> = 2..=50;
const OPTION: RangeInclusive<usize> = 1..=500;
const POINTS: u32 = 1_000;
/// Characters of a text that answers.
const ANSWER: RangeInclusive<usize> = 0..=4_000;
/// Bytes of a question as JSON.
const BYTES: RangeInclusive<usize> = 0..=8_000;

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Single,
    Multiple,
    Text,
    Number,
}

/// An answer, or the right one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text, a number or a list of texts")]
pub(crate) enum Answer {
    /// An option, or a text of one's own.
    Text(String),
    Number(Number),
    /// Options.
    Options(Vec<String>),
}

/// A question with its right answer, which no client sees.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) id: Id,
    text: String,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
    answer: Answer,
    pub(crate) points: u32,
}

/// A question as clients see it.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    id: &'a Id,
    text: &'a str,
    kind: Kind,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    options: &'a [String],
    points: u32,
}

impl Question {
    /// Returns what clients see of it.
    pub(crate) fn shown(&self) -> Shown<'_> {
        Shown {
            id: &self.id,
            text: &self.text,
            kind: self.kind,
            options: &self.options,
            points: self.points,
        }
    }

    /// Checks what whoever starts a quiz has asked, and returns its size in bytes. `place` is where it
    /// stands in the payload.
    pub(crate) fn check(&self, place: &str) -> Result<usize> {
        let options = format!("{place}.options");
        within(
            format!("{place}.text"),
            chars(&self.text),
            TEXT,
            "characters",
        )?;
        match self.kind {
            Kind::Single | Kind::Multiple => {
                within(&options, self.options.len(), OPTIONS, "options")?;
            }
            Kind::Text | Kind::Number if !self.options.is_empty() => {
                return Err(invalid(options, "a question of this kind has none"));
            }
            Kind::Text | Kind::Number => {}
        }
        for (index, option) in self.options.iter().enumerate() {
            within(
                format!("{options}[{index}]"),
                chars(option),
                OPTION,
                "characters",
            )?;
        }
        if !are_distinct(&self.options) {
            return Err(invalid(options, "expected each option once"));
        }
        if let Err(why) = self.accepts(&self.answer) {
            return Err(invalid(format!("{place}.answer"), why));
        }
        if self.points > POINTS {
            return Err(invalid(
                format!("{place}.points"),
                format!("expected at most {POINTS}"),
            ));
        }
        let bytes = Json::of(self)?.text().len();
        within(place, bytes, BYTES, "bytes of JSON")?;
        Ok(bytes)
    }

    /// Tells what is wrong with an answer to it, whether it is right or not: of which one is right
    /// nothing can be learned here.
    pub(crate) fn accepts(&self, answer: &Answer) -> Result<(), String> {
        let all_known = |chosen: &[String]| chosen.iter().all(|it| self.options.contains(it));
        match (self.kind, answer) {
            (Kind::Single, Answer::Text(chosen)) if self.options.contains(chosen) => Ok(()),
            (Kind::Single, _) => Err("expected one of the question's options".to_owned()),
            (Kind::Multiple, Answer::Options(chosen))
                if all_known(chosen) && are_distinct(chosen) =>
            {
                Ok(())
            }
            (Kind::Multiple, _) => {
                Err("expected a list of the question's options, each at most once".to_owned())
            }
            (Kind::Text, Answer::Text(text)) if ANSWER.contains(&chars(text)) => Ok(()),
            (Kind::Text, _) => Err(format!(
                "expected a text of at most {} characters",
                ANSWER.end()
            )),
            (Kind::Number, Answer::Number(_)) => Ok(()),
            (Kind::Number, _) => Err("expected a number".to_owned()),
        }
    }

    /// Returns the points of an answer: all of them, or none.
    pub(crate) fn score(&self, given: &Answer) -> u32 {
        let is_right = match (&self.answer, given) {
            (Answer::Text(right), Answer::Text(given)) if self.kind == Kind::Text => {
                folded(right) == folded(given)
            }
            (Answer::Text(right), Answer::Text(given)) => right == given,
            (Answer::Number(right), Answer::Number(given)) => right.as_f64() == given.as_f64(),
            (Answer::Options(right), Answer::Options(given)) => {
                right.iter().collect::<BTreeSet<_>>() == given.iter().collect()
            }
            _ => false,
        };
        if is_right { self.points } else { 0 }
    }
}

/// Returns a text without what does not count: case, and spaces around it.
fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}

fn are_distinct(texts: &[String]) -> bool {
    texts.iter().collect::<BTreeSet<_>>().len() == texts.len()
}

/// Returns the number of characters of a text.
pub(crate) fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Refuses a number of things that is out of its bounds, naming the member that has them.
pub(crate) fn within(
    member: impl fmt::Display,
    count: usize,
    bounds: RangeInclusive<usize>,
    what: &str,
) -> Result<()> {
    if bounds.contains(&count) {
        return Ok(());
    }
    let (least, most) = bounds.into_inner();
    Err(invalid(
        member,
        format!("expected {least} to {most} {what}, got {count}"),
    ))
}

/// Refuses a member of a payload, naming it.
pub(crate) fn invalid(member: impl fmt::Display, why: impl fmt::Display) -> Error {
    Error::invalid_payload(format!("`{member}`: {why}"))
}
