use super::*;
use crate::ports::{Alone, CloseReason, Frame, Lost, Nowhere, SendError};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::time::Duration;

fn identity(user: &str) -> Arc<Identity> {
    let user = UserId::new(user).unwrap();
    Arc::new(Identity::new(
        user,
        String::new(),
        serde_json::Map::new(),
        None,
    ))
}

fn setting() -> (Rooms, Namespace, RoomName, Arc<Identity>) {
    (
        Rooms::new(2, Arc::new(Alone)),
        Namespace::new("/").unwrap(),
        RoomName::new("course:1").unwrap(),
        identity("ann"),
    )
}

#[test]
fn first_and_last_are_by_user() {
    let (rooms, namespace, room, ann) = setting();
    let (one, two) = (ConnectionId::fresh(), ConnectionId::fresh());
    rooms.add(&namespace, one, &ann, &Nowhere::outbound());
    rooms.add(&namespace, two, &ann, &Nowhere::outbound());
    assert_eq!(
        rooms.join(&namespace, one, &room),
        Change::Joined { first: true }
    );
    assert_eq!(rooms.join(&namespace, one, &room), Change::None);
    assert_eq!(
        rooms.join(&namespace, two, &room),
        Change::Joined { first: false }
    );
    assert_eq!(rooms.count_users(&namespace, &room), 1);
    assert_eq!(
        rooms.leave(&namespace, one, &room),
        Change::Left {
            last: false,
            stopped: false
        }
    );
    let exit = Exit {
        room: room.clone(),
        last: true,
        lingers: false,
        stopped: false,
    };
    assert_eq!(rooms.remove(&namespace, two), [exit]);
    assert!(rooms.is_empty());
    assert!(!rooms.has_user(&namespace, &room, &ann.user));
}

#[test]
fn namespaces_do_not_mix() {
    let (rooms, namespace, room, ann) = setting();
    let other = Namespace::new("/other").unwrap();
    let one = ConnectionId::fresh();
    rooms.add(&namespace, one, &ann, &Nowhere::outbound());
    rooms.join(&namespace, one, &room);
    assert!(rooms.members_here(&other, &room).is_empty());
    assert_eq!(rooms.members_here(&namespace, &room), [one]);
}

#[test]
fn a_connection_has_room_for_so_many() {
    let (rooms, namespace, _, ann) = setting();
    let one = ConnectionId::fresh();
    rooms.add(&namespace, one, &ann, &Nowhere::outbound());
    for name in ["a:1", "a:2"] {
        let room = RoomName::new(name).unwrap();
        assert_eq!(
            rooms.join(&namespace, one, &room),
            Change::Joined { first: true }
        );
    }
    assert_eq!(rooms.capacity_left(one), 0);
    let room = RoomName::new("a:3").unwrap();
    assert_eq!(rooms.join(&namespace, one, &room), Change::TooMany);
}

#[test]
fn pages_neither_skip_nor_repeat() {
    let (rooms, namespace, room, _) = setting();
    for number in 0..10 {
        let id = ConnectionId::fresh();
        rooms.add(
            &namespace,
            id,
            &identity(&format!("u{number}")),
            &Nowhere::outbound(),
        );
        rooms.join(&namespace, id, &room);
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = rooms.members_page(&namespace, &room, after, 3);
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        seen.extend(page.into_iter().map(|(id, _)| id));
    }
    assert_eq!(seen, rooms.members_here(&namespace, &room));
    let users = rooms.users_page(&namespace, &room, Some("u7"), 5);
    assert_eq!(
        users.iter().map(UserId::as_str).collect::<Vec<_>>(),
        ["u8", "u9"]
    );
}

