//! Who may announce, what, and who hears it.

mod campus;

use campus::{Campus, answer_of, educator, student};
use serde_json::{Value, json};
use switchboard_plugin::User;

#[test]
fn an_announcement_is_published_to_all_of_the_course() {
    let mut campus = Campus::new(json!({}));
    let (tom, phone, stranger) = (
        campus.tom.clone(),
        campus.connect(student("ann")),
        campus.connect("stranger"),
    );
    let answer = campus.announce(&tom, json!({})).expect_ok();
    let id = answer["announcementId"].as_str().unwrap().to_owned();
    assert_eq!(answer, answer_of(&id, "published"));
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "a UUIDv7: {id}");
    let heard = json!({
        "announcementId": id, "courseId": "c1", "title": "Exam", "content": "on Monday",
        "priority": "medium", "publishedAt": "2023-11-15T12:00:00.000Z",
    });
    for client in [tom, campus.tina.clone(), campus.ann.clone(), phone] {
        assert_eq!(campus.take(&client, "announcement-published"), heard);
        campus.expect_silence(&client);
    }
    campus.expect_silence(&stranger);
}

#[test]
fn an_audience_is_a_part_of_the_course() {
    let mut campus = Campus::new(json!({}));
    let (tom, tina, ann) = (campus.tom.clone(), campus.tina.clone(), campus.ann.clone());
    // Who teaches elsewhere is a student here.
    let guest = User::new("gus").role("educator");
    let guest = campus.connect(guest.claim("enrolledCourses", ["c1"]));
    for (audience, educators, students) in [
        ("all", true, true),
        ("students", false, true),
        ("educators", true, false),
    ] {
        let audience = json!({ "audience": audience, "priority": "low" });
        let id = campus.announced(&tom, audience, "published");
        for (client, hears) in [(&tina, educators), (&ann, students), (&guest, students)] {
            let heard = campus.published(client);
            assert_eq!(heard, if hears { vec![id.as_str()] } else { vec![] });
        }
    }
}

#[test]
fn who_does_not_teach_the_course_cannot_announce_there() {
    let mut campus = Campus::new(json!({}));
    let (ann, other, guest, admin, posing) = (
        campus.ann.clone(),
        campus.connect(
            User::new("ted")
                .role("educator")
                .claim("taughtCourses", ["c2"]),
        ),
        campus.connect(
            User::new("gus")
                .role("educator")
                .claim("enrolledCourses", ["c1"]),
        ),
        campus.connect(User::new("root").role("admin")),
        campus.connect(User::new("eve").claim("taughtCourses", ["c1"])),
    );
    campus.announce(&other, json!({})).expect_error("FORBIDDEN");
    campus.announce(&guest, json!({})).expect_error("FORBIDDEN");
    campus
        .announce(&ann, json!({}))
        .expect_error("ROLE_NOT_ALLOWED");
    campus
        .announce(&posing, json!({}))
        .expect_error("ROLE_NOT_ALLOWED");
    assert_eq!(campus.published(&ann), Vec::<String>::new());
    campus.announced(&admin, json!({}), "published");
}

#[test]
fn roles_that_may_announce_are_of_the_course() {
    let roles = json!({ "courses": { "c1": { "roles": ["student"] } } });
    let mut campus = Campus::new(roles);
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let elsewhere = campus.connect(User::new("eve").claim("enrolledCourses", ["c2"]));
    campus.announced(&ann, json!({}), "published");
    campus
        .announce(&elsewhere, json!({}))
        .expect_error("FORBIDDEN");
    campus
        .announce(&tom, json!({}))
        .expect_error("ROLE_NOT_ALLOWED");
    let mut campus = campus.rule(json!({}));
    campus
        .announce(&ann, json!({}))
        .expect_error("ROLE_NOT_ALLOWED");
    campus.announced(&tom, json!({}), "published");
}

#[test]
fn words_that_are_not_allowed_are_refused_in_title_and_content() {
    let words = json!({ "words": ["spam", "free money"], "courses": { "c2": { "words": [] } } });
    let mut campus = Campus::new(words);
    let tom = campus.tom.clone();
    for (refused, message) in [
        (
            json!({ "title": "SPAM!" }),
            "`title`: the word `spam` is not allowed",
        ),
        (
            json!({ "content": "no (Ｓpam) here" }),
            "`content`: the word `spam` is not allowed",
        ),
        (
            json!({ "content": "Free\n MONEY" }),
            "`content`: the word `free money` is not allowed",
        ),
    ] {
        let failure = campus
            .announce(&tom, refused)
            .expect_failure("WORD_NOT_ALLOWED");
        assert_eq!(failure["message"], message);
        let word = message.split('`').nth(3).unwrap();
        assert_eq!(failure["details"], json!({ "word": word }));
    }
    let fine = json!({ "title": "Spammers", "content": "money, free: antispam" });
    campus.announced(&tom, fine, "published");
    let both = campus.connect(educator("tim").claim("taughtCourses", ["c1", "c2"]));
    let elsewhere = json!({ "courseId": "c2", "title": "spam" });
    campus.announced(&both, elsewhere, "published");
}

#[test]
fn what_cannot_be_read_is_refused_by_its_name() {
    let mut campus = Campus::new(json!({}));
    let tom = campus.tom.clone();
    for (member, wrong) in [
        ("courseId", json!("a:b")),
        ("courseId", Value::Null),
        ("title", json!("")),
        ("title", json!(" \n")),
        ("title", json!("x".repeat(201))),
        ("title", json!(7)),
        ("content", json!("")),
        ("content", json!("x".repeat(10_001))),
        ("content", json!({ "_placeholder": true, "num": 0 })),
        ("priority", json!("extreme")),
        ("audience", json!("nobody")),
        ("publishAt", json!("tomorrow")),
        ("publishAt", json!(1_700_000_000_000_u64)),
        ("publishAt", json!("2024-11-20T00:00:00Z")),
    ] {
        let reply = campus.announce(&tom, json!({ (member): wrong }));
        let message = reply.expect_error("INVALID_PAYLOAD");
        assert!(
            message.contains(&format!("`{member}`")),
            "{member}: {message}"
        );
    }
    for missing in ["courseId", "title", "content"] {
        let mut request = json!({ "courseId": "c1", "title": "t", "content": "c" });
        request.as_object_mut().unwrap().remove(missing);
        let message = campus
            .send(&tom, "announce", request)
            .expect_error("INVALID_PAYLOAD");
        assert!(message.contains(missing), "{message}");
    }
    for event in [
        "announcement-approve",
        "announcement-cancel",
        "announcement-read",
    ] {
        campus
            .send(&tom, event, "a:b")
            .expect_error("INVALID_PAYLOAD");
        campus
            .send(&tom, event, "nothing")
            .expect_error("NOT_FOUND");
    }
    for (rejection, code) in [
        (
            json!({ "announcementId": "nothing", "reason": "no" }),
            "NOT_FOUND",
        ),
        (
            json!({ "announcementId": "nothing", "reason": "" }),
            "INVALID_PAYLOAD",
        ),
        (
            json!({ "announcementId": "nothing", "reason": "x".repeat(1_001) }),
            "INVALID_PAYLOAD",
        ),
        (json!({ "announcementId": "nothing" }), "INVALID_PAYLOAD"),
    ] {
        campus
            .send(&tom, "announcement-reject", rejection)
            .expect_error(code);
    }
    let largest = json!({ "title": "é".repeat(200), "content": "\u{1}".repeat(10_000) });
    campus.announced(&tom, largest, "published");
}
