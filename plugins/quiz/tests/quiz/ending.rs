//! The deadline is the host's, and a score is told as the operator says.

use super::*;

#[test]
fn the_quiz_ends_by_itself_for_everybody() {
    let mut host = host();
    let (ann, phone, bob, idle) = (
        host.connect("ann"),
        host.connect("ann"),
        host.connect("bob"),
        host.connect("idle"),
    );
    start(&mut host, "q1", &["ann", "bob", "idle"]);
    answer(&mut host, &ann, "one", "milk");
    answer(&mut host, &bob, "count", 271.5);
    host.send(&bob, "quiz-submit", "q1").expect_ok();
    host.clear();
    host.advance(60 * SECOND - DEALT - Duration::from_millis(1));
    for client in [&ann, &phone, &bob, &idle] {
        host.expect_silence(client);
    }
    answer(&mut host, &ann, "some", json!(["c", "a"]));
    host.advance(Duration::from_millis(1));
    for (client, score) in [(&ann, 3), (&phone, 3), (&bob, 4), (&idle, 0)] {
        let ended = json!({ "quizId": "q1", "score": score });
        assert_eq!(host.take(client, "quiz-ended"), ended);
        assert!(host.rooms(client).is_empty());
    }
    host.advance(60 * SECOND);
    for client in [&ann, &phone, &bob, &idle] {
        host.expect_silence(client);
    }
}

/// Sends everything that could still change something, and sees it refused.
fn expect_closed(host: &mut TestHost, client: &Client) {
    for (event, argument) in [
        ("quiz-answer", given("q1", "one", "milk")),
        ("quiz-answer", given("q1", "one", "coffee")),
        ("quiz-submit", json!("q1")),
        ("quiz-resume", json!("q1")),
    ] {
        let why = host
            .send(client, event, argument)
            .expect_error("QUIZ_CLOSED");
        assert_eq!(why, format!("the quiz `q1` ended at {END}"), "{event}");
    }
}

#[test]
fn what_comes_late_is_refused_also_before_the_timer_has_fired() {
    let mut host = host();
    let ann = host.connect("ann");
    start(&mut host, "q1", &["ann"]);
    answer(&mut host, &ann, "one", "tea");
    host.clear();
    host.stall(60 * SECOND);
    assert_eq!(on_sheet(&host, "ann", "ended"), false, "the host is late");
    expect_closed(&mut host, &ann);
    let phone = host.connect("ann");
    host.expect_silence(&phone);
    host.advance(DEALT);
    assert_eq!(
        host.take(&ann, "quiz-ended"),
        json!({ "quizId": "q1", "score": 0 })
    );
    expect_closed(&mut host, &ann);
    assert_eq!(on_sheet(&host, "ann", "answers"), json!({ "one": "tea" }));
}

#[test]
fn a_quiz_that_no_host_was_there_for_ends_without_having_begun() {
    let mut host = host();
    let ann = host.connect("ann");
    host.server_event("quiz-start", quiz("q1", &["ann"]))
        .expect_ok();
    host.stall(90 * SECOND);
    host.advance(SECOND);
    assert!(host.take_all(&ann, "quiz-started").is_empty());
    expect_closed(&mut host, &ann);
    let results = host
        .server_event("quiz-results", json!({ "quizId": "q1" }))
        .expect_ok();
    assert_eq!(results["results"][0]["score"], 0);
}

#[test]
fn the_score_is_told_from_when_on_the_operator_says() {
    for (setting, at_submission, at_end) in [
        ("submitted", true, true),
        ("ended", false, true),
        ("never", false, false),
    ] {
        let mut host = showing(setting);
        let (ann, bob) = (host.connect("ann"), host.connect("bob"));
        start(&mut host, "q1", &["ann", "bob"]);
        answer(&mut host, &ann, "one", "milk");
        let mut submitted = json!({ "quizId": "q1" });
        if at_submission {
            submitted["score"] = json!(1);
            submitted["maxScore"] = json!(10);
        }
        let mut acknowledged = submitted.clone();
        acknowledged["ok"] = json!(true);
        for _ in 0..2 {
            let answer = host.send(&ann, "quiz-submit", "q1").expect_ok();
            assert_eq!(answer, acknowledged, "{setting}");
            assert_eq!(host.take(&ann, "quiz-submitted"), submitted, "{setting}");
        }
        host.advance(60 * SECOND);
        for (client, score) in [(&ann, 1), (&bob, 0)] {
            let mut ended = json!({ "quizId": "q1" });
            if at_end {
                ended["score"] = json!(score);
            }
            assert_eq!(host.take(client, "quiz-ended"), ended, "{setting}");
        }
        let results = host
            .server_event("quiz-results", json!({ "quizId": "q1" }))
            .expect_ok();
        assert_eq!(results["results"][0]["score"], 1, "backends know it always");
    }
}

#[test]
fn nothing_that_a_taker_hears_before_the_end_has_a_right_answer() {
    let mut host = showing("never");
    let ann = host.connect("ann");
    let mut secret = quiz("q1", &["ann"]);
    secret["questions"][0]["options"] = json!(["tea", "milk", "s3cret-0"]);
    for (index, answer) in [
        json!("s3cret-0"),
        json!(["a", "c"]),
        json!("s3cret-2"),
        json!(90_125.25),
    ]
    .into_iter()
    .enumerate()
    {
        secret["questions"][index]["answer"] = answer;
    }
    host.server_event("quiz-start", secret).expect_ok();
    host.advance(DEALT);
    let phone = host.connect("ann");
    let mut heard = vec![
        host.take(&ann, "quiz-started"),
        host.take(&phone, "quiz-resumed"),
    ];
    for (question, taken) in [
        ("one", json!("tea")),
        ("word", json!("x")),
        ("count", json!(1)),
    ] {
        heard.push(answer(&mut host, &ann, question, taken));
    }
    for refused in [json!(null), json!(1), json!("x"), json!(["x"])] {
        for question in ["one", "some", "word", "count"] {
            let reply = host.send(&ann, "quiz-answer", given("q1", question, refused.clone()));
            heard.push(json!(format!("{reply:?}")));
        }
    }
    heard.push(host.send(&ann, "quiz-submit", "q1").expect_ok());
    for heard in heard {
        let text = heard.to_string();
        assert!(
            !text.contains("s3cret-2") && !text.contains("90125.25"),
            "{text}"
        );
        assert!(!text.contains("\"answer\":"), "{text}");
        let questions = heard["questions"].as_array().into_iter().flatten();
        for question in questions {
            let mut members: Vec<_> = question.as_object().unwrap().keys().collect();
            members.retain(|member| *member != "options");
            assert_eq!(members, ["id", "kind", "points", "text"]);
        }
    }
}