#[test]
fn a_join_that_races_with_the_end_leaves_nothing() {
    let (rooms, namespace, room, ann) = setting();
    let rooms = Arc::new(rooms);
    for _ in 0..2_000 {
        let id = ConnectionId::fresh();
        rooms.add(&namespace, id, &ann, &Nowhere::outbound());
        let joiner = {
            let (rooms, namespace, room) = (rooms.clone(), namespace.clone(), room.clone());
            std::thread::spawn(move || rooms.join(&namespace, id, &room))
        };
        rooms.end(&namespace, id);
        rooms.remove(&namespace, id);
        joiner.join().unwrap();
        assert!(rooms.members_here(&namespace, &room).is_empty());
    }
    assert!(rooms.rooms.is_empty() && rooms.connections.is_empty());
}

#[derive(Default)]
struct Noted(Mutex<Vec<Moved>>);

impl Journal for Noted {
    fn note(&self, moved: Moved) {
        self.0.lock().push(moved);
    }
    fn speaks_for(&self, _: &UserId) -> bool {
        true
    }
    fn is_alone(&self) -> bool {
        true
    }
}

#[test]
fn what_becomes_of_this_nodes_connections_is_noted_and_of_others_is_not() {
    let noted = Arc::new(Noted::default());
    let (namespace, ann) = (Namespace::root(), identity("ann"));
    let (room, own) = (RoomName::new("a:1").unwrap(), RoomName::of_user(&ann.user));
    let rooms = Rooms::new(2, noted.clone());
    let (connection, far) = (ConnectionId::fresh(), ConnectionId::fresh());
    rooms.add(&namespace, connection, &ann, &Nowhere::outbound());
    rooms.join(&namespace, connection, &room);
    rooms.join(&namespace, connection, &room);
    rooms.leave(&namespace, connection, &room);
    rooms.add_far(&namespace, far, &ann);
    rooms.join(&namespace, far, &room);
    rooms.join(&namespace, connection, &room);
    rooms.end(&namespace, connection);
    rooms.tell_end(connection, Vec::new());
    rooms.remove(&namespace, far);
    rooms.remove(&namespace, connection);
    rooms.close(connection, Vec::new());
    let opened = Moved::Opened {
        connection,
        namespace,
        identity: ann,
    };
    let expected = [
        opened,
        Moved::Joined {
            connection,
            room: own,
        },
        Moved::Joined {
            connection,
            room: room.clone(),
        },
        Moved::Left {
            connection,
            room: room.clone(),
            last: true,
        },
        Moved::Joined {
            connection,
            room: room.clone(),
        },
        // Another one of the user is there still; in the other room the user lingers.
        Moved::Left {
            connection,
            room,
            last: false,
        },
        Moved::Ended {
            connection,
            left: Vec::new(),
        },
        Moved::Closed {
            connection,
            last: Vec::new(),
        },
    ];
    assert_eq!(*noted.0.lock(), expected);
}

#[test]
fn others_count_but_hear_from_their_own_node() {
    let (rooms, namespace, room, ann) = setting();
    let (here, far) = (ConnectionId::fresh(), ConnectionId::fresh());
    rooms.add_far(&namespace, far, &ann);
    for name in ["user:ann", "a:1", "a:2", "a:3", room.as_str()] {
        rooms.join(&namespace, far, &RoomName::new(name).unwrap());
    }
    rooms.add(&namespace, here, &ann, &Nowhere::outbound());
    assert_eq!(
        rooms.join(&namespace, here, &room),
        Change::Joined { first: false }
    );
    assert_eq!(rooms.members_here(&namespace, &room), [here]);
    assert_eq!(rooms.members_page(&namespace, &room, None, 9).len(), 2);
    let mut both = [here, far];
    both.sort_unstable();
    assert_eq!(rooms.of_user(&namespace, &ann.user), both);
    rooms.leave(&namespace, here, &room);
    assert!(!rooms.is_in_use_here(&namespace, &room));
    let left = rooms.remove(&namespace, far);
    let exit = left.into_iter().find(|exit| exit.room == room);
    assert!(exit.is_some_and(|exit| exit.last));
}

