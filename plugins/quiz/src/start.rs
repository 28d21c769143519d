//! Starting a quiz, and dealing it to its takers.
//!
//! A transaction writes one partition, and every taker has one. So a start keeps the quiz and has each
//! page of its users opened by a timer: those who are there are told, all at once, and a timer for each of
//! the page gives that user a sheet. No event does more than a few hundred things, however many take the
//! quiz.

use crate::{
    educators_room, progress,
    question::{Question, chars, invalid, within},
    quiz::{self, Quiz},
    session_room,
    sheet::{Sheet, Taker},
    staff::teaches,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};
use switchboard_plugin::{Ack, Cx, Error, Id, Result, Timer};

/// The timer that opens a page of users, and the one that deals to one of them.
pub(crate) const OPEN: &str = "open";
pub(crate) const DEAL: &str = "deal";

/// How long after a page is opened its users are dealt to: by then hosts mostly know whose devices have been
/// told, whichever of them deals.
const DEAL_AFTER: Duration = Duration::from_millis(250);

const TITLE: RangeInclusive<usize> = 1..=200;
/// A second to a week.
const SECONDS: RangeInclusive<usize> = 1..=604_800;
const USERS: RangeInclusive<usize> = 1..=5_000;
const QUESTIONS: RangeInclusive<usize> = 1..=200;
/// Bytes of all questions as JSON.
const BYTES: RangeInclusive<usize> = 0..=250_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Start {
    quiz_id: Id,
    course_id: Id,
    title: String,
    duration_seconds: u32,
    user_ids: Vec<Id>,
    questions: Vec<Question>,
}

impl Start {
    fn check(&self) -> Result<()> {
        within("title", chars(&self.title), TITLE, "characters")?;
        let seconds = usize::try_from(self.duration_seconds).unwrap_or(usize::MAX);
        within("durationSeconds", seconds, SECONDS, "seconds")?;
        within("userIds", self.user_ids.len(), USERS, "users")?;
        within("questions", self.questions.len(), QUESTIONS, "questions")?;
        let (mut ids, mut bytes) = (BTreeSet::new(), 0);
        for (index, question) in self.questions.iter().enumerate() {
            let place = format!("questions[{index}]");
            bytes += question.check(&place)?;
            if !ids.insert(&question.id) {
                return Err(invalid(format!("{place}.id"), "another question has it"));
            }
        }
        within("questions", bytes, BYTES, "bytes of JSON")
    }
}

/// Handles `quiz-start` of a client: one who teaches the course. They hear how it goes from then on,
/// also who has no claim for it.
pub(crate) fn by_educator(cx: &mut Cx, start: Start) -> Result<Ack> {
    if !teaches(cx, &start.course_id)? {
        return Err(Error::forbidden(format!(
            "quizzes of the course `{}` are started by those who teach it",
            start.course_id
        )));
    }
    cx.join(educators_room(&start.course_id));
    by_backend(cx, start)
}

/// Handles `quiz-start` of a backend.
pub(crate) fn by_backend(cx: &mut Cx, start: Start) -> Result<Ack> {
    start.check()?;
    if Quiz::find(cx, &start.quiz_id)?.is_some() {
        let id = start.quiz_id;
        return Err(Error::conflict(format!("there is a quiz `{id}` already")));
    }
    let users: BTreeSet<Id> = start.user_ids.into_iter().collect();
    let users: Vec<Id> = users.into_iter().collect();
    let ends_ms = cx.now_ms() + u64::from(start.duration_seconds) * 1_000;
    let (id, course) = (start.quiz_id, start.course_id);
    let quiz = Quiz::new(id, course, start.title, ends_ms, &start.questions);
    let quiz = quiz.create(cx, &start.questions, &users)?;
    progress::begin(cx, &quiz)?;
    let timers = cx.timers(quiz::partition(&quiz.id));
    for page in 0..quiz.pages() {
        let payload = Page {
            quiz: quiz.id.clone(),
            page,
        };
        timers.after(Duration::ZERO, format!("{OPEN}:{page}"), &payload)?;
    }
    Ack::with(&json!({ "quizId": quiz.id, "endsAt": quiz.ends_at() }))
}

/// A page of the users of a quiz.
#[derive(Serialize, Deserialize)]
pub(crate) struct Page {
    quiz: Id,
    page: usize,
}

/// Opens a page of users: tells those who are there, on whatever host, and has the quiz dealt to each.
pub(crate) fn open(cx: &mut Cx, timer: Timer<Page>) -> Result<()> {
    let Page { quiz, page } = timer.payload;
    let Some(quiz) = Quiz::find(cx, &quiz)? else {
        return Ok(()); // Not kept any more.
    };
    let (timers, mut rooms) = (cx.timers(timer.partition), Vec::new());
    for user in quiz::users_of_page(cx, &quiz.id, page)? {
        let room = session_room(&quiz.id, &user);
        cx.join_user(&user, &room);
        rooms.push(room);
        let (name, quiz) = (format!("{DEAL}:{user}"), quiz.id.clone());
        timers.after(DEAL_AFTER, name, &Taker { quiz, user })?;
    }
    // Where no host was there all the time it is over already.
    if cx.now_ms() < quiz.ends_ms {
        let started = started(cx, &quiz)?;
        cx.emit("quiz-started").to_rooms(rooms).send(&started)?;
    }
    Ok(())
}

fn started(cx: &Cx, quiz: &Quiz) -> Result<Value> {
    Ok(json!({
        "quizId": quiz.id,
        "title": quiz.title,
        "endsAt": quiz.ends_at(),
        "questions": quiz::shown(cx, &quiz.id)?,
    }))
}

/// Gives a user a sheet, and tells devices that have connected since the quiz was opened. One that
/// connects later finds the sheet.
pub(crate) fn deal(cx: &mut Cx, timer: Timer<Taker>) -> Result<()> {
    let Taker { quiz, user } = timer.payload;
    let Some(quiz) = Quiz::find(cx, &quiz)? else {
        return Ok(()); // Not kept any more.
    };
    let mut sheet = match Sheet::find(cx, &user, &quiz.id)? {
        Some(sheet) => sheet,
        None => Sheet::deal(cx, &user, &quiz)?,
    };
    if !sheet.is_open(cx.now_ms()) {
        // Who has submitted on another device waits for the end.
        if !sheet.ended {
            cx.join_user(&user, session_room(&quiz.id, &user));
        }
        return Ok(());
    }
    let is_here = !cx.rooms().connections_of_user(&user)?.is_empty();
    if is_here && sheet.reach(cx, &user)? {
        sheet.save(cx, &user)?;
    }
    // To all hosts, whatever this one knows: a device of another may have connected just now.
    let (room, started) = (session_room(&quiz.id, &user), started(cx, &quiz)?);
    let others = cx.emit("quiz-started").to_user(&user);
    others.except_room(&room).send(&started)?;
    cx.join_user(user, room);
    Ok(())
}
