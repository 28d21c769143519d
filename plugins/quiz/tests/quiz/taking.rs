//! Answering, submitting and coming back.

use super::*;

#[test]
fn answers_are_counted_and_may_change() {
    let mut host = host();
    let ann = host.connect("ann");
    start(&mut host, "q1", &["ann"]);
    let counted = |answered: u32| json!({ "ok": true, "answered": answered, "total": 4 });
    assert_eq!(answer(&mut host, &ann, "one", "tea"), counted(1));
    assert_eq!(answer(&mut host, &ann, "count", 3), counted(2));
    assert_eq!(answer(&mut host, &ann, "one", "milk"), counted(2));
    assert_eq!(answer(&mut host, &ann, "some", json!([])), counted(3));
    let answers = json!({ "one": "milk", "count": 3, "some": [] });
    assert_eq!(on_sheet(&host, "ann", "answers"), answers);
}

#[test]
fn every_kind_takes_answers_of_its_form_only_and_says_nothing_of_the_right_one() {
    let mut host = host();
    let ann = host.connect("ann");
    start(&mut host, "q1", &["ann"]);
    let long = "x".repeat(4_001);
    for (question, refused) in [
        ("one", json!("coffee")),
        ("one", json!("Milk")),
        ("one", json!(0)),
        ("one", json!(["milk"])),
        ("some", json!("a")),
        ("some", json!(["a", "a"])),
        ("some", json!(["a", "d"])),
        ("some", json!([1])),
        ("word", json!(1)),
        ("word", json!(["Émile Zola"])),
        ("word", json!(long)),
        ("count", json!("271.5")),
        ("count", json!([271.5])),
        ("count", Value::Null),
        ("count", json!(true)),
        ("count", json!({ "a": 1 })),
    ] {
        let failure = host
            .send(&ann, "quiz-answer", given("q1", question, refused.clone()))
            .expect_failure("INVALID_PAYLOAD");
        let text = failure.to_string();
        assert!(text.contains("`answer"), "{question} {refused}: {text}");
        for secret in ["milk", "Zola", "271", "[\"a\"", "points"] {
            assert!(!text.contains(secret), "{question} {refused}: {text}");
        }
    }
    assert_eq!(on_sheet(&host, "ann", "answers"), json!({}));
    for (question, taken) in [
        ("one", json!("tea")),
        ("some", json!(["c", "b", "a"])),
        ("word", json!("")),
        ("word", json!("x".repeat(4_000))),
        ("count", json!(-0.5)),
    ] {
        answer(&mut host, &ann, question, taken);
    }
}

#[test]
fn points_are_for_what_is_right() {
    let cases = [
        ("one", json!("milk"), 1),
        ("one", json!("tea"), 0),
        ("some", json!(["a", "c"]), 2),
        ("some", json!(["c", "a"]), 2),
        ("some", json!(["a"]), 0),
        ("some", json!(["a", "b", "c"]), 0),
        ("some", json!([]), 0),
        ("word", json!("Émile Zola"), 3),
        ("word", json!("  éMILE zola\n"), 3),
        ("word", json!("Émile  Zola"), 0),
        ("word", json!("Emile Zola"), 0),
        ("word", json!(""), 0),
        ("count", json!(271.5), 4),
        ("count", json!(2715e-1), 4),
        ("count", json!(271), 0),
        ("count", json!(-271.5), 0),
    ];
    let mut host = host();
    for (number, (question, taken, score)) in cases.into_iter().enumerate() {
        let user = format!("user-{number}");
        let client = host.connect(user.as_str());
        let id = format!("q-{number}");
        start(&mut host, &id, &[&user]);
        host.send(&client, "quiz-answer", given(&id, question, taken.clone()))
            .expect_ok();
        let submitted = host.send(&client, "quiz-submit", &id).expect_ok();
        assert_eq!(submitted["score"], score, "{question}: {taken}");
    }
}

#[test]
fn a_number_is_a_number_however_it_is_written() {
    let mut host = host();
    let ann = host.connect("ann");
    let mut whole = quiz("q1", &["ann"]);
    whole["questions"][3]["answer"] = json!(3);
    host.server_event("quiz-start", whole).expect_ok();
    host.advance(DEALT);
    answer(&mut host, &ann, "count", 3.0);
    let submitted = host.send(&ann, "quiz-submit", "q1").expect_ok();
    assert_eq!(submitted["score"], 4);
}

