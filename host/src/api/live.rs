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
        rejection::{BytesRejection, QueryRejection},
    },
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use std::{collections::BTreeSet, sync::Arc};

/// Users or connections of a page, at most and where nothing is said.
const LIMIT: usize = 1_000;
const DEFAULT_LIMIT: usize = 100;

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
    namespace: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Page {
    fn limit(&self) -> Result<usize, Failure> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        match (1..=LIMIT).contains(&limit) {
            true => Ok(limit),
            false => Err(invalid(format!("limit: expected 1 to {LIMIT}"))),
        }
    }
}

fn page(query: Result<Query<Page>, QueryRejection>) -> Result<Page, Failure> {
    let Query(page) = query.map_err(|rejection| invalid(rejection.body_text()))?;
    Ok(page)
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
        let rooms = &self.pipeline.executor.rooms;
        let (identity, _) = rooms.whose(id).filter(|(_, ended)| !ended)?;
        let places = rooms.places(id);
        let (namespace, _) = places.first()?;
        let namespace = namespace.clone();
        let rooms = places.into_iter().map(|(_, room)| room);
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

async fn totals(State(api): State<Arc<Api>>) -> Json<Okay<Value>> {
    let executor = &api.pipeline.executor;
    let everybody = executor.presence.everybody().into_iter();
    let devices = everybody.map(|user| api.connections_of(&user).len());
    let (users, connections) = devices
        .filter(|devices| *devices > 0)
        .fold((0, 0), |(users, all), devices| (users + 1, all + devices));
    let rooms = executor.rooms.len();
    okay(json!({ "users": users, "connections": connections, "rooms": rooms }))
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
    query: Result<Query<Page>, QueryRejection>,
) -> Answered<Users> {
    let page = page(query)?;
    let limit = page.limit()?;
    let after = page.after.unwrap_or_default();
    let everybody = api.pipeline.executor.presence.everybody().into_iter();
    let later: BTreeSet<UserId> = everybody
        .filter(|user| user.as_str() > after.as_str())
        .collect();
    let mut connected = later
        .into_iter()
        .map(|user| (api.connections_of(&user).len(), user))
        .filter(|(connections, _)| *connections > 0);
    let users = connected.by_ref().take(limit);
    let users = users.map(|(connections, user)| Listed {
        seen: api.seen(user),
        connections,
    });
    Ok(okay(Users {
        users: users.collect(),
        has_more: connected.next().is_some(),
    }))
}

#[derive(Serialize)]
struct User {
    #[serde(flatten)]
    seen: SeenUser,
    connected: bool,
    connections: Vec<Shown>,
}

async fn user(State(api): State<Arc<Api>>, Path(user): Path<String>) -> Answered<User> {
    let user = UserId::new(&user).map_err(|error| invalid(error.to_string()))?;
    let connections = api.connections_of(&user).into_iter();
    let connections: Vec<Shown> = connections.filter_map(|id| api.shown(id)).collect();
    Ok(okay(User {
        seen: api.seen(user),
        connected: !connections.is_empty(),
        connections,
    }))
}

async fn connection(
    State(api): State<Arc<Api>>,
    Path(connection): Path<String>,
) -> Answered<Shown> {
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
    role: Option<String>,
}

async fn room(
    State(api): State<Arc<Api>>,
    Path(room): Path<String>,
    query: Result<Query<Page>, QueryRejection>,
) -> Answered<Members> {
    let room = RoomName::new(&room).map_err(|error| invalid(error.to_string()))?;
    let page = page(query)?;
    let limit = page.limit()?;
    let namespace = api.namespace(page.namespace.as_deref())?;
    let after = page.after.map(|after| {
        ConnectionId::parse(&after).ok_or_else(|| invalid("after: expected the id of a connection"))
    });
    let rooms = &api.pipeline.executor.rooms;
    let mut members = rooms.members_page(&namespace, &room, after.transpose()?, limit + 1);
    let has_more = members.len() > limit;
    members.truncate(limit);
    let members = members.into_iter().map(|(id, user)| Member {
        connection_id: id.to_string(),
        user_id: user,
        role: rooms
            .identity(&namespace, id)
            .map(|identity| identity.role.clone()),
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

impl Targets {
    fn check(&self, field: &str) -> Result<Vec<Who>, Failure> {
        if self.everyone {
            return Ok(vec![Who::Everyone]);
        }
        let users = all((field, "users"), &self.users, |text| {
            UserId::new(text).map(|user| Who::Room(RoomName::of_user(&user)))
        });
        let rooms = all((field, "rooms"), &self.rooms, |text| {
            RoomName::new(text).map(Who::Room)
        });
        let connections = all((field, "connections"), &self.connections, |text| {
            let id = ConnectionId::parse(text).map(Who::Connection);
            id.ok_or("expected the id of a connection")
        });
        Ok([users?, rooms?, connections?].concat())
    }

    fn check_some(&self, field: &str) -> Result<Vec<Who>, Failure> {
        let who = self.check(field)?;
        match who.is_empty() {
            true => Err(invalid(format!(
                "{field}: expected `users`, `rooms`, `connections` or `everyone`"
            ))),
            false => Ok(who),
        }
    }
}

/// Returns the targets of one kind, or says which of them is wrong.
fn all<E: ToString>(
    (field, kind): (&str, &str),
    texts: &[String],
    read: impl Fn(&str) -> Result<Who, E>,
) -> Result<Vec<Who>, Failure> {
    let each = texts.iter().enumerate().map(|(index, text)| {
        read(text)
            .map_err(|error| invalid(format!("{field}.{kind}[{index}]: {}", error.to_string())))
    });
    each.collect()
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
    let request = serde_json::from_slice(&body);
    Ok(request.map_err(|error| invalid(format!("the body is not {what}: {error}")))?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Emit {
    namespace: Option<String>,
    to: Targets,
    #[serde(default)]
    except: Targets,
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
    if name.is_reserved() {
        return Err(invalid(format!("name: `{name}` is reserved")).into());
    }
    let args = emit.args.as_ref().map_or("[]", |args| args.get());
    payload::check_args(args, 0, payload::INCOMING_DEPTH)
        .map_err(|error| invalid(format!("args: {error}")))?;
    let frame = Frame {
        packet: payload::join_packet(name.as_str(), args),
        attachments: Vec::new(),
    };
    let step = Step::Emit {
        to: emit.to.check_some("to")?,
        except: emit.except.check("except")?,
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
    who: Targets,
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
    let who = disconnect.who.check_some("who")?;
    let reason = disconnect.reason.unwrap_or_else(|| "a backend".to_owned());
    if reason.len() > 256 || reason.contains(char::is_control) {
        let why = "reason: expected at most 256 bytes without control characters";
        return Err(invalid(why).into());
    }
    let mut meant = api.meant(&namespace, &who);
    let who = match disconnect.inactive_seconds {
        None => who,
        Some(seconds) => {
            let before = now_ms().saturating_sub(seconds.saturating_mul(1_000));
            meant.retain(|id| api.idle_since(*id).is_some_and(|since| since <= before));
            meant.iter().map(|id| Who::Connection(*id)).collect()
        }
    };
    let steps = who.into_iter().map(|who| Step::Disconnect {
        who,
        reason: reason.clone(),
        transport: disconnect.transport,
    });
    api.pipeline.act(&namespace, steps.collect());
    Ok(okay(json!({ "connections": meant.len() })))
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
