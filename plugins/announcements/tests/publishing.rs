//! When what was announced is published: times, quiet hours, and how many an hour.

mod campus;

use announcements::plugin;
use campus::{Campus, HOUR, answer_of, educator, nights};
use serde_json::json;
use std::time::Duration;
use switchboard_plugin::{Ack, Cx, Id, User};

const MINUTE: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_time_to_come_is_waited_for_and_one_that_is_past_is_now() {
    let mut campus = Campus::new(json!({}));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let later = json!({ "publishAt": "2023-11-15T15:30:00.500+02:00", "priority": "urgent" });
    let id = campus.announced(&tom, later, "scheduled");
    let past = json!({ "publishAt": "2023-11-15T11:59:59Z" });
    let now = campus.announced(&tom, past, "published");
    assert_eq!(campus.published(&ann), [now]);
    campus.until("2023-11-15T13:30:00.499Z");
    campus.expect_silence(&ann);
    campus.pass(MILLI);
    assert_eq!(
        campus.take(&ann, "announcement-published"),
        json!({
            "announcementId": id, "courseId": "c1", "title": "Exam", "content": "on Monday",
            "priority": "urgent", "publishedAt": "2023-11-15T13:30:00.500Z",
        })
    );
    campus.pass(24 * HOUR);
    campus.expect_silence(&ann);
}

#[test]
fn quiet_hours_are_waited_for_over_midnight_but_not_by_what_is_urgent() {
    let mut campus = Campus::new(json!({ "quietHours": nights() }));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let day = campus.announced(&tom, json!({}), "published");
    campus.until("2023-11-15T21:00:00Z");
    let evening = campus.announced(&tom, json!({ "title": "late" }), "scheduled");
    let urgent = campus.announced(&tom, json!({ "priority": "urgent" }), "published");
    campus.until("2023-11-16T00:30:00Z");
    let night = campus.announced(&tom, json!({ "priority": "high" }), "scheduled");
    assert_eq!(campus.published(&ann), [day, urgent]);
    campus.until("2023-11-16T05:59:59.999Z");
    campus.expect_silence(&ann);
    campus.pass(MILLI);
    assert_eq!(campus.published(&ann), [evening, night]);
    campus.announced(&tom, json!({}), "published");
}

#[test]
fn a_time_within_quiet_hours_is_moved_to_their_end() {
    let mut campus = Campus::new(json!({ "quietHours": nights() }));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let night = json!({ "publishAt": "2023-11-16T03:00:00Z" });
    let id = campus.announced(&tom, night.clone(), "scheduled");
    let mut urgent = night;
    urgent["priority"] = json!("urgent");
    let urgent = campus.announced(&tom, urgent, "scheduled");
    campus.until("2023-11-16T03:00:00Z");
    assert_eq!(campus.published(&ann), [urgent]);
    campus.until("2023-11-16T06:00:00Z");
    assert_eq!(campus.published(&ann), [id]);
}

#[test]
fn quiet_hours_follow_the_clocks_of_their_zone_when_those_are_set() {
    for (evening, before, end) in [
        // Nine hours after they began it would be 8 o'clock, and the other time 6.
        (
            "2024-03-30T22:00:00Z",
            "2024-03-31T04:59:59.999Z",
            "2024-03-31T05:00:00Z",
        ),
        (
            "2024-10-26T21:00:00Z",
            "2024-10-27T05:59:59.999Z",
            "2024-10-27T06:00:00Z",
        ),
    ] {
        let mut campus = Campus::new(json!({ "quietHours": nights() }));
        let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
        campus.until(evening);
        let id = campus.announced(&tom, json!({}), "scheduled");
        campus.until(before);
        campus.expect_silence(&ann);
        campus.until(end);
        assert_eq!(campus.published(&ann), [id]);
    }
}

