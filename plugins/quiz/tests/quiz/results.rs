//! What backends ask.

use super::*;

#[test]
fn a_backend_sees_every_users_answers_and_score() {
    let mut host = host();
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    start(&mut host, "q1", &["cat", "bob", "ann"]);
    for (question, taken) in right() {
        answer(&mut host, &ann, question, taken);
    }
    answer(&mut host, &bob, "one", "milk");
    host.advance(5 * SECOND - DEALT);
    host.send(&ann, "quiz-submit", "q1").expect_ok();
    let all = json!({ "one": "milk", "some": ["a", "c"], "word": "Émile Zola", "count": 271.5 });
    let at = "2023-11-15T12:00:05.000Z";
    let expected = |bobs: Value, cats: Value| {
        json!({
            "ok": true, "quizId": "q1", "courseId": "c1", "title": "Week 1", "endsAt": END, "maxScore": 10,
            "after": null,
            "results": [
                { "userId": "ann", "started": true, "answers": all, "submittedAt": at, "score": 10 },
                { "userId": "bob", "started": true, "answers": { "one": "milk" }, "submittedAt": null, "score": bobs },
                { "userId": "cat", "started": false, "answers": {}, "submittedAt": null, "score": cats },
            ],
        })
    };
    let ask = json!({ "quizId": "q1" });
    let running = host.server_event("quiz-results", &ask).expect_ok();
    assert_eq!(running, expected(Value::Null, Value::Null));
    host.advance(60 * SECOND);
    let ended = host.server_event("quiz-results", &ask).expect_ok();
    assert_eq!(ended, expected(json!(1), json!(0)));
}

#[test]
fn a_quiz_that_has_just_been_started_has_results_too() {
    let mut host = host();
    host.server_event("quiz-start", quiz("q1", &["ann"]))
        .expect_ok();
    let results = host
        .server_event("quiz-results", json!({ "quizId": "q1" }))
        .expect_ok();
    let none = json!({ "userId": "ann", "started": false, "answers": {}, "submittedAt": null, "score": null });
    assert_eq!(results["results"], json!([none]));
}

/// Returns the users of all pages, and how many pages there were.
fn by_pages(host: &mut TestHost, limit: Option<u32>) -> (Vec<String>, usize) {
    let (mut users, mut pages, mut after) = (Vec::new(), 0, Value::Null);
    loop {
        let ask = json!({ "quizId": "q1", "after": after, "limit": limit });
        let page = host.server_event("quiz-results", ask).expect_ok();
        pages += 1;
        let results = page["results"].as_array().unwrap();
        users.extend(
            results
                .iter()
                .map(|it| it["userId"].as_str().unwrap().to_owned()),
        );
        after = page["after"].clone();
        if after.is_null() {
            return (users, pages);
        }
    }
}

#[test]
fn many_users_come_by_pages() {
    let mut host = host();
    let users: Vec<String> = (0..1_000).map(|n| format!("user-{n:04}")).collect();
    let mut many = quiz("q1", &[]);
    many["userIds"] = json!(users);
    host.server_event("quiz-start", many).expect_ok();
    for (limit, pages) in [(None, 2), (Some(500), 2), (Some(499), 3), (Some(300), 4)] {
        assert_eq!(
            by_pages(&mut host, limit),
            (users.clone(), pages),
            "{limit:?}"
        );
    }
}

#[test]
fn long_answers_make_short_pages() {
    let mut host = host();
    let users: Vec<String> = (0..100).map(|n| format!("user-{n:03}")).collect();
    let mut texts = quiz("q1", &[]);
    let question = |n| json!({ "id": format!("n{n}"), "kind": "text", "text": "?", "answer": "x", "points": 1 });
    texts["questions"] = (0..3).map(question).collect();
    texts["userIds"] = json!(users);
    host.server_event("quiz-start", texts).expect_ok();
    host.advance(DEALT);
    let long = "\u{1d11e}".repeat(4_000);
    for user in &users {
        let client = host.connect(user.as_str());
        for n in 0..3 {
            answer(&mut host, &client, &format!("n{n}"), long.as_str());
        }
    }
    assert_eq!(by_pages(&mut host, None), (users, 2));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let mut host = host();
    start(&mut host, "q1", &["ann"]);
    for (ask, member) in [
        (json!({}), "quizId"),
        (json!({ "quizId": "a:b" }), "`quizId`"),
        (json!({ "quizId": "q1", "limit": 0 }), "`limit`"),
        (json!({ "quizId": "q1", "limit": 501 }), "`limit`"),
        (json!({ "quizId": "q1", "after": 7 }), "`after`"),
    ] {
        let why = host
            .server_event("quiz-results", &ask)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains(member), "{ask}: {why}");
    }
    let why = host
        .server_event("quiz-results", json!({ "quizId": "q2" }))
        .expect_error("NOT_FOUND");
    assert_eq!(why, "there is no quiz `q2`");
    // Clients cannot ask.
    let tom = host.connect(teacher("tom", &["c1"]));
    host.send(&tom, "quiz-results", json!({ "quizId": "q1" }))
        .expect_error("UNKNOWN_EVENT");
}
