//! Who is connected, on all hosts, and what a backend does to them without a plugin.

use super::{Api, Refused, read_body};
use crate::{
    core::{
        code::{Code, Failure},
        names::{ConnectionId, EventName, Namespace, RoomName, USER_PREFIX, UserId},
        payload,
        presence::Status,
        recipient::Who,
        time::rfc_3339,
    },
    pipeline::{check::Step, now_ms},
    ports::Frame,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Users or connections of an answer, at most and where nothing is said.
const LIMIT: usize = 1_000;
const DEFAULT_LIMIT: usize = 100;
/// Inactive connections that are ended at once: each is a message to other hosts.
const INACTIVE: usize = 1_000;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/v1/totals", get(totals))
        .route("/api/v1/users", get(users))
        .route("/api/v1/users/{user}", get(user))
        .route("/api/v1/connections/{connection}", get(connection))
        .route("/api/v1/rooms/{room}", get(room))
        .route("/api/v1/emit", post(emit))
        .route("/api/v1/disconnect", post(disconnect))
}

type Answered<T> = Result<Json<Okay<T>>, Refused>;

/// What is answered when nothing has failed.
#[derive(Serialize)]
struct Okay<T> {
    ok: bool,
    #[serde(flatten)]
    rest: T,
}

fn okay<T>(rest: T) -> Json<Okay<T>> {
    Json(Okay { ok: true, rest })
}

fn invalid(why: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidPayload, why.into())
}

// ---- reading -----------------------------------------------------------------------------------

/// A part of a list: what comes after something, and how much of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

/// The same of a room.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomPage {
    namespace: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

fn limit(limit: Option<usize>) -> Result<usize, Failure> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    match (1..=LIMIT).contains(&limit) {
        true => Ok(limit),
        false => Err(invalid(format!("limit: expected 1 to {LIMIT}"))),
    }
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    let Query(query) = query.map_err(|rejection| invalid(rejection.body_text()))?;
    Ok(query)
}

fn part(path: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    let Path(part) = path.map_err(|rejection| invalid(rejection.body_text()))?;
    Ok(part)
}

impl Api {
    /// Returns those of a user's connections that have not ended.
    fn connections_of(&self, user: &UserId) -> Vec<ConnectionId> {
        let executor = &self.pipeline.executor;
        let mut devices = executor.presence.devices(user);
        devices.retain(|id| executor.rooms.whose(*id).is_some_and(|(_, ended)| !ended));
        devices
    }

    fn namespace(&self, name: Option<&str>) -> Result<Namespace, Failure> {
        let Some(name) = name else {
            return Ok(Namespace::root());
        };
        let namespace =
            Namespace::new(name).map_err(|error| invalid(format!("namespace: {error}")))?;
        match self.namespaces.contains(&namespace) {
            true => Ok(namespace),
            false => Err(Failure::new(
                Code::NotFound,
                format!("there is no namespace `{namespace}`"),
            )),
        }
    }

    fn seen(&self, user: UserId) -> SeenUser {
        let seen = self.pipeline.executor.presence.seen(&user, now_ms());
        SeenUser {
            user_id: user,
            status: seen.status,
            last_seen_at: seen.at_ms.map(rfc_3339),
        }
    }

    /// Returns whose a connection is and where, none where it is not there.
    fn shown(&self, id: ConnectionId) -> Option<Shown> {
        let (namespace, identity, rooms) = self.pipeline.executor.rooms.shown(id)?;
        let rooms = rooms.into_iter();
        Some(Shown {
            connection_id: id.to_string(),
            user_id: identity.user.clone(),
            role: identity.role.clone(),
            namespace,
            rooms: rooms.filter(|room| room.prefix() != USER_PREFIX).collect(),
        })
    }
}

/// What a user is seen as.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeenUser {
    user_id: UserId,
    status: Status,
    last_seen_at: Option<String>,
}

/// Whose a connection is, and where.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    connection_id: String,
    user_id: UserId,
    role: String,
    namespace: Namespace,
    rooms: Vec<RoomName>,
}

