//! What all takers of a quiz have in common. It does not change after the start, but for the counts
//! that educators hear.
//!
//! | partition | key | value |
//! |---|---|---|
//! | `quiz:{quizId}` | `quiz` | a [`Quiz`] |
//! | | `question:{questionId}` | a [`Question`], with its right answer |
//! | | `shown:{n}` | what clients see of the questions, eight a page, in their order |
//! | | `users:{n}` | ids of takers, 400 a page, in order |
//! | | `started`, `answered`, `submitted`, `told` | counts of users; see `progress` |
//!
//! What is sent to clients is made of `shown` alone, where no right answer ever was.

use crate::{question::Question, settings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use switchboard_plugin::{Cx, Fault, Id, Json, Kv, Result, rfc_3339};

/// Questions of a page, each of at most 8,000 bytes, and users of a page: so many fit into a value.
const QUESTIONS: usize = 8;
const USERS: usize = 400;
/// Entries read at once; there are fewer of each kind.
const ALL: u32 = 1_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Quiz {
    pub(crate) id: Id,
    pub(crate) course_id: Id,
    pub(crate) title: String,
    pub(crate) ends_ms: u64,
    /// How many questions there are.
    pub(crate) total: usize,
    pub(crate) max_score: u32,
    /// The first user of each page.
    pages: Vec<Id>,
}

/// Returns the name of a quiz's partition.
pub(crate) fn partition(id: &Id) -> String {
    format!("quiz:{id}")
}

fn stored(cx: &Cx, id: &Id) -> Kv {
    cx.kv(partition(id))
}

impl Quiz {
    /// Returns what a quiz has that begins now.
    pub(crate) fn new(
        id: Id,
        course_id: Id,
        title: String,
        ends_ms: u64,
        questions: &[Question],
    ) -> Self {
        Self {
            id,
            course_id,
            title,
            ends_ms,
            total: questions.len(),
            max_score: questions.iter().map(|question| question.points).sum(),
            pages: Vec::new(),
        }
    }

    pub(crate) fn find(cx: &Cx, id: &Id) -> Result<Option<Self>> {
        Ok(stored(cx, id).get("quiz")?)
    }

    pub(crate) fn ends_at(&self) -> String {
        rfc_3339(self.ends_ms)
    }

    /// Keeps a new quiz with its users, in the order of their ids.
    pub(crate) fn create(mut self, cx: &Cx, questions: &[Question], users: &[Id]) -> Result<Self> {
        let (quiz, kept) = (stored(cx, &self.id), settings::kept(cx, self.ends_ms)?);
        for question in questions {
            quiz.set_for(format!("question:{}", question.id), question, kept)?;
        }
        for (page, questions) in questions.chunks(QUESTIONS).enumerate() {
            let shown: Vec<_> = questions.iter().map(Question::shown).collect();
            quiz.set_for(format!("shown:{page:03}"), &shown, kept)?;
        }
        for (page, users) in users.chunks(USERS).enumerate() {
            quiz.set_for(users_key(page), users, kept)?;
            self.pages.extend(users.first().cloned());
        }
        quiz.set_for("quiz", &self, kept)?;
        Ok(self)
    }

    /// Returns how many pages of users there are.
    pub(crate) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Tells whether a user is one of those listed.
    pub(crate) fn is_for(&self, cx: &Cx, user: &Id) -> Result<bool> {
        let after = self.pages.partition_point(|first| first <= user);
        match after.checked_sub(1) {
            Some(page) => Ok(users_of_page(cx, &self.id, page)?.contains(user)),
            None => Ok(false),
        }
    }
}

fn users_key(page: usize) -> String {
    format!("users:{page:03}")
}

/// Returns a question, with its right answer.
pub(crate) fn question(cx: &Cx, quiz: &Id, id: &Id) -> Result<Option<Question>> {
    Ok(stored(cx, quiz).get(format!("question:{id}"))?)
}

/// Returns all questions, with their right answers, in no particular order.
pub(crate) fn questions(cx: &Cx, quiz: &Id) -> Result<Vec<Question>> {
    let listed = stored(cx, quiz).list("question:", None, ALL)?;
    Ok(listed.into_iter().map(|(_, question)| question).collect())
}

/// Returns what clients see of the questions, in their order.
pub(crate) fn shown(cx: &Cx, quiz: &Id) -> Result<Vec<Json>> {
    Ok(pages(&stored(cx, quiz), "shown:")?)
}

/// Returns all takers, in the order of their ids.
pub(crate) fn users(cx: &Cx, quiz: &Id) -> Result<Vec<Id>> {
    Ok(pages(&stored(cx, quiz), "users:")?)
}

/// Returns the takers of one page.
pub(crate) fn users_of_page(cx: &Cx, quiz: &Id, page: usize) -> Result<Vec<Id>> {
    let users = stored(cx, quiz).get(users_key(page))?;
    Ok(users.unwrap_or_default())
}

fn pages<T: DeserializeOwned>(quiz: &Kv, prefix: &str) -> Result<Vec<T>, Fault> {
    let pages = quiz.list::<Vec<T>>(prefix, None, ALL)?;
    Ok(pages.into_iter().flat_map(|(_, page)| page).collect())
}