#[test]
fn a_user_types_as_long_as_one_of_the_connections_does() {
    let (rooms, namespace, room, ann) = setting();
    let ids = [(); 3].map(|()| ConnectionId::fresh());
    let set = |id, typing| rooms.set_typing(&namespace, id, &room, typing);
    for id in ids {
        rooms.add(&namespace, id, &ann, &Nowhere::outbound());
        assert!(!set(id, true), "in the room only");
        rooms.join(&namespace, id, &room);
    }
    assert!(set(ids[0], true) && !set(ids[0], true) && !set(ids[1], true));
    assert_eq!(rooms.typing(&namespace, &room).len(), 1);
    assert!(!set(ids[0], false) && !set(ids[2], true));
    let left = rooms.leave(&namespace, ids[1], &room);
    assert!(matches!(left, Change::Left { stopped: false, .. }));
    let exits = rooms.remove(&namespace, ids[2]);
    assert!(exits.iter().any(|exit| exit.room == room && exit.stopped));
    assert!(rooms.typing(&namespace, &room).is_empty());
    assert!(!set(ids[0], false), "it had stopped already");
    assert!(set(ids[0], true) && set(ids[0], false));
}

#[test]
fn who_comes_back_in_time_has_never_left() {
    let (rooms, namespace, room, ann) = setting();
    let [one, two, three] = [(); 3].map(|()| ConnectionId::fresh());
    let exit = |last, lingers| Exit {
        room: room.clone(),
        last,
        lingers,
        stopped: false,
    };
    let enter = |id| {
        rooms.add(&namespace, id, &ann, &Nowhere::outbound());
        rooms.join(&namespace, id, &room)
    };
    assert_eq!(enter(one), Change::Joined { first: true });
    assert_eq!(rooms.end(&namespace, one), [exit(false, true)]);
    assert!(
        rooms.end(&namespace, one).is_empty(),
        "it has ended already"
    );
    assert_eq!(rooms.join(&namespace, one, &room), Change::Gone);
    assert_eq!(rooms.leave(&namespace, one, &room), Change::Gone);
    assert!(rooms.members_here(&namespace, &room).is_empty());
    assert!(rooms.has_user(&namespace, &room, &ann.user));
    assert_eq!(enter(two), Change::Joined { first: false });
    assert_eq!(rooms.remove(&namespace, one), [exit(false, false)]);
    // While another one is there, nobody lingers.
    assert_eq!(enter(three), Change::Joined { first: false });
    assert_eq!(rooms.end(&namespace, three), [exit(false, false)]);
    assert!(rooms.remove(&namespace, three).is_empty());
    assert_eq!(rooms.end(&namespace, two), [exit(false, true)]);
    assert_eq!(rooms.remove(&namespace, two), [exit(true, false)]);
    assert!(rooms.is_empty() && rooms.connections.is_empty());
}

#[test]
fn who_leaves_on_purpose_does_not_linger() {
    let (rooms, namespace, room, ann) = setting();
    let [one, two] = [(); 2].map(|()| ConnectionId::fresh());
    for id in [one, two] {
        rooms.add(&namespace, id, &ann, &Nowhere::outbound());
        rooms.join(&namespace, id, &room);
        if id == one {
            rooms.end(&namespace, one);
        }
    }
    let left = rooms.leave(&namespace, two, &room);
    assert!(matches!(left, Change::Left { last: true, .. }));
    assert!(!rooms.has_user(&namespace, &room, &ann.user));
    assert!(!rooms.has_connection(one, &room) && rooms.whose(one).is_some());
    assert!(rooms.remove(&namespace, one).is_empty(), "left already");
}

#[test]
fn another_host_tells_that_a_connection_does_not_linger() {
    let (rooms, namespace, room, ann) = setting();
    let [one, two] = [(); 2].map(|()| ConnectionId::fresh());
    for id in [one, two] {
        rooms.add_far(&namespace, id, &ann);
        rooms.join(&namespace, id, &room);
        rooms.stop_lingering(&namespace, id, &room);
        assert!(rooms.has_connection(id, &room), "it has not ended");
        rooms.end(&namespace, id);
    }
    rooms.stop_lingering(&namespace, one, &room);
    assert!(!rooms.has_connection(one, &room));
    assert!(rooms.has_user(&namespace, &room, &ann.user), "by the other");
    rooms.stop_lingering(&namespace, two, &room);
    assert!(!rooms.has_user(&namespace, &room, &ann.user) && rooms.is_empty());
    for id in [one, two] {
        assert!(rooms.remove(&namespace, id).is_empty());
    }
}