/// Goes through everybody apart from those threads that serve connections.
async fn apart<T: Send + 'static>(
    api: Arc<Api>,
    look: impl FnOnce(&Api) -> T + Send + 'static,
) -> Result<T, Failure> {
    let looked = tokio::task::spawn_blocking(move || look(&api)).await;
    looked.map_err(|_| Failure::new(Code::Unavailable, "the host is stopping"))
}

async fn totals(State(api): State<Arc<Api>>) -> Answered<Value> {
    let totals = |api: &Api| {
        let executor = &api.pipeline.executor;
        let everybody = executor.presence.everybody().into_iter();
        let devices = everybody.map(|user| api.connections_of(&user).len());
        let (users, connections) = devices
            .filter(|devices| *devices > 0)
            .fold((0, 0), |(users, all), devices| (users + 1, all + devices));
        let rooms = executor.rooms.len();
        json!({ "users": users, "connections": connections, "rooms": rooms })
    };
    Ok(okay(apart(api, totals).await?))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Users {
    users: Vec<Listed>,
    has_more: bool,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    seen: SeenUser,
    connections: usize,
}

async fn users(
    State(api): State<Arc<Api>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answered<Users> {
    let page = query(page)?;
    let limit = limit(page.limit)?;
    let after = page.after.unwrap_or_default();
    let users = move |api: &Api| {
        // The first of those who come after, and one more.
        let mut first = BTreeMap::new();
        for user in api.pipeline.executor.presence.everybody() {
            let connections = match user.as_str() > after.as_str() {
                true => api.connections_of(&user).len(),
                false => 0,
            };
            if connections > 0 {
                first.insert(user, connections);
            }
            if first.len() > limit + 1 {
                first.pop_last();
            }
        }
        let has_more = first.len() > limit;
        let listed = first.into_iter().take(limit);
        let listed = listed.map(|(user, connections)| Listed {
            seen: api.seen(user),
            connections,
        });
        Users {
            users: listed.collect(),
            has_more,
        }
    };
    Ok(okay(apart(api, users).await?))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(flatten)]
    seen: SeenUser,
    connected: bool,
    connections: Vec<Shown>,
    has_more: bool,
}

async fn user(
    State(api): State<Arc<Api>>,
    user: Result<Path<String>, PathRejection>,
) -> Answered<User> {
    let user = UserId::new(&part(user)?).map_err(|error| invalid(error.to_string()))?;
    let all = api.connections_of(&user);
    let connections = all.iter().take(LIMIT).filter_map(|id| api.shown(*id));
    let connections: Vec<Shown> = connections.collect();
    Ok(okay(User {
        seen: api.seen(user),
        connected: !connections.is_empty(),
        connections,
        has_more: all.len() > LIMIT,
    }))
}

async fn connection(
    State(api): State<Arc<Api>>,
    connection: Result<Path<String>, PathRejection>,
) -> Answered<Shown> {
    let connection = part(connection)?;
    let id = ConnectionId::parse(&connection);
    let id = id.ok_or_else(|| invalid("expected the id of a connection"))?;
    let shown = api.shown(id).ok_or_else(|| {
        let why = format!("there is no connection `{connection}`");
        Failure::new(Code::NotFound, why)
    })?;
    Ok(okay(shown))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    room: RoomName,
    users: usize,
    members: Vec<Member>,
    has_more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    connection_id: String,
    user_id: UserId,
    role: String,
}

/// Returns a room that is no user's: of those one names the user.
fn room_of(name: &str) -> Result<RoomName, String> {
    let room = RoomName::new(name).map_err(|error| error.to_string())?;
    match room.prefix() == USER_PREFIX {
        true => Err("name the user instead of the room".to_owned()),
        false => Ok(room),
    }
}

async fn room(
    State(api): State<Arc<Api>>,
    room: Result<Path<String>, PathRejection>,
    page: Result<Query<RoomPage>, QueryRejection>,
) -> Answered<Members> {
    let room = room_of(&part(room)?).map_err(invalid)?;
    let page = query(page)?;
    let limit = limit(page.limit)?;
    let namespace = api.namespace(page.namespace.as_deref())?;
    let after = page.after.map(|after| {
        ConnectionId::parse(&after).ok_or_else(|| invalid("after: expected the id of a connection"))
    });
    let rooms = &api.pipeline.executor.rooms;
    let mut members = rooms.members_page(&namespace, &room, after.transpose()?, limit + 1);
    let has_more = members.len() > limit;
    members.truncate(limit);
    // One that has ended meanwhile is left out.
    let members = members.into_iter().filter_map(|(id, user)| {
        let identity = rooms.identity(&namespace, id)?;
        Some(Member {
            connection_id: id.to_string(),
            user_id: user,
            role: identity.role.clone(),
        })
    });
    Ok(okay(Members {
        users: rooms.count_users(&namespace, &room),
        members: members.collect(),
        has_more,
        room,
    }))
}

// ---- doing -------------------------------------------------------------------------------------

/// Whom it is about: the union of these.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Targets {
    users: Vec<String>,
    rooms: Vec<String>,
    connections: Vec<String>,
    everyone: bool,
}

