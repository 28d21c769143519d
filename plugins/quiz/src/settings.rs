//! What the operator decides.

use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_plugin::{Cx, Result};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// From when on users are told their score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ShowScore {
    /// As soon as they have submitted.
    #[default]
    Submitted,
    /// When the quiz has ended.
    Ended,
    /// Not at all: only the backend is.
    Never,
}

#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Settings {
    pub(crate) show_score: ShowScore,
    /// How many days a quiz is kept after its end.
    keep_days: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            show_score: ShowScore::default(),
            keep_days: 30,
        }
    }
}

/// Returns the schema by which the host refuses wrong settings.
pub(crate) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "showScore": { "enum": ["submitted", "ended", "never"] },
            "keepDays": { "type": "integer", "minimum": 1, "maximum": 3_650 },
        },
        "additionalProperties": false,
    })
}

/// Returns for how long from now on everything of a quiz is kept.
pub(crate) fn kept(cx: &Cx, ends_ms: u64) -> Result<Duration> {
    let until = ends_ms + cx.settings::<Settings>()?.keep_days * DAY_MS;
    Ok(Duration::from_millis(until.saturating_sub(cx.now_ms())))
}
