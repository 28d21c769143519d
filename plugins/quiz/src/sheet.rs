//! What one user has answered in a quiz: one value, so that answers, the submission and the end are
//! one after the other, whatever comes at the same time.
//!
//! | partition | key | value |
//! |---|---|---|
//! | `user:{userId}` | `sheet:{quizId}` | a [`Sheet`] |
//! | | `running:{quizId}` | the quiz's id; it is there until the quiz ends |
//!
//! A timer of the same partition, `close:{quizId}`, is due when the quiz ends.

use crate::{
    progress::{self, Count},
    question::{Answer, invalid},
    quiz::{self, Quiz},
    settings,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use switchboard_plugin::{Cx, Error, Id, Json, Kv, Result, rfc_3339};

/// The timer that ends a quiz for a user.
pub(crate) const CLOSE: &str = "close";
/// Bytes of a sheet; all answers of a user have to fit.
const BYTES: usize = 60_000;
/// Running quizzes that a user comes back to by connecting; to more by asking for them.
const RUNNING: u32 = 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sheet {
    pub(crate) quiz_id: Id,
    ends_ms: u64,
    pub(crate) total: usize,
    pub(crate) max_score: u32,
    /// Whether the quiz has reached a device of the user.
    pub(crate) started: bool,
    pub(crate) answers: BTreeMap<Id, Answer>,
    /// When the user submitted.
    pub(crate) submitted_at: Option<String>,
    /// Whether the end has been told.
    pub(crate) ended: bool,
    /// The score, once nothing can be answered any more.
    pub(crate) score: Option<u32>,
}

/// A user in a quiz, as timers name them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Taker {
    pub(crate) quiz: Id,
    pub(crate) user: Id,
}

/// Returns the name of a user's partition.
pub(crate) fn partition(user: &Id) -> String {
    format!("user:{user}")
}

fn stored(cx: &Cx, user: &Id) -> Kv {
    cx.kv(partition(user))
}

fn key(quiz: &Id) -> String {
    format!("sheet:{quiz}")
}

impl Sheet {
    pub(crate) fn new(quiz: &Quiz) -> Self {
        Self {
            quiz_id: quiz.id.clone(),
            ends_ms: quiz.ends_ms,
            total: quiz.total,
            max_score: quiz.max_score,
            started: false,
            answers: BTreeMap::new(),
            submitted_at: None,
            ended: false,
            score: None,
        }
    }

    pub(crate) fn find(cx: &Cx, user: &Id, quiz: &Id) -> Result<Option<Self>> {
        Ok(stored(cx, user).get(key(quiz))?)
    }

    /// Returns the sheet of a user of the quiz; one who was told of it sooner than dealt to gets it now.
    /// Others do not learn whether the quiz exists.
    pub(crate) fn get(cx: &Cx, user: &Id, quiz: &Id) -> Result<Self> {
        if let Some(sheet) = Self::find(cx, user, quiz)? {
            return Ok(sheet);
        }
        match Quiz::find(cx, quiz)? {
            Some(quiz) if quiz.is_for(cx, user)? => Self::deal(cx, user, &quiz),
            _ => Err(Error::not_found(format!("you have no quiz `{quiz}`"))),
        }
    }

    /// Returns the sheets of the user's quizzes that run.
    pub(crate) fn running(cx: &Cx, user: &Id) -> Result<Vec<Self>> {
        let running = stored(cx, user).list::<Id>("running:", None, RUNNING)?;
        let sheets = running
            .into_iter()
            .map(|(_, quiz)| Self::find(cx, user, &quiz));
        sheets.filter_map(Result::transpose).collect()
    }

    /// Gives a user a sheet, and has it closed in time.
    pub(crate) fn deal(cx: &Cx, user: &Id, quiz: &Quiz) -> Result<Self> {
        let left = Duration::from_millis(quiz.ends_ms.saturating_sub(cx.now_ms()));
        stored(cx, user).set_for(format!("running:{}", quiz.id), &quiz.id, left)?;
        let taker = Taker {
            quiz: quiz.id.clone(),
            user: user.clone(),
        };
        let close = format!("{CLOSE}:{}", quiz.id);
        cx.timers(partition(user)).at(quiz.ends_ms, close, &taker)?;
        let sheet = Self::new(quiz);
        sheet.save(cx, user)?;
        Ok(sheet)
    }

    pub(crate) fn save(&self, cx: &Cx, user: &Id) -> Result<()> {
        let kept = settings::kept(cx, self.ends_ms)?;
        Ok(stored(cx, user).set_for(key(&self.quiz_id), self, kept)?)
    }

    /// Tells whether anything can still be answered. The host's clock decides, and not whether the
    /// timer, which is a moment late, has fired.
    pub(crate) fn is_open(&self, now_ms: u64) -> bool {
        self.submitted_at.is_none() && !self.ended && now_ms < self.ends_ms
    }

    /// Refuses what comes too late.
    pub(crate) fn must_be_open(&self, now_ms: u64) -> Result<()> {
        if self.is_open(now_ms) {
            return Ok(());
        }
        let why = match &self.submitted_at {
            Some(at) => format!("you submitted the quiz `{}` at {at}", self.quiz_id),
            None => format!("the quiz `{}` ended at {}", self.quiz_id, self.ends_at()),
        };
        Err(Error::new("QUIZ_CLOSED", why))
    }

    pub(crate) fn ends_at(&self) -> String {
        rfc_3339(self.ends_ms)
    }

    /// Takes note that the quiz has reached the user, who is counted once. Returns whether that is news.
    pub(crate) fn reach(&mut self, cx: &Cx, user: &Id) -> Result<bool> {
        let is_new = !self.started;
        if is_new {
            self.started = true;
            progress::count_later(cx, user, &self.quiz_id, Count::Started)?;
        }
        Ok(is_new)
    }

    /// Takes an answer, in the place of an earlier one.
    pub(crate) fn answer(&mut self, question: Id, answer: Answer) -> Result<()> {
        self.answers.insert(question, answer);
        if Json::of(self)?.text().len() > BYTES {
            let why = format!("all answers together have more than {BYTES} bytes");
            return Err(invalid("answer", why));
        }
        Ok(())
    }

    /// Fixes the score.
    pub(crate) fn grade(&mut self, cx: &Cx) -> Result<()> {
        let questions = quiz::questions(cx, &self.quiz_id)?;
        let points = questions.iter().filter_map(|question| {
            let given = self.answers.get(&question.id)?;
            Some(question.score(given))
        });
        self.score = Some(points.sum());
        Ok(())
    }
}
