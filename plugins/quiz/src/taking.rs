//! Taking a quiz: answering, submitting, coming back, and the end.

use crate::{
    progress,
    progress::Count,
    question::{Answer, invalid},
    quiz, session_room,
    settings::{Settings, ShowScore},
    sheet::{Sheet, Taker},
    staff,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_plugin::{Ack, Cx, Error, Id, Result, Timer};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Given {
    quiz_id: Id,
    question_id: Id,
    answer: Answer,
}

/// Handles `quiz-answer`.
pub(crate) fn answer(cx: &mut Cx, given: Given) -> Result<Ack> {
    let user = cx.user()?;
    let mut sheet = Sheet::get(cx, &user, &given.quiz_id)?;
    sheet.must_be_open(cx.now_ms())?;
    let id = given.question_id;
    let question = quiz::question(cx, &sheet.quiz_id, &id)?
        .ok_or_else(|| Error::not_found(format!("the quiz has no question `{id}`")))?;
    if let Err(why) = question.accepts(&given.answer) {
        return Err(invalid("answer", why));
    }
    sheet.reach(cx, &user)?;
    if sheet.answers.is_empty() {
        progress::count_later(cx, &user, &sheet.quiz_id, Count::Answered)?;
    }
    sheet.answer(id, given.answer)?;
    sheet.save(cx, &user)?;
    Ack::with(&json!({ "answered": sheet.answers.len(), "total": sheet.total }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Submitted {
    quiz_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_score: Option<u32>,
}

/// Handles `quiz-submit`. All devices of the user hear of it; when it is said again, the one that did.
pub(crate) fn submit(cx: &mut Cx, quiz: Id) -> Result<Ack> {
    let user = cx.user()?;
    let mut sheet = Sheet::get(cx, &user, &quiz)?;
    let is_new = sheet.submitted_at.is_none();
    if is_new {
        sheet.must_be_open(cx.now_ms())?;
        sheet.submitted_at = Some(cx.timestamp());
        sheet.grade(cx)?;
        sheet.reach(cx, &user)?;
        progress::count_later(cx, &user, &quiz, Count::Submitted)?;
        sheet.save(cx, &user)?;
    }
    let shows = shows_score(cx, ShowScore::Submitted)?;
    let room = session_room(&quiz, &user);
    let submitted = Submitted {
        quiz_id: quiz,
        score: sheet.score.filter(|_| shows),
        max_score: shows.then_some(sheet.max_score),
    };
    let hear = cx.emit("quiz-submitted").to_self();
    let hear = if is_new { hear.to_room(room) } else { hear };
    hear.send(&submitted)?;
    Ack::with(&submitted)
}

/// Tells whether users may know their score by now.
fn shows_score(cx: &Cx, now: ShowScore) -> Result<bool> {
    Ok(cx.settings::<Settings>()?.show_score <= now)
}

/// Handles `quiz-resume`.
pub(crate) fn resume(cx: &mut Cx, quiz: Id) -> Result<Ack> {
    let user = cx.user()?;
    let mut sheet = Sheet::get(cx, &user, &quiz)?;
    sheet.must_be_open(cx.now_ms())?;
    cx.join(session_room(&quiz, &user));
    come_back(cx, &user, &mut sheet)?;
    Ok(Ack::ok())
}

/// Handles a new connection: takers go on where they were, and those who teach hear how quizzes go. Who
/// has submitted waits for the end.
pub(crate) fn connected(cx: &mut Cx) -> Result<()> {
    let user = cx.user()?;
    for mut sheet in Sheet::running(cx, &user)? {
        // By the user's name: a connection that is in too many rooms is passed over, and not refused.
        cx.join_user(&user, session_room(&sheet.quiz_id, &user));
        if sheet.is_open(cx.now_ms()) {
            come_back(cx, &user, &mut sheet)?;
        }
    }
    staff::hear(cx)
}

fn come_back(cx: &mut Cx, user: &Id, sheet: &mut Sheet) -> Result<()> {
    if sheet.reach(cx, user)? {
        sheet.save(cx, user)?;
    }
    let resumed = json!({
        "quizId": sheet.quiz_id,
        "endsAt": sheet.ends_at(),
        "questions": quiz::shown(cx, &sheet.quiz_id)?,
        "answers": sheet.answers,
    });
    cx.emit("quiz-resumed").to_self().send(&resumed)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    quiz_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u32>,
}

/// Ends a quiz for a user: what is answered by now counts, and what was on its way is refused.
pub(crate) fn close(cx: &mut Cx, timer: Timer<Taker>) -> Result<()> {
    let Taker { quiz, user } = timer.payload;
    let Some(mut sheet) = Sheet::find(cx, &user, &quiz)? else {
        return Ok(()); // Not kept any more.
    };
    sheet.ended = true;
    if sheet.score.is_none() {
        sheet.grade(cx)?;
    }
    sheet.save(cx, &user)?;
    let room = session_room(&quiz, &user);
    let shows = shows_score(cx, ShowScore::Ended)?;
    let ended = Ended {
        quiz_id: quiz,
        score: sheet.score.filter(|_| shows),
    };
    cx.emit("quiz-ended").to_room(&room).send(&ended)?;
    cx.empty(room);
    Ok(())
}
