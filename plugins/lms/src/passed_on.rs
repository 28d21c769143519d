//! What the backend sends and clients hear by the same name, with every member that it brought.

use crate::courses::thread_room;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Number, Value};
use switchboard_plugin::{Ack, Cx, Id, Result};

/// Members beyond those that the dialect names.
pub(crate) type More = Map<String, Value>;

// ---- to one user -------------------------------------------------------------

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToUser<T> {
    user_id: Id,
    #[serde(flatten)]
    data: T,
}

/// Returns a handler that passes an event on to its user, without their id.
pub(crate) fn to_user<T: Serialize + DeserializeOwned>(
    event: &'static str,
) -> impl Fn(&mut Cx, ToUser<T>) -> Result<Ack> {
    move |cx, told| {
        cx.emit(event).to_user(&told.user_id).send(&told.data)?;
        Ok(Ack::ok())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Read {
    notification_id: Id,
    unread_count: u64,
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct UnreadCount {
    count: u64,
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Grade {
    assignment_id: Id,
    course_id: Id,
    score: Number,
    max_score: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<String>,
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfCourse {
    course_id: Id,
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    course_id: Id,
    percent: Number,
    #[serde(flatten)]
    more: More,
}

// ---- to a thread -------------------------------------------------------------

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfThread<T> {
    thread_id: Id,
    #[serde(flatten)]
    data: T,
}

/// Returns a handler that passes an event on to its thread.
pub(crate) fn to_thread<T: Serialize + DeserializeOwned>(
    event: &'static str,
) -> impl Fn(&mut Cx, OfThread<T>) -> Result<Ack> {
    move |cx, told| {
        let room = thread_room(&told.thread_id);
        cx.emit(event).to_room(room).send(&told)?;
        Ok(Ack::ok())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Vote {
    post_id: Id,
    score: Number,
    user_id: Id,
    #[serde(flatten)]
    more: More,
}
