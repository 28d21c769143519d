//! Who has read an announcement.

mod campus;

use campus::{Campus, HOUR, answer_of, student};
use serde_json::json;
use std::time::Duration;
use switchboard_plugin::User;

#[test]
fn each_reader_counts_once_and_the_author_hears_of_it_once_a_second() {
    let mut campus = Campus::new(json!({}));
    let (tom, ann, ben) = (campus.tom.clone(), campus.ann.clone(), campus.ben.clone());
    let id = campus.announced(&tom, json!({}), "published");
    let phone = campus.connect(student("ann"));
    let tablet = campus.connect(User::new("tom").role("educator"));
    campus.clear();
    for client in [&ann, &phone, &ann] {
        let answer = campus.send(client, "announcement-read", &id).expect_ok();
        assert_eq!(answer, answer_of(&id, "published"));
    }
    let stats = |readers: u32| json!({ "announcementId": id, "readers": readers });
    campus.pass(Duration::ZERO);
    for device in [&tom, &tablet] {
        assert_eq!(campus.take(device, "announcement-stats"), stats(1));
    }
    // Thirty more within the second are one word.
    for n in 0..30 {
        let reader = campus.connect(student(&format!("s{n}")));
        campus.send(&reader, "announcement-read", &id).expect_ok();
        campus.pass(Duration::from_millis(20));
    }
    campus.expect_silence(&tom);
    campus.pass(Duration::from_millis(399));
    campus.expect_silence(&tom);
    campus.pass(Duration::from_millis(1));
    assert_eq!(campus.take(&tom, "announcement-stats"), stats(31));
    campus.pass(HOUR);
    campus.send(&phone, "announcement-read", &id).expect_ok();
    campus.pass(HOUR);
    campus.expect_silence(&tom);
    campus.send(&ben, "announcement-read", &id).expect_ok();
    campus.pass(Duration::ZERO);
    assert_eq!(campus.take(&tom, "announcement-stats"), stats(32));
    for client in [&ann, &phone, &ben] {
        campus.expect_silence(client);
    }
}

#[test]
fn only_its_audience_reads_an_announcement() {
    let mut campus = Campus::new(json!({}));
    let (tom, tina, ann) = (campus.tom.clone(), campus.tina.clone(), campus.ann.clone());
    let stranger = campus.connect("stranger");
    for (audience, tina_reads, ann_reads) in [
        ("all", true, true),
        ("students", false, true),
        ("educators", true, false),
    ] {
        let id = campus.announced(&tom, json!({ "audience": audience }), "published");
        for (client, reads) in [(&tina, tina_reads), (&ann, ann_reads), (&stranger, false)] {
            let reply = campus.send(client, "announcement-read", &id);
            if reads {
                reply.expect_ok();
            } else {
                reply.expect_error("FORBIDDEN");
            }
        }
    }
}

#[test]
fn announcements_and_their_readers_are_forgotten_after_a_year() {
    let mut campus = Campus::new(json!({}));
    let (tom, ann) = (campus.tom.clone(), campus.ann.clone());
    let id = campus.announced(&tom, json!({}), "published");
    let (partition, record) = (format!("readers:{id}"), format!("announcement:{id}"));
    campus.send(&ann, "announcement-read", &id).expect_ok();
    campus.pass(364 * 24 * HOUR);
    assert_eq!(campus.stored(&partition, "count"), Some(json!(1)));
    assert!(campus.stored("announcements", &record).is_some());
    campus.pass(24 * HOUR);
    for key in ["count", "told", "reader:ann"] {
        assert_eq!(campus.stored(&partition, key), None);
    }
    assert_eq!(campus.stored("announcements", &record), None);
    campus
        .send(&ann, "announcement-read", &id)
        .expect_error("NOT_FOUND");
}
