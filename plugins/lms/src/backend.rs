//! What backends tell: to whom it goes, and what is kept of it.

use crate::{
    access::{Content, Enrollment, course_of, enrollment_key, staff_key, state},
    clients::Conversation,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use switchboard_plugin::{Ack, Cx, Error, Id, Result};

/// Members of an event that are passed on as they came.
type More = Map<String, Value>;

macro_rules! event {
    ($name:ident { $($member:ident: $kind:ty),* $(,)? }) => {
        /// What must be there; whatever else is there is passed on.
        #[derive(Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct $name {
            $($member: $kind,)*
            #[serde(flatten)]
            more: More,
        }
    };
}

event!(NotificationRead {
    notification_id: Id,
    unread_count: u64
});
event!(UnreadCount { count: u64 });
event!(AssignmentGraded {
    assignment_id: Id,
    course_id: Id,
    score: f64,
    max_score: f64
});
event!(LessonCompleted {
    course_id: Id,
    lesson_id: Id
});
event!(CourseCompleted { course_id: Id });
event!(CertificateIssued { course_id: Id });
event!(ProgressUpdated {
    course_id: Id,
    percent: f64
});
event!(ThreadUpdated { thread_id: Id });
event!(PostVoted {
    post_id: Id,
    thread_id: Id,
    score: i64,
    user_id: Id
});

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForUser<T> {
    user_id: Id,
    #[serde(flatten)]
    event: T,
}

/// Returns the handler of an event that goes to one user as it came, without the user's id.
pub(crate) fn to_user<T: Serialize + DeserializeOwned + 'static>(
    name: &'static str,
) -> impl Fn(&mut Cx, ForUser<T>) -> Result<Ack> {
    move |cx, request| {
        cx.emit(name)
            .to_user(&request.user_id)
            .send(&whole(&request.event)?)?;
        Ok(Ack::ok())
    }
}

pub(crate) trait InThread: Serialize + DeserializeOwned + 'static {
    fn thread(&self) -> &Id;
}

impl InThread for ThreadUpdated {
    fn thread(&self) -> &Id {
        &self.thread_id
    }
}

impl InThread for PostVoted {
    fn thread(&self) -> &Id {
        &self.thread_id
    }
}

/// Returns the handler of an event that goes to a thread as it came.
pub(crate) fn to_thread<T: InThread>(name: &'static str) -> impl Fn(&mut Cx, T) -> Result<Ack> {
    move |cx, event: T| {
        cx.emit(name)
            .to_room(format!("thread:{}", event.thread()))
            .send(&whole(&event)?)?;
        Ok(Ack::ok())
    }
}

/// Writes whole numbers as such: a score of 9 came as `9` and goes on as `9`.
fn whole(event: &impl Serialize) -> Result<Value> {
    let mut value =
        serde_json::to_value(event).map_err(|error| Error::invalid_payload(error.to_string()))?;
    for member in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(number) = member
            .as_f64()
            .filter(|number| member.is_f64() && number.fract() == 0.0)
            && number.abs() < 9e15
        {
            *member = json!(number as i64);
        }
    }
    Ok(value)
}

#[derive(Serialize, Deserialize, Default)]
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
    #[serde(rename = "type")]
    kind: String,
    title: String,
    content: String,
    #[serde(default)]
    priority: Priority,
    notification_id: Option<Id>,
}

