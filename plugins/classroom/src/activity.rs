//! Educators keeping everybody on the same activity.

use crate::session::{room, state, taught};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_plugin::{Ack, Cx, Error, Id, Json, Result};

const ACTIVITY: &str = "activity";

/// Bytes of JSON; together they fit into one stored value.
const ACTIVITY_BYTES: usize = 4_096;
const STATE_BYTES: usize = 60_000;

/// What everybody is working on, and how far they are: any JSON, as it came.
#[derive(Serialize, Deserialize)]
pub(crate) struct Activity {
    activity: Json,
    state: Json,
    /// Grows by one each time, so that whoever hears of two knows which is the later.
    version: u64,
}

pub(crate) fn current(cx: &Cx, code: &Id) -> Result<Option<Activity>> {
    Ok(state(cx, code).get(ACTIVITY)?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sync {
    session_code: Id,
    activity: Json,
    state: Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Synced<'a> {
    session_code: &'a Id,
    #[serde(flatten)]
    activity: &'a Activity,
}

/// Handles `syncActivity`.
pub(crate) fn sync(cx: &mut Cx, sync: Sync) -> Result<Ack> {
    let code = sync.session_code;
    for (name, json, most) in [
        ("activity", &sync.activity, ACTIVITY_BYTES),
        ("state", &sync.state, STATE_BYTES),
    ] {
        let bytes = json.text().len();
        if bytes > most {
            return Err(Error::invalid_payload(format!(
                "`{name}`: expected at most {most} bytes of JSON, got {bytes}"
            )));
        }
    }
    taught(cx, &code)?;
    let activity = Activity {
        activity: sync.activity,
        state: sync.state,
        version: current(cx, &code)?.map_or(0, |current| current.version) + 1,
    };
    state(cx, &code).set(ACTIVITY, &activity)?;
    cx.emit("activitySynced")
        .to_room(room(&code))
        .send(&Synced {
            session_code: &code,
            activity: &activity,
        })?;
    Ack::with(&json!({ "version": activity.version }))
}