/// A room that was spoken to, and who was left out.
type Heard = (RoomName, Vec<String>);

/// Keeps the rooms that it is in, and what is sent to them.
struct Member {
    name: String,
    rooms: Mutex<BTreeSet<RoomName>>,
    state: Option<SendError>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Outbound for Member {
    fn emit(&self, _: &Frame, _: bool) -> Result<(), SendError> {
        panic!("a room's frame is sent once")
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn enter(&self, room: &RoomName) {
        assert!(self.rooms.lock().insert(room.clone()));
    }
    fn exit(&self, room: &RoomName) {
        assert!(self.rooms.lock().remove(room));
    }
    fn take(&self, _: &Frame, _: bool) -> Result<(), SendError> {
        self.state.map_or(Ok(()), Err)
    }
    fn emit_to_room(
        &self,
        room: &RoomName,
        except: &[&str],
        _: &Frame,
        _: bool,
    ) -> Result<(), Lost> {
        let except = except.iter().map(|name| (*name).to_owned()).collect();
        self.heard.lock().push((room.clone(), except));
        Ok(())
    }
    fn emit_with_ack(
        &self,
        _: &Frame,
        _: Duration,
    ) -> BoxFuture<'static, Result<(String, Vec<Bytes>), &'static str>> {
        Box::pin(std::future::ready(Err("timeout")))
    }
    fn disconnect(&self) {}
    fn close_transport(&self, _: CloseReason) {}
}

#[test]
fn a_rooms_frame_is_sent_once_for_all_but_who_is_left_out_does_not_read_or_has_gone() {
    let (rooms, namespace, room, ann) = setting();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut members = Vec::new();
    for (name, state) in [
        ("a", None),
        ("b", None),
        ("c", Some(SendError::Full)),
        ("d", Some(SendError::Closed)),
    ] {
        let member = Arc::new(Member {
            name: name.to_owned(),
            rooms: Mutex::default(),
            state,
            heard: heard.clone(),
        });
        let (id, outbound) = (ConnectionId::fresh(), member.clone() as Arc<dyn Outbound>);
        rooms.add(&namespace, id, &ann, &outbound);
        rooms.join(&namespace, id, &room);
        members.push((id, member));
    }
    let frame = Frame {
        packet: r#"["a"]"#.to_owned(),
        attachments: Vec::new(),
    };
    let (first, full) = (members[0].0, members[2].0);
    let emit = |volatile| rooms.emit(&namespace, &room, |id| id == first, &frame, volatile);
    let sent = Sent {
        frames: 1,
        lost: Lost { closed: 1, full: 0 },
        full: vec![full],
    };
    assert_eq!(emit(false), sent);
    let lost = Sent {
        full: Vec::new(),
        ..sent
    };
    assert_eq!(emit(true), lost);
    let mut heard_of = std::mem::take(&mut *heard.lock());
    for (_, except) in &mut heard_of {
        except.sort_unstable();
    }
    let once = (room.clone(), vec!["a".to_owned(), "c".to_owned()]);
    assert_eq!(heard_of, [once.clone(), once]);
    // The rooms of the sockets follow those of the connections.
    let own = RoomName::of_user(&ann.user);
    let places = |number: usize| members[number].1.rooms.lock().clone();
    assert_eq!(places(1), [room.clone(), own.clone()].into());
    rooms.leave(&namespace, members[1].0, &room);
    assert_eq!(places(1), [own].into());
    for (id, _) in &members {
        rooms.end(&namespace, *id);
        rooms.remove(&namespace, *id);
    }
    assert!((0..4).all(|number| places(number).is_empty()));
    assert_eq!(emit(false), Sent::default());
    assert!(heard.lock().is_empty());
}