#[test]
fn quiet_hours_are_of_the_course() {
    let tokyo = json!({ "from": "20:00", "to": "23:00", "timeZone": "Asia/Tokyo" });
    let courses =
        json!({ "c1": { "quietHours": false }, "c2": {}, "c3": { "quietHours": nights() } });
    let mut campus = Campus::new(json!({ "quietHours": tokyo, "courses": courses }));
    let all = educator("tim").claim("taughtCourses", ["c1", "c2", "c3"]);
    let tim = campus.connect(all);
    // It is 21:00 in Tokyo, and 13:00 in Berlin.
    for (course, status) in [
        ("c1", "published"),
        ("c2", "scheduled"),
        ("c3", "published"),
    ] {
        campus.announced(&tim, json!({ "courseId": course }), status);
    }
}

#[test]
fn so_many_are_published_within_any_hour() {
    let mut campus = Campus::new(json!({ "perHour": 2 }));
    let (tom, tina) = (campus.tom.clone(), campus.tina.clone());
    campus.announced(&tom, json!({}), "published");
    campus.pass(50 * MINUTE);
    campus.announced(&tina, json!({ "priority": "urgent" }), "published");
    let refused = campus
        .announce(&tom, json!({}))
        .expect_failure("RATE_LIMITED");
    assert_eq!(refused["details"], json!({ "retryAfterMs": 600_000 }));
    campus.pass(10 * MINUTE - MILLI);
    campus
        .announce(&tina, json!({ "priority": "urgent" }))
        .expect_error("RATE_LIMITED");
    campus.pass(MILLI);
    campus.announced(&tom, json!({}), "published");
    // The next place is an hour after the second one, and not when a clock's hour begins.
    campus.pass(49 * MINUTE);
    let refused = campus
        .announce(&tom, json!({}))
        .expect_failure("RATE_LIMITED");
    assert_eq!(refused["details"], json!({ "retryAfterMs": 60_000 }));
    campus.pass(MINUTE);
    campus.announced(&tom, json!({}), "published");
    let admin = campus.connect(User::new("root").role("admin"));
    campus
        .announce(&admin, json!({}))
        .expect_error("RATE_LIMITED");
    campus.announced(&admin, json!({ "courseId": "c2" }), "published");
}

#[test]
fn what_timers_publish_counts_when_it_is_published_and_waits_for_place_in_its_order() {
    let mut campus = Campus::new(json!({ "perHour": 2 }));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let at_two = json!({ "publishAt": "2023-11-15T14:00:00Z" });
    let at_half_past_one = json!({ "publishAt": "2023-11-15T13:30:00Z" });
    let ids: Vec<String> = (0..4)
        .map(|_| campus.announced(&tom, at_two.clone(), "scheduled"))
        .collect();
    let first = campus.announced(&tom, at_half_past_one, "scheduled");
    // What waits for its time takes no place before it.
    campus.announced(&tom, json!({}), "published");
    campus.announced(&tom, json!({}), "published");
    campus.published(&ann);
    campus.until("2023-11-15T13:45:00Z");
    assert_eq!(campus.published(&ann), [first]);
    campus.until("2023-11-15T14:00:00Z");
    assert_eq!(campus.published(&ann), ids[..1]);
    // Three are in front of who comes now: places are free at 14:30, 15:00 and, for two, an hour later.
    let refused = campus
        .announce(&tom, json!({}))
        .expect_failure("RATE_LIMITED");
    assert_eq!(refused["details"], json!({ "retryAfterMs": 3_600_000 }));
    campus.until("2023-11-15T14:29:59.999Z");
    campus.expect_silence(&ann);
    campus.pass(MILLI);
    assert_eq!(campus.published(&ann), ids[1..2]);
    campus.until("2023-11-15T15:00:00Z");
    assert_eq!(campus.published(&ann), ids[2..3]);
    campus.until("2023-11-15T15:30:00Z");
    assert_eq!(campus.published(&ann), ids[3..]);
    campus.pass(24 * HOUR);
    campus.expect_silence(&ann);
}