#[test]
fn a_submission_ends_it_for_the_user_on_all_devices_and_scores_once() {
    let mut host = host();
    let (ann, phone, bob) = (
        host.connect("ann"),
        host.connect("ann"),
        host.connect("bob"),
    );
    start(&mut host, "q1", &["ann", "bob"]);
    for (question, taken) in right() {
        answer(&mut host, &ann, question, taken);
    }
    host.clear();
    let submitted = json!({ "quizId": "q1", "score": 10, "maxScore": 10 });
    let acknowledged = json!({ "ok": true, "quizId": "q1", "score": 10, "maxScore": 10 });
    let first = host.send(&ann, "quiz-submit", "q1").expect_ok();
    assert_eq!(first, acknowledged);
    for client in [&ann, &phone] {
        assert_eq!(host.take(client, "quiz-submitted"), submitted);
    }
    let before = on_sheet(&host, "ann", "submittedAt");
    host.advance(5 * SECOND);
    let second = host.send(&phone, "quiz-submit", "q1").expect_ok();
    assert_eq!(second, acknowledged);
    assert_eq!(host.take(&phone, "quiz-submitted"), submitted);
    host.expect_silence(&ann);
    assert_eq!(on_sheet(&host, "ann", "submittedAt"), before);
    // What is said afterwards changes nothing.
    for event in ["quiz-answer", "quiz-resume"] {
        let argument = match event {
            "quiz-answer" => given("q1", "one", "tea"),
            _ => json!("q1"),
        };
        let why = host
            .send(&phone, event, argument)
            .expect_error("QUIZ_CLOSED");
        assert!(why.contains("submitted"), "{why}");
    }
    assert_eq!(on_sheet(&host, "ann", "answers")["one"], "milk");
    // The other user goes on.
    host.expect_silence(&bob);
    answer(&mut host, &bob, "one", "tea");
    // And after the end it is the same answer still.
    host.advance(60 * SECOND);
    host.clear();
    let third = host.send(&ann, "quiz-submit", "q1").expect_ok();
    assert_eq!(third, acknowledged);
}

#[test]
fn one_comes_back_to_the_remaining_time_and_ones_answers() {
    let mut host = host();
    let ann = host.connect("ann");
    start(&mut host, "q1", &["ann", "bob"]);
    answer(&mut host, &ann, "some", json!(["b"]));
    answer(&mut host, &ann, "count", 7);
    host.disconnect(&ann);
    host.advance(20 * SECOND);
    let answers = json!({ "some": ["b"], "count": 7 });
    let resumed =
        json!({ "quizId": "q1", "endsAt": END, "questions": shown(), "answers": answers });
    let again = host.connect("ann");
    assert_eq!(host.take(&again, "quiz-resumed"), resumed);
    assert_eq!(host.rooms(&again), ["quiz-session:q1:ann"]);
    assert_eq!(
        host.send(&again, "quiz-resume", "q1").expect_ok(),
        json!({ "ok": true })
    );
    assert_eq!(host.take(&again, "quiz-resumed"), resumed);
    // One who was not there at the start, with nothing answered; devices that are there hear nothing.
    let bob = host.connect("bob");
    let resumed = json!({ "quizId": "q1", "endsAt": END, "questions": shown(), "answers": {} });
    assert_eq!(host.take(&bob, "quiz-resumed"), resumed);
    host.expect_silence(&again);
    answer(&mut host, &bob, "one", "milk");
    host.advance(40 * SECOND);
    for (client, score) in [(&again, 0), (&bob, 1)] {
        let ended = json!({ "quizId": "q1", "score": score });
        assert_eq!(host.take(client, "quiz-ended"), ended);
    }
}

