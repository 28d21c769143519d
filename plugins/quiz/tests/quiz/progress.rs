//! What educators hear, and how often.

use super::*;

fn progress(started: u32, answered: u32, submitted: u32) -> Value {
    json!({ "quizId": "q1", "started": started, "answered": answered, "submitted": submitted })
}

#[test]
fn educators_of_the_course_hear_how_it_goes_and_nobody_else() {
    let mut host = host();
    let (tom, other, root, eve) = (
        host.connect(teacher("tom", &["c0", "c1"])),
        host.connect(teacher("sue", &["c2"])),
        host.connect(
            User::new("root")
                .role("admin")
                .claim("taughtCourses", ["c1"]),
        ),
        host.connect(User::new("eve").claim("taughtCourses", ["c1"])),
    );
    assert_eq!(host.rooms(&tom), ["quiz-educators:c0", "quiz-educators:c1"]);
    assert!(host.rooms(&eve).is_empty(), "a student's claim is none");
    let (ann, bob) = (host.connect("ann"), host.connect("bob"));
    start(&mut host, "q1", &["ann", "bob", "away"]);
    host.expect_silence(&tom);
    host.advance(SECOND);
    for client in [&tom, &root] {
        assert_eq!(host.take(client, "quiz-progress"), progress(2, 0, 0));
    }
    answer(&mut host, &ann, "one", "milk");
    host.send(&bob, "quiz-submit", "q1").expect_ok();
    host.advance(SECOND);
    for client in [&tom, &root] {
        assert_eq!(host.take(client, "quiz-progress"), progress(2, 1, 1));
    }
    host.clear();
    host.advance(10 * SECOND);
    for client in [&tom, &other, &root, &eve, &ann, &bob] {
        host.expect_silence(client);
    }
}

#[test]
fn a_user_is_counted_once() {
    let mut host = host();
    let tom = host.connect(teacher("tom", &["c1"]));
    let (ann, phone) = (host.connect("ann"), host.connect("ann"));
    start(&mut host, "q1", &["ann", "bob", "cat"]);
    let bob = host.connect("bob");
    host.connect("bob");
    for client in [&ann, &phone, &bob] {
        for (question, taken) in right() {
            answer(&mut host, client, question, taken);
        }
        host.send(client, "quiz-resume", "q1").expect_ok();
        host.advance(2 * SECOND);
    }
    for client in [&ann, &phone, &bob] {
        host.send(client, "quiz-submit", "q1").expect_ok();
        host.advance(2 * SECOND);
    }
    let told = host.take_all(&tom, "quiz-progress");
    assert_eq!(told.last(), Some(&progress(2, 2, 2)), "{told:?}");
    // One who comes last and submits nothing.
    host.connect("cat");
    host.advance(SECOND);
    assert_eq!(host.take(&tom, "quiz-progress"), progress(3, 2, 2));
    host.advance(60 * SECOND);
    host.expect_silence(&tom);
}

#[test]
fn it_is_told_at_most_once_a_second_and_the_last_state_always() {
    let mut host = host();
    let tom = host.connect(teacher("tom", &["c1"]));
    let users: Vec<String> = (0..100).map(|n| format!("user-{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let clients: Vec<Client> = names.iter().map(|user| host.connect(*user)).collect();
    start(&mut host, "q1", &names);
    // A new one answers every 35 ms: if each put off the telling, it would come at the end only.
    let step = Duration::from_millis(35);
    let (mut now, mut told_at) = (Duration::ZERO, Vec::new());
    let mut last = Value::Null;
    for client in &clients {
        answer(&mut host, client, "one", "milk");
        host.advance(step);
        now += step;
        for progress in host.take_all(&tom, "quiz-progress") {
            told_at.push(now);
            last = progress;
        }
    }
    assert_eq!(told_at.len(), 3, "{told_at:?}");
    for pair in told_at.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(
            apart >= SECOND - step && apart <= SECOND + step,
            "{told_at:?}"
        );
    }
    assert_ne!(last, progress(100, 100, 0));
    host.advance(SECOND);
    assert_eq!(host.take(&tom, "quiz-progress"), progress(100, 100, 0));
    host.advance(10 * SECOND);
    host.expect_silence(&tom);
}

#[test]
fn whom_the_backend_lists_teaches_the_course_until_they_are_not_listed() {
    let mut host = host();
    let staff = |educators: &[&str]| json!({ "courseId": "c1", "educators": educators });
    let plain = || User::new("ned").role("educator");
    let (ned, claims, unlike) = (
        host.connect(plain()),
        host.connect(teacher("ned", &["c1"])),
        host.connect("ned"),
    );
    let answer = host.server_event("course-staff", staff(&["ned", "ned"]));
    assert_eq!(answer.expect_ok(), json!({ "ok": true }));
    let later = host.connect(plain());
    for client in [&ned, &claims, &later] {
        assert_eq!(host.rooms(client), ["quiz-educators:c1"]);
    }
    assert!(host.rooms(&unlike).is_empty(), "a student's role");
    host.send(&unlike, "quiz-start", quiz("q1", &["ann"]))
        .expect_error("FORBIDDEN");
    host.send(&ned, "quiz-start", quiz("q1", &["ann"]))
        .expect_ok();
    host.connect("ann");
    host.advance(2 * SECOND);
    for client in [&ned, &claims, &later] {
        assert_eq!(host.take(client, "quiz-progress"), progress(1, 0, 0));
    }
    // Who is taken off the list teaches where the token says so.
    host.server_event("course-staff", staff(&["sue"]))
        .expect_ok();
    host.send(&ned, "quiz-start", quiz("q2", &["ann"]))
        .expect_error("FORBIDDEN");
    host.send(&claims, "quiz-start", quiz("q2", &["ann"]))
        .expect_ok();
    let again = host.connect(plain());
    for (client, rooms) in [(&ned, 0), (&claims, 1), (&later, 0), (&again, 0)] {
        assert_eq!(host.rooms(client).len(), rooms);
    }
}

#[test]
fn a_list_of_staff_is_bounded_and_replaced_as_a_whole() {
    let mut host = host();
    let list = |word: &str, count: usize| {
        let educators: Vec<String> = (0..count).map(|n| format!("{word:x<124}{n:04}")).collect();
        json!({ "courseId": "c1", "educators": educators })
    };
    for word in ["a", "b"] {
        host.server_event("course-staff", list(word, 400))
            .expect_ok();
    }
    for (wrong, member) in [
        (list("c", 401), "`educators`"),
        (json!({ "courseId": "c1" }), "`educators`"),
        (
            json!({ "courseId": "c1", "educators": ["a:b"] }),
            "`educators",
        ),
        (json!({ "educators": [] }), "`courseId`"),
    ] {
        let why = host
            .server_event("course-staff", wrong)
            .expect_error("INVALID_PAYLOAD");
        assert!(why.contains(member), "{member}: {why}");
    }
}

#[test]
fn an_educator_of_very_many_courses_still_connects() {
    let mut host = host();
    let courses: Vec<String> = (0..300).map(|n| format!("c{n}")).collect();
    let tom = User::new("tom")
        .role("educator")
        .claim("taughtCourses", courses);
    let tom = host.connect(tom);
    assert_eq!(host.rooms(&tom).len(), 64);
    host.send(&tom, "quiz-start", json!({ "quizId": "q" }))
        .expect_error("INVALID_PAYLOAD");
    let odd = User::new("odd")
        .role("educator")
        .claim("taughtCourses", json!([1, "a:b", "c1"]));
    let odd = host.connect(odd);
    assert_eq!(host.rooms(&odd), ["quiz-educators:c1"]);
}
