//! A course with two who teach it and two who learn, and a clock.

// Each test file takes what it needs of it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use announcements::plugin;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};
use switchboard_plugin::{Client, Plugin, Reply, TestHost, User};

pub const HOUR: Duration = Duration::from_secs(60 * 60);

pub struct Campus {
    pub host: TestHost,
    /// Teach the course `c1`.
    pub tom: Client,
    pub tina: Client,
    /// Are enrolled in it.
    pub ann: Client,
    pub ben: Client,
    now: Timestamp,
}

pub fn educator(id: &str) -> User {
    User::new(id)
        .role("educator")
        .claim("taughtCourses", ["c1"])
}

pub fn student(id: &str) -> User {
    User::new(id).claim("enrolledCourses", ["c1"])
}

/// Returns quiet hours from 22 to 7 o'clock in Berlin.
pub fn nights() -> Value {
    json!({ "from": "22:00", "to": "07:00", "timeZone": "Europe/Berlin" })
}

impl Campus {
    pub fn new(settings: Value) -> Self {
        Self::of(plugin(), settings)
    }

    pub fn of(plugin: Plugin, settings: Value) -> Self {
        let mut host = TestHost::new(plugin).with_settings(settings);
        Self {
            tom: host.connect(educator("tom")),
            tina: host.connect(educator("tina")),
            ann: host.connect(student("ann")),
            ben: host.connect(student("ben")),
            host,
            now: "2023-11-15T12:00:00Z".parse().unwrap(),
        }
    }

    /// Changes the settings, as a swap does.
    pub fn rule(mut self, settings: Value) -> Self {
        self.host = self.host.with_settings(settings);
        self
    }

    /// Lets the time pass.
    #[track_caller]
    pub fn pass(&mut self, time: Duration) {
        self.host.advance(time);
        self.now += time;
    }

    /// Lets the time pass until then.
    #[track_caller]
    pub fn until(&mut self, then: &str) {
        let then: Timestamp = then.parse().unwrap();
        self.pass(then.duration_since(self.now).try_into().unwrap());
    }

    /// Announces in `c1`, with these members besides.
    pub fn announce(&mut self, author: &Client, more: Value) -> Reply {
        let mut request = json!({ "courseId": "c1", "title": "Exam", "content": "on Monday" });
        let more = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(more);
        self.host.send(author, "announce", request)
    }

    /// Announces what must come to this status, and returns its id.
    #[track_caller]
    pub fn announced(&mut self, author: &Client, more: Value, status: &str) -> String {
        let answer = self.announce(author, more).expect_ok();
        let id = answer["announcementId"].as_str().unwrap().to_owned();
        assert_eq!(answer, answer_of(&id, status));
        id
    }

    /// Returns the ids of what a client heard to be published since it was last asked.
    pub fn published(&mut self, client: &Client) -> Vec<String> {
        let heard = self.host.take_all(client, "announcement-published");
        heard
            .iter()
            .map(|heard| heard["announcementId"].as_str().unwrap().to_owned())
            .collect()
    }
}

pub fn answer_of(id: &str, status: &str) -> Value {
    json!({ "ok": true, "announcementId": id, "status": status })
}

impl Deref for Campus {
    type Target = TestHost;

    fn deref(&self) -> &TestHost {
        &self.host
    }
}

impl DerefMut for Campus {
    fn deref_mut(&mut self) -> &mut TestHost {
        &mut self.host
    }
}