#[test]
fn one_comes_back_to_every_quiz_that_runs_and_to_no_other() {
    let mut host = host();
    let ann = host.connect("ann");
    let mut short = quiz("short", &["ann"]);
    short["durationSeconds"] = json!(10);
    host.server_event("quiz-start", short).expect_ok();
    for id in ["q1", "q2", "done"] {
        start(&mut host, id, &["ann"]);
    }
    start(&mut host, "theirs", &["bob"]);
    host.send(&ann, "quiz-submit", "done").expect_ok();
    host.advance(15 * SECOND);
    let phone = host.connect("ann");
    let resumed: Vec<Value> = host
        .take_all(&phone, "quiz-resumed")
        .into_iter()
        .map(|resumed| resumed["quizId"].clone())
        .collect();
    assert_eq!(resumed, ["q1", "q2"]);
    host.expect_silence(&phone);
    // Who has submitted waits for the end.
    let rooms = ["done", "q1", "q2"].map(|id| format!("quiz-session:{id}:ann"));
    assert_eq!(host.rooms(&phone), rooms);
    host.advance(45 * SECOND);
    assert_eq!(host.take_all(&phone, "quiz-ended").len(), 3);
    let late = host.connect("ann");
    host.expect_silence(&late);
    assert!(host.rooms(&late).is_empty());
}

#[test]
fn a_quiz_is_there_for_those_listed_only() {
    let mut host = host();
    let eve = host.connect("eve");
    start(&mut host, "q1", &["ann"]);
    for id in ["q1", "nowhere"] {
        for (event, argument) in [
            ("quiz-answer", given(id, "one", "milk")),
            ("quiz-submit", json!(id)),
            ("quiz-resume", json!(id)),
        ] {
            let why = host.send(&eve, event, argument).expect_error("NOT_FOUND");
            assert_eq!(why, format!("you have no quiz `{id}`"), "{event}");
        }
    }
    assert!(host.rooms(&eve).is_empty());
    let ann = host.connect("ann");
    host.send(&ann, "quiz-answer", given("q1", "nothing", "milk"))
        .expect_error("NOT_FOUND");
}

#[test]
fn what_is_malformed_is_refused_by_its_member() {
    let mut host = host();
    let ann = host.connect("ann");
    start(&mut host, "q1", &["ann"]);
    for (event, argument, place) in [
        ("quiz-submit", json!("a:b"), "argument 1"),
        ("quiz-submit", json!({ "quizId": "q1" }), "argument 1"),
        ("quiz-resume", json!(7), "argument 1"),
        ("quiz-resume", Value::Null, "argument 1"),
        ("quiz-answer", json!("q1"), "argument 1"),
        ("quiz-answer", given("q:1", "one", "milk"), "`quizId`"),
        ("quiz-answer", given("q1", "o:ne", "milk"), "`questionId`"),
        (
            "quiz-answer",
            json!({ "quizId": "q1", "questionId": "one" }),
            "`answer`",
        ),
        (
            "quiz-answer",
            json!({ "quizId": "q1", "answer": "milk" }),
            "`questionId`",
        ),
    ] {
        let why = host
            .send(&ann, event, &argument)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains(place), "{event} {argument}: {why}");
    }
    host.tell(&ann, "quiz-submit", json!("nowhere"));
    assert_eq!(
        host.take(&ann, "error"),
        json!({ "code": "NOT_FOUND", "message": "you have no quiz `nowhere`", "event": "quiz-submit" })
    );
}

#[test]
fn all_answers_of_a_user_are_bounded_together() {
    let mut host = host();
    let ann = host.connect("ann");
    let mut texts = quiz("q1", &["ann"]);
    let question = |n| json!({ "id": format!("n{n}"), "kind": "text", "text": "?", "answer": "x", "points": 1 });
    texts["questions"] = (0..20).map(question).collect();
    host.server_event("quiz-start", texts).expect_ok();
    host.advance(DEALT);
    let long = "x".repeat(4_000);
    for n in 0..14 {
        answer(&mut host, &ann, &format!("n{n}"), long.as_str());
    }
    let why = host
        .send(&ann, "quiz-answer", given("q1", "n14", long.as_str()))
        .expect_error("INVALID_PAYLOAD");
    assert!(why.contains("`answer`"), "{why}");
    assert_eq!(answer(&mut host, &ann, "n0", "short")["answered"], 14);
    assert_eq!(
        answer(&mut host, &ann, "n14", long.as_str())["answered"],
        15
    );
}