/// An object, whose members are looked at by the name of what it is the value of.
type Object = serde_json::Map<String, Value>;

/// Reads whom it is about, each once.
fn targets(field: &str, object: Object, most: usize) -> Result<Vec<Who>, Failure> {
    let targets: Targets =
        serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
            let place = match error.path().to_string() {
                path if path == "." => field.to_owned(),
                path => format!("{field}.{path}"),
            };
            invalid(format!("{place}: {}", error.into_inner()))
        })?;
    let count = targets.users.len() + targets.rooms.len() + targets.connections.len();
    if count > most {
        return Err(invalid(format!(
            "{field}: expected at most {most}, got {count} (limits.targets_per_reply)"
        )));
    }
    let users = all((field, "users"), &targets.users, |text| {
        let user = UserId::new(text).map_err(|error| error.to_string())?;
        Ok(Who::Room(RoomName::of_user(&user)))
    });
    let rooms = all((field, "rooms"), &targets.rooms, |text| {
        Ok(Who::Room(room_of(text)?))
    });
    let connections = all((field, "connections"), &targets.connections, |text| {
        let id = ConnectionId::parse(text).map(Who::Connection);
        id.ok_or_else(|| "expected the id of a connection".to_owned())
    });
    let each: BTreeSet<Who> = [users?, rooms?, connections?]
        .into_iter()
        .flatten()
        .collect();
    Ok(match targets.everyone {
        true => vec![Who::Everyone],
        false => each.into_iter().collect(),
    })
}

/// Returns the targets of one kind, or says which of them is wrong.
fn all(
    (field, kind): (&str, &str),
    texts: &[String],
    read: impl Fn(&str) -> Result<Who, String>,
) -> Result<Vec<Who>, Failure> {
    let each = texts.iter().enumerate().map(|(index, text)| {
        read(text).map_err(|why| invalid(format!("{field}.{kind}[{index}]: {why}")))
    });
    each.collect()
}

fn some(field: &str, who: Vec<Who>) -> Result<Vec<Who>, Failure> {
    match who.is_empty() {
        true => Err(invalid(format!(
            "{field}: expected `users`, `rooms`, `connections` or `everyone`"
        ))),
        false => Ok(who),
    }
}

fn read<T: DeserializeOwned>(
    api: &Api,
    body: Result<Bytes, BytesRejection>,
    what: &str,
) -> Result<T, Refused> {
    let body = read_body(api, body)?;
    if api.pipeline.stopping.is_cancelled() {
        return Err(Failure::new(Code::Unavailable, "the host is stopping").into());
    }
    let wrong = |why: String| invalid(format!("the body is not {what}: {why}"));
    // A list would be read as the members in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(wrong("expected an object".to_owned()).into());
    }
    let mut text = serde_json::Deserializer::from_slice(&body);
    let request =
        serde_path_to_error::deserialize(&mut text).map_err(|error| wrong(error.to_string()))?;
    text.end().map_err(|error| wrong(error.to_string()))?;
    Ok(request)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Emit {
    namespace: Option<String>,
    to: Object,
    #[serde(default)]
    except: Object,
    name: String,
    args: Option<Box<RawValue>>,
    #[serde(default)]
    volatile: bool,
}