#[test]
fn what_is_due_first_is_published_first_whenever_it_was_announced() {
    let mut campus = Campus::new(json!({ "perHour": 1 }));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let mut ids = [30, 20, 10].map(|minute| {
        let then = json!({ "publishAt": format!("2023-11-15T13:{minute}:00Z") });
        campus.announced(&tom, then, "scheduled")
    });
    ids.reverse();
    campus.until("2023-11-15T12:59:00Z");
    campus.announced(&tom, json!({}), "published");
    campus.published(&ann);
    campus.until("2023-11-15T13:58:59.999Z");
    for id in &ids {
        campus.expect_silence(&ann);
        campus.pass(MILLI);
        assert_eq!(campus.published(&ann), [id.as_str()]);
        campus.pass(HOUR - MILLI);
    }
}

#[test]
fn what_finds_no_place_before_the_night_waits_for_the_morning() {
    let mut campus = Campus::new(json!({ "perHour": 1, "quietHours": nights() }));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    campus.until("2023-11-15T20:30:00Z");
    let last = campus.announced(
        &tom,
        json!({ "publishAt": "2023-11-15T20:45:00Z" }),
        "scheduled",
    );
    campus.announced(&tom, json!({}), "published");
    campus.published(&ann);
    campus.until("2023-11-16T05:59:59.999Z");
    campus.expect_silence(&ann);
    campus.pass(MILLI);
    assert_eq!(campus.published(&ann), [last]);
}

#[test]
fn very_many_that_are_due_at_once_are_all_published_in_their_order() {
    let mut campus = Campus::new(json!({ "perHour": 1_000 }));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let then = json!({ "publishAt": "2023-11-15T14:00:00Z", "content": "\u{1}".repeat(10_000) });
    let ids: Vec<String> = (0..100)
        .map(|_| campus.announced(&tom, then.clone(), "scheduled"))
        .collect();
    let full = campus.announce(&tom, then).expect_failure("RATE_LIMITED");
    assert_eq!(full["details"], json!({ "retryAfterMs": 3_600_000 }));
    campus.announced(&tom, json!({}), "published");
    campus.published(&ann);
    campus.until("2023-11-15T14:00:00Z");
    assert_eq!(campus.published(&ann), ids);
}

#[test]
fn what_waits_is_looked_at_again_by_the_rules_of_its_time() {
    let mut campus = Campus::new(json!({}));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let plan = |campus: &mut Campus, title: &str| {
        let then = json!({ "title": title, "publishAt": "2023-11-15T14:00:00Z" });
        campus.announced(&tom, then, "scheduled")
    };
    let (word, fine) = (plan(&mut campus, "A bad word"), plan(&mut campus, "Exam"));
    let mut campus = campus.rule(json!({ "words": ["bad"] }));
    campus.until("2023-11-15T14:00:00Z");
    assert_eq!(campus.published(&ann), [fine]);
    let rejected = json!({
        "announcementId": word, "courseId": "c1",
        "reason": "`title`: the word `bad` is not allowed",
    });
    let tom = campus.tom.clone();
    assert_eq!(campus.take(&tom, "announcement-rejected"), rejected);
    campus
        .send(&tom, "announcement-cancel", &word)
        .expect_error("CONFLICT");

    // A role that may not announce any more; approval that was not asked for; nights.
    let then = json!({ "publishAt": "2023-11-15T23:00:00Z" });
    let id = campus.announced(&tom, then.clone(), "scheduled");
    let mut campus = campus.rule(json!({ "quietHours": nights() }));
    campus.until("2023-11-16T05:00:00Z");
    campus.expect_silence(&ann);
    let mut campus = campus.rule(json!({ "approval": true }));
    campus.until("2023-11-16T06:00:00Z");
    let tina = campus.tina.clone();
    campus.published(&tina);
    let pending = campus.take(&tina, "announcement-pending");
    assert_eq!(pending["announcementId"], json!(id));
    let mut campus = campus.rule(json!({ "roles": ["admin"] }));
    let refused = campus.send(&tina, "announcement-approve", &id);
    refused.expect_error("ROLE_NOT_ALLOWED");
    let mut campus = campus.rule(json!({}));
    let approved = campus.send(&tina, "announcement-approve", &id);
    assert_eq!(approved.expect_ok(), answer_of(&id, "published"));
    assert_eq!(campus.published(&ann), [id]);

    let then = json!({ "publishAt": "2023-11-16T09:00:00Z" });
    let id = campus.announced(&tom, then, "scheduled");
    let mut campus = campus.rule(json!({ "roles": ["admin"] }));
    campus.until("2023-11-16T09:00:00Z");
    campus.expect_silence(&ann);
    let rejected = json!({
        "announcementId": id, "courseId": "c1",
        "reason": "the role `educator` may not announce in this course",
    });
    assert_eq!(campus.take(&tom, "announcement-rejected"), rejected);
}

