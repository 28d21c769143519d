//! Quizzes in a `TestHost`: every event, what it says and what it refuses.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod ending;
mod progress;
mod results;
mod starting;
mod taking;

use quiz::plugin;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Client, TestHost, User};

const SECOND: Duration = Duration::from_secs(1);
/// When a quiz that starts is dealt.
const DEALT: Duration = Duration::from_millis(250);
/// A minute after the beginning of all tests, which is how long `quiz` takes.
const END: &str = "2023-11-15T12:01:00.000Z";

fn host() -> TestHost {
    TestHost::new(plugin())
}

fn showing(score: &str) -> TestHost {
    host().with_settings(json!({ "showScore": score }))
}

fn teacher(id: &str, courses: &[&str]) -> User {
    User::new(id)
        .role("educator")
        .claim("taughtCourses", courses)
}

/// Returns a quiz of one question of each kind and 10 points; no right answer is part of anything else.
fn quiz(id: &str, users: &[&str]) -> Value {
    json!({
        "quizId": id, "courseId": "c1", "title": "Week 1", "durationSeconds": 60, "userIds": users,
        "questions": [
            { "id": "one", "kind": "single", "text": "Which?", "options": ["tea", "milk"], "answer": "milk", "points": 1 },
            { "id": "some", "kind": "multiple", "text": "Which ones?", "options": ["a", "b", "c"], "answer": ["a", "c"], "points": 2 },
            { "id": "word", "kind": "text", "text": "Who?", "answer": "Émile Zola", "points": 3 },
            { "id": "count", "kind": "number", "text": "How many?", "answer": 271.5, "points": 4 },
        ],
    })
}

/// What clients see of these questions.
fn shown() -> Value {
    json!([
        { "id": "one", "kind": "single", "text": "Which?", "options": ["tea", "milk"], "points": 1 },
        { "id": "some", "kind": "multiple", "text": "Which ones?", "options": ["a", "b", "c"], "points": 2 },
        { "id": "word", "kind": "text", "text": "Who?", "points": 3 },
        { "id": "count", "kind": "number", "text": "How many?", "points": 4 },
    ])
}

/// Right answers to these questions.
fn right() -> [(&'static str, Value); 4] {
    [
        ("one", json!("milk")),
        ("some", json!(["a", "c"])),
        ("word", json!("Émile Zola")),
        ("count", json!(271.5)),
    ]
}

/// Starts the quiz as a backend does, and lets it be dealt.
fn start(host: &mut TestHost, id: &str, users: &[&str]) {
    host.server_event("quiz-start", quiz(id, users)).expect_ok();
    host.advance(DEALT);
}

fn given(quiz: &str, question: &str, answer: impl Into<Value>) -> Value {
    json!({ "quizId": quiz, "questionId": question, "answer": answer.into() })
}

fn answer(host: &mut TestHost, client: &Client, question: &str, answer: impl Into<Value>) -> Value {
    host.send(client, "quiz-answer", given("q1", question, answer))
        .expect_ok()
}

/// Returns what a user's sheet holds of one member.
fn on_sheet(host: &TestHost, user: &str, member: &str) -> Value {
    let sheet = host.stored(&format!("user:{user}"), "sheet:q1").unwrap();
    sheet[member].clone()
}