async fn emit(State(api): State<Arc<Api>>, body: Result<Bytes, BytesRejection>) -> Answered<Value> {
    let what = "an emission { namespace?, to, except?, name, args?, volatile? }";
    let emit: Emit = read(&api, body, what)?;
    let namespace = api.namespace(emit.namespace.as_deref())?;
    let name = EventName::new(&emit.name).map_err(|error| invalid(format!("name: {error}")))?;
    if EventName::is_reserved(name.as_str()) {
        return Err(invalid(format!("name: `{name}` is reserved")).into());
    }
    let args = emit.args.as_ref().map_or("[]", |args| args.get());
    payload::check_args(args, 0, payload::INCOMING_DEPTH)
        .map_err(|error| invalid(format!("args: {error}")))?;
    let frame = Frame {
        packet: payload::join_packet(name.as_str(), args),
        attachments: Vec::new(),
    };
    let most = api.pipeline.bounds.targets;
    let step = Step::Emit {
        to: some("to", targets("to", emit.to, most)?)?.into(),
        except: targets("except", emit.except, most)?.into(),
        frame,
        volatile: emit.volatile,
        ack: None,
    };
    api.pipeline.act(&namespace, vec![step]);
    Ok(okay(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disconnect {
    namespace: Option<String>,
    who: Object,
    /// Only those that have not been active for so long.
    #[serde(rename = "inactiveSeconds")]
    inactive_seconds: Option<u64>,
    reason: Option<String>,
    #[serde(default)]
    transport: bool,
}

async fn disconnect(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<Value> {
    let what = "a disconnection { namespace?, who, inactiveSeconds?, reason?, transport? }";
    let disconnect: Disconnect = read(&api, body, what)?;
    let namespace = api.namespace(disconnect.namespace.as_deref())?;
    let most = api.pipeline.bounds.targets;
    let who = some("who", targets("who", disconnect.who, most)?)?;
    let reason = disconnect.reason.unwrap_or_else(|| "a backend".to_owned());
    if reason.len() > 256 || reason.contains(char::is_control) {
        let why = "reason: expected at most 256 bytes without control characters";
        return Err(invalid(why).into());
    }
    let (place, whom) = (namespace.clone(), who.clone());
    let meant = apart(api.clone(), move |api| api.meant(&place, &whom));
    let mut meant = meant.await?;
    let mut has_more = false;
    let who = match disconnect.inactive_seconds {
        None => who,
        Some(seconds) => {
            let before = now_ms().saturating_sub(seconds.saturating_mul(1_000));
            meant.retain(|id| api.idle_since(*id).is_some_and(|since| since <= before));
            has_more = meant.len() > INACTIVE;
            meant = meant.into_iter().take(INACTIVE).collect();
            meant.iter().map(|id| Who::Connection(*id)).collect()
        }
    };
    let steps = who.into_iter().map(|who| Step::Disconnect {
        who,
        reason: reason.clone(),
        transport: disconnect.transport,
    });
    api.pipeline.act(&namespace, steps.collect());
    Ok(okay(
        json!({ "connections": meant.len(), "hasMore": has_more }),
    ))
}

impl Api {
    /// Returns the connections that are meant, on all hosts.
    fn meant(&self, namespace: &Namespace, who: &[Who]) -> BTreeSet<ConnectionId> {
        let executor = &self.pipeline.executor;
        let is_there = |id: &ConnectionId| executor.rooms.identity(namespace, *id).is_some();
        let of = |who: &Who| match who {
            Who::Connection(id) => vec![*id],
            Who::Room(room) => {
                let all = executor
                    .rooms
                    .members_page(namespace, room, None, usize::MAX);
                all.into_iter().map(|(id, _)| id).collect()
            }
            Who::Everyone => {
                let everybody = executor.presence.everybody().into_iter();
                let all = everybody.flat_map(|user| executor.presence.devices(&user));
                all.collect()
            }
        };
        who.iter().flat_map(of).filter(is_there).collect()
    }

    /// Returns since when a connection has not been active, as far as it counts as that.
    fn idle_since(&self, id: ConnectionId) -> Option<u64> {
        let executor = &self.pipeline.executor;
        let (identity, _) = executor.rooms.whose(id)?;
        executor.presence.idle_since(&identity.user, id)
    }
}