#[test]
fn what_waits_is_cancelled_by_its_author_or_an_admin() {
    let mut campus = Campus::new(json!({}));
    let (tom, tina, ann) = (campus.tom.clone(), campus.tina.clone(), campus.ann.clone());
    let admin = campus.connect(User::new("root").role("admin"));
    let then = json!({ "publishAt": "2023-11-15T14:00:00Z" });
    let kept = campus.announced(&tom, then.clone(), "scheduled");
    for by in [&tom, &admin] {
        let id = campus.announced(&tom, then.clone(), "scheduled");
        for other in [&tina, &ann] {
            campus
                .send(other, "announcement-cancel", &id)
                .expect_error("FORBIDDEN");
        }
        // Once more changes nothing.
        for _ in 0..2 {
            let answer = campus.send(by, "announcement-cancel", &id).expect_ok();
            assert_eq!(answer, answer_of(&id, "cancelled"));
        }
        campus
            .send(&tina, "announcement-approve", &id)
            .expect_error("CONFLICT");
        campus
            .send(&ann, "announcement-read", &id)
            .expect_error("NOT_FOUND");
    }
    campus.until("2023-11-15T14:00:00Z");
    assert_eq!(campus.published(&ann), [kept.as_str()]);
    let late = campus
        .send(&tom, "announcement-cancel", &kept)
        .expect_failure("CONFLICT");
    assert_eq!(late["details"], json!({ "status": "published" }));
    let only = campus.announced(
        &tom,
        json!({ "publishAt": "2023-11-15T15:00:00Z" }),
        "scheduled",
    );
    assert_eq!(campus.timer("announcements", "publish:c1"), Some(HOUR));
    campus.send(&tom, "announcement-cancel", &only).expect_ok();
    assert_eq!(campus.timer("announcements", "publish:c1"), None);
}

#[test]
fn what_an_operator_has_deleted_keeps_nothing_else_back() {
    let delete = |cx: &mut Cx, id: Id| {
        let key = format!("announcement:{id}");
        cx.kv("announcements").delete(key)?;
        Ok(Ack::ok())
    };
    let mut campus = Campus::of(plugin().on("delete", delete), json!({}));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let then = json!({ "publishAt": "2023-11-15T14:00:00Z" });
    let deleted = campus.announced(&tom, then.clone(), "scheduled");
    let kept = campus.announced(&tom, then, "scheduled");
    campus.send(&tom, "delete", deleted).expect_ok();
    campus.until("2023-11-15T14:00:00Z");
    assert_eq!(campus.published(&ann), [kept]);
}

#[test]
fn twenty_an_hour_is_what_a_course_has_where_nothing_is_said() {
    let mut campus = Campus::new(json!({}));
    let tom = campus.tom.clone();
    for _ in 0..20 {
        campus.announced(&tom, json!({}), "published");
    }
    campus
        .announce(&tom, json!({}))
        .expect_error("RATE_LIMITED");
}
