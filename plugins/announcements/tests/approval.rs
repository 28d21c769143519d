//! Approval by a second person.

mod campus;

use campus::{Campus, HOUR, answer_of, educator, nights, student};
use serde_json::json;
use switchboard_plugin::User;

#[test]
fn an_announcement_waits_for_another_who_teaches_the_course() {
    let mut campus = Campus::new(json!({ "approval": true }));
    let (tom, tina, ann) = (campus.tom.clone(), campus.tina.clone(), campus.ann.clone());
    let other = User::new("ted")
        .role("educator")
        .claim("taughtCourses", ["c2"]);
    let other = campus.connect(other);
    let more = json!({ "priority": "urgent", "publishAt": "2023-11-15T13:00:00.5+01:00" });
    let id = campus.announced(&tom, more, "pending-approval");
    let pending = json!({
        "announcementId": id, "courseId": "c1", "authorId": "tom", "title": "Exam",
        "content": "on Monday", "priority": "urgent", "audience": "all",
        "publishAt": "2023-11-15T12:00:00.500Z",
    });
    for educator in [&tom, &tina] {
        assert_eq!(campus.take(educator, "announcement-pending"), pending);
    }
    campus.pass(HOUR);
    campus
        .send(&ann, "announcement-read", &id)
        .expect_error("NOT_FOUND");
    let rejection = json!({ "announcementId": id, "reason": "no" });
    for not in [&tom, &ann, &other] {
        campus
            .send(not, "announcement-approve", &id)
            .expect_error("FORBIDDEN");
        campus
            .send(not, "announcement-reject", &rejection)
            .expect_error("FORBIDDEN");
    }
    for client in [&tom, &tina, &ann, &other] {
        campus.expect_silence(client);
    }
    // Twice is once.
    for _ in 0..2 {
        let answer = campus.send(&tina, "announcement-approve", &id).expect_ok();
        assert_eq!(answer, answer_of(&id, "published"));
    }
    assert_eq!(
        campus.take(&ann, "announcement-published"),
        json!({
            "announcementId": id, "courseId": "c1", "title": "Exam", "content": "on Monday",
            "priority": "urgent", "publishedAt": "2023-11-15T13:00:00.000Z",
        })
    );
    let late = campus
        .send(&tina, "announcement-reject", &rejection)
        .expect_failure("CONFLICT");
    assert_eq!(late["details"], json!({ "status": "published" }));
    campus
        .send(&tom, "announcement-approve", &id)
        .expect_error("FORBIDDEN");
}

#[test]
fn an_admin_is_a_second_person_but_not_for_themself() {
    let mut campus = Campus::new(json!({ "approval": true }));
    let tom = campus.tom.clone();
    let admin = campus.connect(User::new("root").role("admin"));
    let id = campus.announced(&tom, json!({}), "pending-approval");
    campus.send(&admin, "announcement-approve", &id).expect_ok();
    let own = campus.announced(&admin, json!({}), "pending-approval");
    campus
        .send(&admin, "announcement-approve", &own)
        .expect_error("FORBIDDEN");
}

#[test]
fn a_rejection_reaches_the_author_with_its_reason() {
    let mut campus = Campus::new(json!({ "approval": true }));
    let (tom, tina, ann) = (campus.tom.clone(), campus.tina.clone(), campus.ann.clone());
    let id = campus.announced(&tom, json!({}), "pending-approval");
    campus.clear();
    let rejection = json!({ "announcementId": id, "reason": "which Monday?" });
    for _ in 0..2 {
        let answer = campus
            .send(&tina, "announcement-reject", &rejection)
            .expect_ok();
        assert_eq!(answer, answer_of(&id, "rejected"));
    }
    let heard = json!({ "announcementId": id, "courseId": "c1", "reason": "which Monday?" });
    assert_eq!(campus.take(&tom, "announcement-rejected"), heard);
    campus
        .send(&tina, "announcement-approve", &id)
        .expect_error("CONFLICT");
    campus
        .send(&tom, "announcement-cancel", &id)
        .expect_error("CONFLICT");
    campus.pass(24 * HOUR);
    for client in [&tom, &tina, &ann] {
        campus.expect_silence(client);
    }
}

#[test]
fn what_was_approved_still_waits_for_quiet_hours() {
    let mut campus = Campus::new(json!({ "approval": true, "quietHours": nights() }));
    let (tom, tina, ann) = (campus.tom.clone(), campus.tina.clone(), campus.ann.clone());
    campus.until("2023-11-15T20:59:00Z");
    let id = campus.announced(&tom, json!({}), "pending-approval");
    let urgent = campus.announced(&tom, json!({ "priority": "urgent" }), "pending-approval");
    campus.until("2023-11-15T21:00:00Z");
    for _ in 0..2 {
        let answer = campus.send(&tina, "announcement-approve", &id).expect_ok();
        assert_eq!(answer, answer_of(&id, "scheduled"));
    }
    let rejection = json!({ "announcementId": id, "reason": "changed my mind" });
    campus
        .send(&tina, "announcement-reject", rejection)
        .expect_error("CONFLICT");
    campus
        .send(&tina, "announcement-approve", &urgent)
        .expect_ok();
    assert_eq!(campus.published(&ann), [urgent]);
    campus.until("2023-11-16T06:00:00Z");
    assert_eq!(campus.published(&ann), [id.as_str()]);
    let answer = campus.send(&tina, "announcement-approve", &id).expect_ok();
    assert_eq!(answer, answer_of(&id, "published"));
    campus.expect_silence(&ann);
}

