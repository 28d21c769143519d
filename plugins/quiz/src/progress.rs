//! How a quiz goes, for those who teach its course.
//!
//! A user is counted once for each of [`Count`], from the user's own partition by a timer that is due
//! now, and by adding, which conflicts with nobody. It is told by one timer of the quiz, which goes on
//! once a second for as long as there is news, and is begun anew by the next count.

use crate::{
    educators_room,
    quiz::{self, Quiz},
    settings, sheet,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use switchboard_plugin::{Cx, Id, Kv, Result, Timer};

/// The timer that counts a user, the one that tells, and the one that waits in between.
pub(crate) const COUNT: &str = "count";
pub(crate) const TELL: &str = "tell";
pub(crate) const REST: &str = "rest";
/// How long it is at least from one telling to the next.
const APART: Duration = Duration::from_secs(1);

/// What users are counted for, and the key of the count.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Count {
    /// The quiz has reached a device of theirs.
    Started,
    /// They have given an answer.
    Answered,
    /// They have submitted.
    Submitted,
}

impl Count {
    fn key(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Answered => "answered",
            Self::Submitted => "submitted",
        }
    }
}

/// The counts, as they are told.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    started: u64,
    answered: u64,
    submitted: u64,
}

/// A user to be counted.
#[derive(Serialize, Deserialize)]
pub(crate) struct Counted {
    quiz: Id,
    what: Count,
}

fn counts(cx: &Cx, quiz: &Id) -> Kv {
    cx.kv(quiz::partition(quiz))
}

/// Sets the counts of a new quiz, which are kept as long as the quiz. They are told for the first time a
/// second later, when most of those who are there are counted.
pub(crate) fn begin(cx: &Cx, quiz: &Quiz) -> Result<()> {
    let kept = settings::kept(cx, quiz.ends_ms)?;
    for what in [Count::Started, Count::Answered, Count::Submitted] {
        counts(cx, &quiz.id).set_for(what.key(), &0, kept)?;
    }
    let timers = cx.timers(quiz::partition(&quiz.id));
    Ok(timers.after(APART, TELL, &quiz.id)?)
}

/// Counts a user, from a handler that writes in the user's partition.
pub(crate) fn count_later(cx: &Cx, user: &Id, quiz: &Id, what: Count) -> Result<()> {
    let name = format!("{COUNT}:{quiz}:{}", what.key());
    let quiz = quiz.clone();
    let timers = cx.timers(sheet::partition(user));
    Ok(timers.after(Duration::ZERO, name, &Counted { quiz, what })?)
}

/// Counts a user, in the quiz's partition, and has it told.
pub(crate) fn count(cx: &mut Cx, timer: Timer<Counted>) -> Result<()> {
    let Counted { quiz, what } = timer.payload;
    counts(cx, &quiz).add(what.key(), 1)?;
    let timers = cx.timers(quiz::partition(&quiz));
    if timers.get::<Id>(TELL)?.is_none() && timers.get::<Id>(REST)?.is_none() {
        timers.after(Duration::ZERO, TELL, &quiz)?;
    }
    Ok(())
}

/// Tells the educators, unless they know.
pub(crate) fn tell(cx: &mut Cx, timer: Timer<Id>) -> Result<()> {
    let Some(quiz) = Quiz::find(cx, &timer.payload)? else {
        return Ok(()); // Not kept any more.
    };
    let counts = counts(cx, &quiz.id);
    let count = |what: Count| counts.get(what.key()).map(Option::unwrap_or_default);
    let now = Progress {
        started: count(Count::Started)?,
        answered: count(Count::Answered)?,
        submitted: count(Count::Submitted)?,
    };
    if now == counts.get("told")?.unwrap_or_default() {
        return Ok(());
    }
    counts.set_for("told", &now, settings::kept(cx, quiz.ends_ms)?)?;
    // The second begins when this has been told: it may have to run again while many are counted.
    let timers = cx.timers(timer.partition);
    timers.after(Duration::ZERO, REST, &quiz.id)?;
    let told = Told {
        quiz_id: &quiz.id,
        progress: now,
    };
    cx.emit("quiz-progress")
        .to_room(educators_room(&quiz.course_id))
        .send(&told)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    quiz_id: &'a Id,
    #[serde(flatten)]
    progress: Progress,
}

/// Waits until it may be told again.
pub(crate) fn rest(cx: &mut Cx, timer: Timer<Id>) -> Result<()> {
    let timers = cx.timers(timer.partition);
    Ok(timers.after(APART, TELL, &timer.payload)?)
}
