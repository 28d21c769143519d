//! Who may start what, and who hears of it.

use super::*;

#[test]
fn a_backend_starts_a_quiz_on_all_devices_of_those_listed() {
    let mut host = host();
    let (ann, phone, bob, eve) = (
        host.connect("ann"),
        host.connect("ann"),
        host.connect("bob"),
        host.connect("eve"),
    );
    let users = ["ann", "bob", "away", "ann"];
    let answer = host
        .server_event("quiz-start", quiz("q1", &users))
        .expect_ok();
    assert_eq!(answer, json!({ "ok": true, "quizId": "q1", "endsAt": END }));
    host.advance(DEALT);
    let started = json!({ "quizId": "q1", "title": "Week 1", "endsAt": END, "questions": shown() });
    for client in [&ann, &phone, &bob] {
        assert_eq!(host.take(client, "quiz-started"), started);
    }
    assert_eq!(host.rooms(&phone), ["quiz-session:q1:ann"]);
    assert_eq!(host.rooms(&bob), ["quiz-session:q1:bob"]);
    assert!(host.rooms(&eve).is_empty());
    host.advance(5 * SECOND);
    for client in [&ann, &phone, &bob, &eve] {
        host.expect_silence(client);
    }
}

#[test]
fn an_educator_starts_a_quiz_of_a_course_they_teach_and_an_admin_any() {
    let mut host = host();
    let tom = host.connect(teacher("tom", &["c0", "c1"]));
    let stranger = host.connect(teacher("sue", &["c2", "c11"]));
    let claimless = host.connect(User::new("kim").role("educator"));
    let pretender = host.connect(User::new("eve").claim("taughtCourses", ["c1"]));
    let root = host.connect(User::new("root").role("admin"));
    for client in [&stranger, &claimless, &pretender] {
        let why = host
            .send(client, "quiz-start", quiz("q1", &["ann"]))
            .expect_error("FORBIDDEN");
        assert!(why.contains("`c1`"), "{why}");
    }
    assert_eq!(host.stored("quiz:q1", "quiz"), None);
    let answer = host
        .send(&tom, "quiz-start", quiz("q1", &["ann"]))
        .expect_ok();
    assert_eq!(answer, json!({ "ok": true, "quizId": "q1", "endsAt": END }));
    host.send(&root, "quiz-start", quiz("q2", &["ann"]))
        .expect_ok();
    assert_eq!(
        host.rooms(&root),
        ["quiz-educators:c1"],
        "who starts a quiz hears how it goes"
    );
}

#[test]
fn a_quiz_is_started_once() {
    let mut host = host();
    let ann = host.connect("ann");
    start(&mut host, "q1", &["ann"]);
    answer(&mut host, &ann, "one", "milk");
    for late in [0, 120] {
        host.advance(late * SECOND);
        host.clear();
        let why = host
            .server_event("quiz-start", quiz("q1", &["ann", "bob"]))
            .expect_error("CONFLICT");
        assert!(why.contains("`q1`"), "{why}");
        host.advance(DEALT);
        host.expect_silence(&ann);
        assert_eq!(on_sheet(&host, "ann", "answers"), json!({ "one": "milk" }));
    }
    start(&mut host, "q2", &["ann"]);
    assert_eq!(host.take(&ann, "quiz-started")["quizId"], "q2");
}

#[test]
fn a_quiz_is_kept_for_as_long_as_the_operator_says_and_then_its_id_is_free() {
    let day = 24 * 60 * 60 * SECOND;
    let mut host = host().with_settings(json!({ "keepDays": 2 }));
    host.connect("ann");
    start(&mut host, "q1", &["ann"]);
    host.advance(2 * day + 59 * SECOND);
    host.server_event("quiz-results", json!({ "quizId": "q1" }))
        .expect_ok();
    host.advance(2 * SECOND);
    host.server_event("quiz-results", json!({ "quizId": "q1" }))
        .expect_error("NOT_FOUND");
    for (partition, key) in [
        ("quiz:q1", "quiz"),
        ("quiz:q1", "question:one"),
        ("quiz:q1", "shown:000"),
        ("quiz:q1", "users:000"),
        ("quiz:q1", "started"),
        ("quiz:q1", "told"),
        ("user:ann", "sheet:q1"),
        ("user:ann", "running:q1"),
    ] {
        assert_eq!(host.stored(partition, key), None, "{partition} {key}");
    }
    start(&mut host, "q1", &["ann"]);
}

