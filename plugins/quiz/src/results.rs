//! What backends ask: every user's answers and score.

use crate::{
    question::{Answer, within},
    quiz::{self, Quiz},
    sheet::Sheet,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::RangeInclusive};
use switchboard_plugin::{Ack, Cx, Error, Id, Json, Result};

/// Users of one answer, each of whom costs a read, and their bytes: with one more sheet it is below what
/// a reply may have.
const USERS: RangeInclusive<usize> = 1..=500;
const BYTES: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ask {
    quiz_id: Id,
    after: Option<Id>,
    limit: Option<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    quiz_id: Id,
    course_id: Id,
    title: String,
    ends_at: String,
    max_score: u32,
    results: Vec<Json>,
    /// Where the next page begins; null when there is none.
    after: Option<Id>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfUser<'a> {
    user_id: &'a Id,
    started: bool,
    answers: BTreeMap<Id, Answer>,
    submitted_at: Option<String>,
    /// Null as long as the user can answer.
    score: Option<u32>,
}

/// Handles `quiz-results`.
pub(crate) fn of_quiz(cx: &mut Cx, ask: Ask) -> Result<Ack> {
    let limit = ask.limit.unwrap_or(*USERS.end());
    within("limit", limit, USERS, "users")?;
    let quiz = Quiz::find(cx, &ask.quiz_id)?
        .ok_or_else(|| Error::not_found(format!("there is no quiz `{}`", ask.quiz_id)))?;
    let mut users = quiz::users(cx, &quiz.id)?;
    users.retain(|user| ask.after.as_ref().is_none_or(|after| user > after));
    let (mut results, mut bytes) = (Vec::new(), 0);
    for user in users.iter().take(limit) {
        let result = of_user(cx, &quiz, user)?;
        bytes += result.text().len();
        results.push(result);
        if bytes > BYTES {
            break;
        }
    }
    let is_last = results.len() == users.len();
    let last = results
        .len()
        .checked_sub(1)
        .and_then(|last| users.get(last));
    Ack::with(&Results {
        ends_at: quiz.ends_at(),
        quiz_id: quiz.id,
        course_id: quiz.course_id,
        title: quiz.title,
        max_score: quiz.max_score,
        results,
        after: last.filter(|_| !is_last).cloned(),
    })
}

fn of_user(cx: &Cx, quiz: &Quiz, user: &Id) -> Result<Json> {
    // To whom it has not been dealt yet has not answered either.
    let sheet = Sheet::find(cx, user, &quiz.id)?.unwrap_or_else(|| Sheet::new(quiz));
    Json::of(&OfUser {
        user_id: user,
        started: sheet.started,
        answers: sheet.answers,
        submitted_at: sheet.submitted_at,
        score: sheet.score,
    })
}
