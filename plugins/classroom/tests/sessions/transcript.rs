//! Live lines: replaced until they are final.

use crate::{host, in_s1, joined, refused, scene, tom};
use serde_json::{Value, json};

fn line(id: &str, text: &str, is_final: bool) -> Value {
    json!({ "lineId": id, "text": text, "final": is_final })
}

#[test]
fn lines_are_numbered_over_all_speakers_in_the_order_in_which_they_come() {
    let mut host = host();
    let (teacher, ann, bea) = (
        joined(&mut host, tom()),
        joined(&mut host, "ann"),
        joined(&mut host, "bea"),
    );
    let mut expected = Vec::new();
    for (sequence, (client, user, id, text, is_final)) in [
        (&teacher, "tom", "t1", "to", false),
        (&ann, "ann", "a1", "", false),
        (&teacher, "tom", "t1", "today", true),
        (&ann, "ann", "a1", "yes", true),
        (&teacher, "tom", "t2", "we", false),
    ]
    .into_iter()
    .enumerate()
    {
        let ack = in_s1(&mut host, client, "transcript", line(id, text, is_final));
        assert_eq!(ack, json!({ "ok": true, "sequence": sequence + 1 }));
        expected.push(json!({
            "sessionCode": "S1", "lineId": id, "userId": user, "text": text, "final": is_final,
            "sequence": sequence + 1,
        }));
    }
    for client in [&teacher, &ann, &bea] {
        assert_eq!(host.take_all(client, "transcriptUpdated"), expected);
        host.expect_silence(client);
    }
}

#[test]
fn a_final_line_stays_as_it_is() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    in_s1(
        &mut host,
        &teacher,
        "transcript",
        line("t1", "what was said", true),
    );
    for late in [
        line("t1", "what was", false),
        line("t1", "something else", true),
    ] {
        refused(&mut host, &teacher, "transcript", late, "CONFLICT");
        host.expect_silence(&ann);
    }
    // What was refused has used up no number.
    let ack = in_s1(&mut host, &teacher, "transcript", line("t2", "next", false));
    assert_eq!(ack["sequence"], 2);
}

#[test]
fn a_line_is_its_first_speakers() {
    let mut host = host();
    let (teacher, ann) = (joined(&mut host, tom()), joined(&mut host, "ann"));
    for is_final in [false, true] {
        in_s1(
            &mut host,
            &teacher,
            "transcript",
            line("t1", "mine", is_final),
        );
        refused(
            &mut host,
            &ann,
            "transcript",
            line("t1", "not mine", true),
            "FORBIDDEN",
        );
        host.expect_silence(&teacher);
    }
    // Another device of the speaker may go on with it.
    let phone = joined(&mut host, "ann");
    in_s1(&mut host, &ann, "transcript", line("a1", "one", false));
    in_s1(&mut host, &phone, "transcript", line("a1", "one two", true));
}

#[test]
fn lines_are_bounded_and_name_what_is_wrong() {
    let mut host = host();
    let ann = joined(&mut host, "ann");
    for (wrong, name) in [
        (line("a:b", "x", true), "`lineId`"),
        (line("a1", &"x".repeat(4_001), true), "`text`"),
        (json!({ "lineId": "a1", "text": "x" }), "`final`"),
        (
            json!({ "lineId": "a1", "text": "x", "final": "yes" }),
            "`final`",
        ),
        (json!({ "lineId": "a1", "final": true }), "`text`"),
    ] {
        let why = refused(&mut host, &ann, "transcript", wrong, "INVALID_PAYLOAD");
        assert!(why.contains(name), "{why}");
    }
    in_s1(
        &mut host,
        &ann,
        "transcript",
        line("a1", &"ü".repeat(4_000), true),
    );
}

#[test]
fn another_session_of_the_same_code_has_its_own_lines() {
    let mut host = host();
    let ann = joined(&mut host, "ann");
    in_s1(&mut host, &ann, "transcript", line("l1", "old", true));
    host.server_event("session-end", json!({ "sessionCode": "S1" }))
        .expect_ok();
    let again = json!({ "sessionCode": "S1", "educators": [], "open": true });
    host.server_event("session-create", again).expect_ok();
    let bea = joined(&mut host, "bea");
    let ack = in_s1(&mut host, &bea, "transcript", line("l1", "new", false));
    assert_eq!(ack["sequence"], 1);
    assert_eq!(
        scene(&mut host, "cem")["participants"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}