#[test]
fn what_was_approved_waits_for_place_in_the_hour() {
    let mut campus = Campus::new(json!({ "approval": true, "perHour": 1 }));
    let (tom, tina, ann) = (campus.tom.clone(), campus.tina.clone(), campus.ann.clone());
    let ids: Vec<String> = (0..3)
        .map(|_| campus.announced(&tom, json!({}), "pending-approval"))
        .collect();
    for (id, status) in ids.iter().zip(["published", "scheduled", "scheduled"]) {
        let answer = campus.send(&tina, "announcement-approve", id).expect_ok();
        assert_eq!(answer, answer_of(id, status));
    }
    for id in &ids {
        assert_eq!(campus.published(&ann), [id.as_str()]);
        campus.pass(HOUR);
    }
}

#[test]
fn nothing_is_approved_that_did_not_ask_for_it() {
    let mut campus = Campus::new(json!({}));
    let (tom, tina) = (campus.tom.clone(), campus.tina.clone());
    let id = campus.announced(&tom, json!({}), "published");
    campus
        .send(&tina, "announcement-approve", &id)
        .expect_error("CONFLICT");
    let then = json!({ "publishAt": "2023-11-15T14:00:00Z" });
    let id = campus.announced(&tom, then, "scheduled");
    campus
        .send(&tina, "announcement-approve", &id)
        .expect_error("CONFLICT");
    let mut campus = campus.rule(json!({ "approval": true }));
    let id = campus.announced(&tom, json!({}), "pending-approval");
    // What waits goes on to wait when the rule is gone.
    let mut campus = campus.rule(json!({}));
    let answer = campus.send(&tom, "announcement-cancel", &id).expect_ok();
    assert_eq!(answer, answer_of(&id, "cancelled"));
}

#[test]
fn what_was_asked_for_is_approved_by_the_rules_of_that_moment() {
    let mut campus = Campus::new(json!({ "approval": true }));
    let (tom, tina, ann) = (campus.tom.clone(), campus.tina.clone(), campus.ann.clone());
    let id = campus.announced(&tom, json!({}), "pending-approval");
    for (rules, code) in [
        (
            json!({ "approval": true, "words": ["exam"] }),
            "WORD_NOT_ALLOWED",
        ),
        (json!({ "roles": ["admin"] }), "ROLE_NOT_ALLOWED"),
    ] {
        campus = campus.rule(rules);
        campus
            .send(&tina, "announcement-approve", &id)
            .expect_error(code);
    }
    let mut campus = campus.rule(json!({}));
    campus.send(&tina, "announcement-approve", &id).expect_ok();
    assert_eq!(campus.published(&ann), [id]);
}

#[test]
fn a_hundred_may_wait_for_approval() {
    let mut campus = Campus::new(json!({ "approval": true }));
    let (tom, tina) = (campus.tom.clone(), campus.tina.clone());
    let ids: Vec<String> = (0..100)
        .map(|_| campus.announced(&tom, json!({}), "pending-approval"))
        .collect();
    let full = campus
        .announce(&tom, json!({}))
        .expect_failure("RATE_LIMITED");
    assert_eq!(full["details"], json!({ "retryAfterMs": 3_600_000 }));
    campus
        .send(&tina, "announcement-approve", &ids[0])
        .expect_ok();
    campus.announced(&tom, json!({}), "pending-approval");
}

#[test]
fn who_comes_to_teach_is_told_of_what_waits() {
    let mut campus = Campus::new(json!({ "approval": true }));
    let (tom, tina) = (campus.tom.clone(), campus.tina.clone());
    let ids: Vec<String> = (0..53)
        .map(|_| campus.announced(&tom, json!({}), "pending-approval"))
        .collect();
    let rejection = json!({ "announcementId": ids[1], "reason": "no" });
    for (event, argument) in [
        ("announcement-approve", json!(ids[0])),
        ("announcement-reject", rejection),
    ] {
        campus.send(&tina, event, argument).expect_ok();
    }
    let waiting = campus.take_all(&tina, "announcement-pending");
    campus.clear();
    // By the token, and by the backend's word; the oldest first, and no more than 50.
    let late = campus.connect(educator("late"));
    let new = campus.connect(User::new("ned").role("educator"));
    campus.connect(student("ann"));
    assert_eq!(
        campus.take_all(&late, "announcement-pending"),
        waiting[2..52]
    );
    campus.expect_silence_everywhere();
    let active = json!({ "userId": "ned", "courseId": "c1", "status": "active" });
    campus
        .server_event("enrollment-updated", active)
        .expect_ok();
    assert_eq!(
        campus.take_all(&new, "announcement-pending"),
        waiting[2..52]
    );
    campus.expect_silence_everywhere();
}