#[test]
fn more_users_than_a_page_has_take_a_quiz() {
    let mut host = host();
    let users: Vec<String> = (0..450).map(|n| format!("user-{n:03}")).collect();
    let present: Vec<Client> = ["user-000", "user-399", "user-400", "user-449"]
        .into_iter()
        .map(|user| host.connect(user))
        .collect();
    let tom = host.connect(teacher("tom", &["c1"]));
    let mut quiz = quiz("q1", &[]);
    quiz["userIds"] = json!(users);
    host.server_event("quiz-start", quiz).expect_ok();
    host.advance(DEALT);
    for client in &present {
        assert_eq!(host.take(client, "quiz-started")["questions"], shown());
    }
    host.advance(SECOND);
    let told = host.take_all(&tom, "quiz-progress");
    assert_eq!(told.last().unwrap()["started"], 4);
    host.advance(60 * SECOND);
    for client in &present {
        assert_eq!(
            host.take(client, "quiz-ended"),
            json!({ "quizId": "q1", "score": 0 })
        );
        assert!(host.rooms(client).is_empty());
    }
    let results = host
        .server_event(
            "quiz-results",
            json!({ "quizId": "q1", "after": "user-448" }),
        )
        .expect_ok();
    assert_eq!(
        results["results"][0]["score"], 0,
        "also of who was not there"
    );
}

#[test]
fn what_cannot_be_started_is_refused_by_its_member() {
    let mut host = host();
    let tom = host.connect(teacher("tom", &["c1"]));
    let long = |length: usize| "x".repeat(length);
    let changed = |member: &str, value: Value| {
        let mut quiz = quiz("q1", &["ann"]);
        quiz[member] = value;
        quiz
    };
    let asked = |index: usize, member: &str, value: Value| {
        let mut quiz = quiz("q1", &["ann"]);
        quiz["questions"][index][member] = value;
        quiz
    };
    let users = |count: usize| (0..count).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let questions = |count: usize, text: usize| {
        let question = |n| json!({ "id": format!("n{n}"), "kind": "number", "text": long(text), "answer": 1, "points": 1 });
        (0..count).map(question).collect::<Vec<_>>()
    };
    let options = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    for (refused, member) in [
        (changed("quizId", json!("a:b")), "`quizId`"),
        (changed("quizId", json!(7)), "`quizId`"),
        (changed("courseId", json!("")), "`courseId`"),
        (changed("title", json!("")), "`title`"),
        (changed("title", json!(long(201))), "`title`"),
        (changed("title", Value::Null), "`title`"),
        (changed("durationSeconds", json!(0)), "`durationSeconds`"),
        (
            changed("durationSeconds", json!(604_801)),
            "`durationSeconds`",
        ),
        (changed("durationSeconds", json!(1.5)), "`durationSeconds`"),
        (changed("durationSeconds", json!(-1)), "`durationSeconds`"),
        (changed("userIds", json!([])), "`userIds`"),
        (changed("userIds", json!(users(5_001))), "`userIds`"),
        (changed("userIds", json!(["ann", "b:c"])), "`userIds[1]`"),
        (changed("questions", json!([])), "`questions`"),
        (
            changed("questions", json!(questions(201, 1))),
            "`questions`",
        ),
        (
            changed("questions", json!(questions(70, 3_900))),
            "`questions`",
        ),
        (asked(0, "id", json!("some")), "`questions[1].id`"),
        (asked(0, "text", json!("")), "`questions[0].text`"),
        (asked(3, "text", json!(long(4_001))), "`questions[3].text`"),
        (asked(3, "text", json!("é".repeat(4_000))), "`questions[3]`"),
        (asked(2, "kind", json!("essay")), "`questions[2].kind`"),
        (
            asked(0, "options", json!(["milk"])),
            "`questions[0].options`",
        ),
        (
            asked(0, "options", json!(options(51))),
            "`questions[0].options`",
        ),
        (
            asked(0, "options", json!(["milk", ""])),
            "`questions[0].options[1]`",
        ),
        (
            asked(0, "options", json!(["milk", long(501)])),
            "`questions[0].options[1]`",
        ),
        (
            asked(0, "options", json!(["milk", "milk"])),
            "`questions[0].options`",
        ),
        (
            asked(2, "options", json!(["a", "b"])),
            "`questions[2].options`",
        ),
        (asked(0, "answer", json!("coffee")), "`questions[0].answer`"),
        (asked(0, "answer", json!(["milk"])), "`questions[0].answer`"),
        (asked(1, "answer", json!("a")), "`questions[1].answer`"),
        (
            asked(1, "answer", json!(["a", "d"])),
            "`questions[1].answer`",
        ),
        (
            asked(1, "answer", json!(["a", "a"])),
            "`questions[1].answer`",
        ),
        (asked(2, "answer", json!(7)), "`questions[2].answer`"),
        (
            asked(2, "answer", json!(long(4_001))),
            "`questions[2].answer`",
        ),
        (asked(3, "answer", json!("7")), "`questions[3].answer`"),
        (
            asked(3, "answer", json!({ "is": 7 })),
            "`questions[3].answer",
        ),
        (asked(0, "points", json!(1_001)), "`questions[0].points`"),
        (asked(0, "points", json!(0.5)), "`questions[0].points`"),
        (asked(0, "points", json!(-1)), "`questions[0].points`"),
    ] {
        let why = host
            .server_event("quiz-start", &refused)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains(member), "{member}: {why}");
        let why = host
            .send(&tom, "quiz-start", &refused)
            .expect_failure("INVALID_PAYLOAD");
        assert!(why.to_string().contains(member), "{member}: {why}");
    }
    for member in [
        "quizId",
        "courseId",
        "title",
        "durationSeconds",
        "userIds",
        "questions",
    ] {
        let mut quiz = quiz("q1", &["ann"]);
        quiz.as_object_mut().unwrap().remove(member);
        let why = host
            .server_event("quiz-start", quiz)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains(member), "{member}: {why}");
    }
    for member in ["id", "text", "kind", "answer", "points"] {
        let mut quiz = quiz("q1", &["ann"]);
        quiz["questions"][0].as_object_mut().unwrap().remove(member);
        let why = host
            .server_event("quiz-start", quiz)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains(member), "{member}: {why}");
    }
    assert_eq!(host.stored("quiz:q1", "quiz"), None);
    // What is just within the bounds can be started,
    let mut largest = quiz("q1", &[]);
    largest["title"] = json!(long(200));
    largest["durationSeconds"] = json!(604_800);
    largest["userIds"] = json!(users(5_000));
    largest["questions"] = json!(questions(200, 1_150));
    largest["questions"][0] = json!({
        "id": "n0", "kind": "multiple", "text": long(4_000), "options": options(50),
        "answer": options(50), "points": 1_000,
    });
    host.server_event("quiz-start", &largest).expect_ok();
    // and dealt, and come back to.
    let mut host = super::host();
    let ann = host.connect("ann");
    largest["userIds"] = json!(["ann"]);
    let asked = |n| json!({ "id": format!("n{n}"), "kind": "text", "text": "é".repeat(1_900), "answer": "é".repeat(1_900), "points": 0 });
    largest["questions"] = (0..32).map(asked).collect();
    host.server_event("quiz-start", &largest).expect_ok();
    host.advance(DEALT);
    let questions = host.take(&ann, "quiz-started")["questions"].clone();
    let ids: Vec<_> = questions
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].clone())
        .collect();
    assert_eq!(
        ids,
        (0..32).map(|n| format!("n{n}")).collect::<Vec<_>>(),
        "in their order"
    );
    let phone = host.connect("ann");
    assert_eq!(host.take(&phone, "quiz-resumed")["questions"], questions);
}