pub(crate) fn notification(cx: &mut Cx, request: Notification) -> Result<Ack> {
    let users: Vec<Id> = request
        .user_id
        .into_iter()
        .chain(request.user_ids)
        .collect();
    if users.is_empty() {
        return Err(Error::invalid_payload("expected `userId` or `userIds`"));
    }
    let id = request
        .notification_id
        .map_or_else(|| cx.new_id(), |id| id.to_string());
    let received = json!({
        "notificationId": id,
        "type": request.kind,
        "title": request.title,
        "content": request.content,
        "priority": request.priority,
        "timestamp": cx.timestamp(),
    });
    cx.emit("notification-received")
        .to_users(&users)
        .send(&received)?;
    Ack::with(&json!({ "notificationId": id }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    from: Id,
    to: Id,
    content: String,
    message_id: Option<Id>,
    conversation_id: Option<String>,
}

pub(crate) fn message(cx: &mut Cx, request: Message) -> Result<Ack> {
    let conversation = Conversation::between(request.from.clone(), request.to.clone());
    if let Some(named) = request.conversation_id
        && Conversation::parse(&named)?.id != conversation.id
    {
        return Err(Error::invalid_payload(
            "`conversationId`: not the conversation of `from` and `to`",
        ));
    }
    let id = request
        .message_id
        .map_or_else(|| cx.new_id(), |id| id.to_string());
    let received = json!({
        "messageId": id,
        "conversationId": conversation.id,
        "from": request.from,
        "to": request.to,
        "content": request.content,
        "timestamp": cx.timestamp(),
    });
    // One emission: whoever is in the conversation and one of the two hears it once.
    cx.emit("message-received")
        .to_users(&conversation.users)
        .to_room(conversation.room())
        .send(&received)?;
    Ack::with(&json!({ "messageId": id }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConversationUpdated {
    conversation_id: String,
    #[serde(flatten)]
    more: More,
}

pub(crate) fn conversation_updated(cx: &mut Cx, request: ConversationUpdated) -> Result<Ack> {
    let conversation = Conversation::parse(&request.conversation_id)?;
    let mut updated = request.more;
    updated.insert("conversationId".to_owned(), conversation.id.clone().into());
    cx.emit("conversation-updated")
        .to_users(&conversation.users)
        .send(&updated)?;
    Ok(Ack::ok())
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscussionPost {
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

pub(crate) fn discussion_post(cx: &mut Cx, mut post: DiscussionPost) -> Result<Ack> {
    post.timestamp = cx.timestamp();
    cx.emit("discussion-post-created")
        .to_room(format!("thread:{}", post.thread_id))
        .to_room(format!("course:{}", post.course_id))
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

pub(crate) fn announcement(cx: &mut Cx, request: Announcement) -> Result<Ack> {
    let id = request
        .announcement_id
        .map_or_else(|| cx.new_id(), |id| id.to_string());
    let published = json!({
        "announcementId": id,
        "courseId": request.course_id,
        "title": request.title,
        "content": request.content,
        "publishedAt": cx.timestamp(),
    });
    cx.emit("announcement-published")
        .to_room(format!("course:{}", request.course_id))
        .send(&published)?;
    Ack::with(&json!({ "announcementId": id }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnrollmentUpdated {
    user_id: Id,
    course_id: Id,
    status: Enrollment,
}

/// Keeps the enrolment. Who lost the course is out of its rooms at once.
pub(crate) fn enrollment_updated(cx: &mut Cx, request: EnrollmentUpdated) -> Result<Ack> {
    let EnrollmentUpdated {
        user_id: user,
        course_id: course,
        status,
    } = request;
    state(cx).set(enrollment_key(&course, &user), &status)?;
    if status == Enrollment::Dropped {
        for room in cx.rooms().of_user(&user)? {
            if belongs_to(cx, &room, &course)? {
                cx.leave_user(&user, room);
            }
        }
    }
    cx.emit("enrollment-updated")
        .to_user(&user)
        .send(&json!({ "courseId": course, "status": status }))?;
    Ok(Ack::ok())
}

fn belongs_to(cx: &Cx, room: &str, course: &Id) -> Result<bool> {
    // A quiz's room names its user behind the id.
    let mut parts = room.split(':');
    let (Some(prefix), Some(id)) = (parts.next(), parts.next()) else {
        return Ok(false);
    };
    let content = match prefix {
        "course" => return Ok(course == id),
        "thread" => Content::Thread,
        "lesson" => Content::Lesson,
        "quiz" => Content::Quiz,
        _ => return Ok(false),
    };
    Ok(course_of(cx, content, id)?.as_ref() == Some(course))
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

pub(crate) fn presence(cx: &mut Cx, request: Presence) -> Result<Ack> {
    let presence = json!({
        "userId": request.user_id,
        "status": request.status,
        "lastSeenAt": cx.timestamp(),
    });
    if request.course_ids.is_empty() {
        return Err(Error::invalid_payload("`courseIds`: expected at least one"));
    }
    request
        .course_ids
        .iter()
        .fold(cx.emit("user-presence"), |emit, course| {
            emit.to_room(format!("course:{course}"))
        })
        .send(&presence)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuizStarted {
    quiz_id: Id,
    user_ids: Vec<Id>,
    #[serde(flatten)]
    more: More,
}

/// Relays the start of a quiz to those who have entered it, each in a room of their own.
pub(crate) fn quiz_started(cx: &mut Cx, request: QuizStarted) -> Result<Ack> {
    if request.user_ids.is_empty() {
        return Err(Error::invalid_payload("`userIds`: expected at least one"));
    }
    let quiz = &request.quiz_id;
    let mut started = request.more;
    started.insert("quizId".to_owned(), json!(quiz));
    request
        .user_ids
        .iter()
        .fold(cx.emit("quiz-started"), |emit, user| {
            emit.to_room(format!("quiz:{quiz}:{user}"))
        })
        .send(&started)?;
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CourseContent {
    course_id: Id,
    #[serde(default)]
    threads: Vec<Id>,
    #[serde(default)]
    lessons: Vec<Id>,
    #[serde(default)]
    quizzes: Vec<Id>,
}

/// Keeps which threads, lessons and quizzes belong to a course, beside those told of before.
pub(crate) fn course_content(cx: &mut Cx, request: CourseContent) -> Result<Ack> {
    for (content, ids) in [
        (Content::Thread, &request.threads),
        (Content::Lesson, &request.lessons),
        (Content::Quiz, &request.quizzes),
    ] {
        for id in ids {
            state(cx).set(content.key(id.as_str()), &request.course_id)?;
        }
    }
    Ok(Ack::ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CourseStaff {
    course_id: Id,
    educators: Vec<Id>,
}

/// Keeps who teaches a course, in place of those told of before.
pub(crate) fn course_staff(cx: &mut Cx, request: CourseStaff) -> Result<Ack> {
    state(cx).set(staff_key(&request.course_id), &request.educators)?;
    Ok(Ack::ok())
}
