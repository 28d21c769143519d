//! The operator's rules: those of a course are the settings, with what `courses` says of it instead.
//! They are read anew for each event, so that a change holds from the next one on.

use crate::{
    announcement::{Announcement, Priority},
    quiet::QuietHours,
    words,
};
use jiff::tz;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use switchboard_plugin::{Cx, Error, Id, Result, log};

/// The rules of one course.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rules {
    /// Roles that may announce.
    roles: Vec<String>,
    /// Words that are not allowed.
    words: Vec<String>,
    /// Announcements that may be published within any 60 minutes.
    pub(crate) per_hour: usize,
    #[serde(deserialize_with = "hours_or_false")]
    quiet_hours: Option<QuietHours>,
    /// Whether a second person has to approve.
    pub(crate) approval: bool,
}

/// Reads quiet hours; `false` is how a course says that it has none.
fn hours_or_false<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<QuietHours>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(false) => Ok(None),
        hours => serde_json::from_value(hours)
            .map(Some)
            .map_err(serde::de::Error::custom),
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            roles: vec!["educator".to_owned(), "admin".to_owned()],
            words: Vec::new(),
            per_hour: 20,
            quiet_hours: None,
            approval: false,
        }
    }
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    courses: BTreeMap<String, Map<String, Value>>,
    #[serde(flatten)]
    rules: Map<String, Value>,
}

impl Rules {
    /// Returns the rules of a course, as they are now.
    pub(crate) fn of(cx: &Cx, course: &Id) -> Result<Self> {
        let Settings {
            mut courses,
            mut rules,
        } = cx.settings()?;
        rules.extend(courses.remove(course.as_str()).unwrap_or_default());
        serde_json::from_value(Value::Object(rules)).map_err(|error| {
            log::error(format!("the rules of the course `{course}`: {error}"));
            Error::new("PLUGIN_FAILED", "the plugin's settings are not valid")
        })
    }

    /// Refuses a role that may not announce.
    pub(crate) fn must_allow_role(&self, role: &str) -> Result<()> {
        if self.roles.iter().any(|allowed| allowed == role) {
            return Ok(());
        }
        Err(Error::new(
            "ROLE_NOT_ALLOWED",
            format!("the role `{role}` may not announce in this course"),
        ))
    }

    /// Refuses an announcement whose author's role or whose words are not allowed.
    pub(crate) fn must_allow(&self, announcement: &Announcement) -> Result<()> {
        self.must_allow_role(&announcement.author_role)?;
        for (name, text) in [
            ("title", &announcement.title),
            ("content", &announcement.content),
        ] {
            if let Some(word) = words::first_in(&self.words, text) {
                let message = format!("`{name}`: the word `{word}` is not allowed");
                let error = Error::new("WORD_NOT_ALLOWED", message);
                return Err(error.details(json!({ "word": word })));
            }
        }
        Ok(())
    }

    /// Returns when an announcement may be published, as far as its author and quiet hours say.
    pub(crate) fn due(&self, announcement: &Announcement, now_ms: u64) -> u64 {
        let wanted = announcement.publish_at.unwrap_or_default().max(now_ms);
        match &self.quiet_hours {
            Some(hours) if announcement.priority != Priority::Urgent => {
                hours.end_at(wanted).unwrap_or(wanted)
            }
            _ => wanted,
        }
    }
}

/// Returns the schema of the settings.
pub(crate) fn schema() -> Value {
    let time = json!({ "type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$" });
    let mut rules = json!({
        "roles": {
            "type": "array",
            "items": { "type": "string", "minLength": 1, "maxLength": 128 },
            "maxItems": 32,
        },
        "words": {
            "type": "array",
            // With a letter or a digit in it: nothing else is found as a word.
            "items": { "type": "string", "pattern": "[\\p{L}\\p{N}]", "maxLength": 64 },
            "maxItems": 1_000,
        },
        "perHour": { "type": "integer", "minimum": 1, "maximum": 1_000 },
        "quietHours": {
            "type": ["object", "boolean"],
            "not": { "const": true },
            "properties": { "from": time, "to": time, "timeZone": { "$ref": "#/$defs/timeZone" } },
            "required": ["from", "to", "timeZone"],
            "additionalProperties": false,
        },
        "approval": { "type": "boolean" },
    });
    let of_course = json!({
        "type": "object", "properties": rules, "additionalProperties": false,
    });
    if let Some(rules) = rules.as_object_mut() {
        let courses = json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9_.@~-]{1,128}$" },
            "additionalProperties": of_course,
        });
        rules.insert("courses".to_owned(), courses);
    }
    let zones: Vec<String> = tz::db().available().map(|zone| zone.to_string()).collect();
    json!({
        "type": "object",
        "properties": rules,
        "additionalProperties": false,
        "$defs": { "timeZone": { "enum": zones } },
    })
}
