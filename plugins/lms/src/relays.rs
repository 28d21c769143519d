//! What the backend sends and clients hear in another form, or in several places. Whoever is named
//! twice, by user and by room, hears it once.

use crate::{
    conversations::Conversation,
    courses::{course_room, quiz_room, thread_room},
    passed_on::More,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

fn given_or_new(cx: &Cx, given: Option<Id>) -> Result<Id> {
    given.map_or_else(|| Id::new(cx.new_id()), Ok)
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Priority {
    Low,
    #[default]
    Medium,
    High,
    Urgent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notification {
    user_id: Option<Id>,
    #[serde(default)]
    user_ids: Vec<Id>,
    notification_id: Option<Id>,
    #[serde(rename = "type")]
    kind: String,
    title: String,
    content: String,
    #[serde(default)]
    priority: Priority,
}

/// Handles `notification`.
pub(crate) fn notification(cx: &mut Cx, told: Notification) -> Result<Ack> {
    let users: Vec<Id> = told.user_id.into_iter().chain(told.user_ids).collect();
    if users.is_empty() {
        return Err(Error::invalid_payload("expected `userId` or `userIds`"));
    }
    let id = given_or_new(cx, told.notification_id)?;
    let heard = json!({
        "notificationId": id,
        "type": told.kind,
        "title": told.title,
        "content": told.content,
        "priority": told.priority,
        "timestamp": cx.timestamp(),
    });
    cx.emit("notification-received")
        .to_users(&users)
        .send(&heard)?;
    Ack::with(&json!({ "notificationId": id }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    from: Id,
    to: Id,
    content: String,
    message_id: Option<Id>,
    conversation_id: Option<Conversation>,
}

/// Handles `message`.
pub(crate) fn message(cx: &mut Cx, told: Message) -> Result<Ack> {
    let conversation = Conversation::between(told.from.clone(), told.to.clone())?;
    if told.conversation_id.is_some_and(|id| id != conversation) {
        return Err(Error::invalid_payload(format!(
            "`conversationId`: expected `{conversation}`, the conversation of `from` and `to`"
        )));
    }
    let id = given_or_new(cx, told.message_id)?;
    let heard = json!({
        "messageId": id,
        "conversationId": conversation,
        "from": told.from,
        "to": told.to,
        "content": told.content,
        "timestamp": cx.timestamp(),
    });
    cx.emit("message-received")
        .to_users(&conversation.users)
        .to_room(conversation.room())
        .send(&heard)?;
    Ack::with(&json!({ "messageId": id, "conversationId": conversation }))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConversationUpdated {
    conversation_id: Conversation,
    #[serde(flatten)]
    more: More,
}

/// Handles `conversation-updated`.
pub(crate) fn conversation_updated(cx: &mut Cx, told: ConversationUpdated) -> Result<Ack> {
    cx.emit("conversation-updated")
        .to_users(&told.conversation_id.users)
        .send(&told)?;
    Ok(Ack::ok())
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Post {
    post_id: Id,
    thread_id: Id,
    course_id: Id,
    author_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    content: String,
    #[serde(skip_deserializing)]
    timestamp: String,
}

/// Handles `discussion-post`.
pub(crate) fn discussion_post(cx: &mut Cx, mut post: Post) -> Result<Ack> {
    post.timestamp = cx.timestamp();
    cx.emit("discussion-post-created")
        .to_room(thread_room(&post.thread_id))
        .to_room(course_room(&post.course_id))
        .send(&post)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Announcement {
    announcement_id: Option<Id>,
    course_id: Id,
    title: String,
    content: String,
}

/// Handles `announcement`.
pub(crate) fn announcement(cx: &mut Cx, told: Announcement) -> Result<Ack> {
    let id = given_or_new(cx, told.announcement_id)?;
    let heard = json!({
        "announcementId": id,
        "courseId": told.course_id,
        "title": told.title,
        "content": told.content,
        "publishedAt": cx.timestamp(),
    });
    cx.emit("announcement-published")
        .to_room(course_room(&told.course_id))
        .send(&heard)?;
    Ack::with(&json!({ "announcementId": id }))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Online,
    Away,
    Busy,
    Offline,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Presence {
    user_id: Id,
    status: Status,
    course_ids: Vec<Id>,
}

/// Handles `presence`.
pub(crate) fn presence(cx: &mut Cx, told: Presence) -> Result<Ack> {
    let heard = json!({
        "userId": told.user_id,
        "status": told.status,
        "lastSeenAt": cx.timestamp(),
    });
    let rooms = told.course_ids.iter().map(course_room);
    to_rooms(cx, "user-presence", rooms, &heard)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuizStarted {
    user_ids: Vec<Id>,
    #[serde(flatten)]
    quiz: OfQuiz,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfQuiz {
    quiz_id: Id,
    #[serde(flatten)]
    more: More,
}

/// Handles `quiz-started`, for those who have joined the quiz.
pub(crate) fn quiz_started(cx: &mut Cx, told: QuizStarted) -> Result<Ack> {
    let id = &told.quiz.quiz_id;
    let rooms = told.user_ids.iter().map(|user| quiz_room(id, user));
    to_rooms(cx, "quiz-started", rooms, &told.quiz)
}

/// Emits to any number of rooms; an emission to none is refused by the host.
fn to_rooms(
    cx: &mut Cx,
    event: &str,
    rooms: impl ExactSizeIterator<Item = String>,
    heard: &impl Serialize,
) -> Result<Ack> {
    if rooms.len() > 0 {
        rooms
            .fold(cx.emit(event), |emit, room| emit.to_room(room))
            .send(heard)?;
    }
    Ok(Ack::ok())
}