#[test]
fn who_is_told_sooner_than_dealt_to_can_answer() {
    let mut host = host();
    let tom = host.connect(teacher("tom", &["c1"]));
    let (ann, bob, eve) = (
        host.connect("ann"),
        host.connect("bob"),
        host.connect("eve"),
    );
    host.server_event("quiz-start", quiz("q1", &["ann", "bob", "cat", "zoe"]))
        .expect_ok();
    // It is open, and nothing has been dealt yet.
    host.advance(Duration::ZERO);
    assert_eq!(host.stored("user:ann", "sheet:q1"), None);
    for client in [&ann, &bob] {
        assert_eq!(host.take(client, "quiz-started")["quizId"], "q1");
    }
    // Those who connect now find no sheet.
    let (laptop, cat) = (host.connect("bob"), host.connect("cat"));
    answer(&mut host, &ann, "one", "milk");
    host.send(&bob, "quiz-submit", "q1").expect_ok();
    assert_eq!(host.take(&bob, "quiz-submitted")["score"], 0);
    for user in ["eve", "a", "zzz"] {
        let client = host.connect(user);
        host.send(&client, "quiz-answer", given("q1", "one", "milk"))
            .expect_error("NOT_FOUND");
    }
    host.clear();
    host.advance(DEALT);
    // They are told when it is dealt, but for who has submitted.
    assert_eq!(host.take(&cat, "quiz-started")["quizId"], "q1");
    for client in [&ann, &bob, &laptop, &cat] {
        host.expect_silence(client);
    }
    assert_eq!(on_sheet(&host, "ann", "answers"), json!({ "one": "milk" }));
    host.advance(SECOND);
    let told = host.take_all(&tom, "quiz-progress");
    let all = json!({ "quizId": "q1", "started": 3, "answered": 1, "submitted": 1 });
    assert_eq!(told.last(), Some(&all), "{told:?}");
    host.advance(60 * SECOND);
    for (client, score) in [(&ann, 1), (&bob, 0), (&laptop, 0), (&cat, 0)] {
        let ended = json!({ "quizId": "q1", "score": score });
        assert_eq!(host.take(client, "quiz-ended"), ended);
        assert!(host.rooms(client).is_empty());
    }
    host.expect_silence(&eve);
}

#[test]
fn a_connection_in_as_many_rooms_as_it_may_be_starts_and_resumes_nothing() {
    let mut host = host();
    let root = host.connect(User::new("root").role("admin"));
    for n in 0..128 {
        start(&mut host, &format!("n{n}"), &["root"]);
    }
    host.send(&root, "quiz-start", quiz("q1", &["ann"]))
        .expect_error("RATE_LIMITED");
    assert_eq!(host.stored("quiz:q1", "quiz"), None);
    // Not dealt yet, so that the connection is not in its room.
    host.server_event("quiz-start", quiz("q2", &["root"]))
        .expect_ok();
    host.send(&root, "quiz-resume", "q2")
        .expect_error("RATE_LIMITED");
    let submitted = host.send(&root, "quiz-submit", "q2").expect_ok();
    assert_eq!(submitted["score"], 0);
}
