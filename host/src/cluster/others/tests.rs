use super::{super::own::Own, *};
use crate::{core::presence::Status, ports::Alone, presence::PresenceConfig};
use proptest::{collection::vec, prelude::*};

const IDS: usize = 8;

fn name(number: usize) -> String {
    format!("01890000-0000-7000-8000-00000000000{number}")
}

fn everyone() -> Everyone {
    let presence = Presence::new(PresenceConfig::default(), Arc::new(Alone));
    Everyone {
        rooms: Arc::new(Rooms::new(2, Arc::new(Alone))),
        presence: Arc::new(presence),
    }
}

fn others() -> Others {
    Others::new(everyone(), Arc::default())
}

fn member(connection: String, user: String) -> Member {
    Member {
        connection,
        namespace: "/".to_owned(),
        user,
        role: "student".to_owned(),
        claims: "{}".to_owned(),
        rooms: BTreeSet::new(),
        typing: BTreeSet::new(),
        ended: false,
        idle_ms: None,
        known: None,
    }
}

fn change() -> impl Strategy<Value = Change> {
    let room = (0..3_u8).prop_map(|room| format!("room:{room}"));
    (0..IDS, 0..9_u8, room).prop_map(|(number, kind, room)| {
        let connection = name(number);
        match kind {
            0 => Change::Opened(member(connection, format!("user-{}", number / 2))),
            1 => Change::Joined { connection, room },
            2 => Change::Left {
                connection,
                room,
                last: false,
            },
            3 | 4 => Change::Typing {
                connection,
                room,
                typing: kind == 3,
            },
            5 | 6 => Change::Idle {
                connection,
                since_ms: (kind == 5).then_some(7),
            },
            7 => Change::Ended {
                connection,
                left: Vec::new(),
            },
            _ => Change::Closed {
                connection,
                last: Vec::new(),
            },
        }
    })
}

/// What is told of a connection that joins rooms.
fn opened(number: usize, user: &str, rooms: &[&str]) -> Vec<Change> {
    let mut changes = vec![Change::Opened(member(name(number), user.to_owned()))];
    changes.extend(rooms.iter().map(|room| Change::Joined {
        connection: name(number),
        room: (*room).to_owned(),
    }));
    changes
}

fn said(said: Said) -> Letter {
    Letter {
        node: "far".to_owned(),
        said,
    }
}

type Seen = (Vec<RoomName>, bool, Vec<(bool, bool)>, Status);

/// What is known of the far node's connections.
fn seen(everyone: &Everyone) -> Vec<Option<Seen>> {
    let Everyone { rooms, presence } = everyone;
    let root = Namespace::root();
    let all = (0..IDS).map(|number| {
        let id = ConnectionId::parse(&name(number)).unwrap();
        let (known, ended) = rooms.whose(id)?;
        let user = &known.user;
        let in_rooms = (0..3).map(|room| {
            let room = RoomName::new(&format!("room:{room}")).unwrap();
            let types = rooms.typing(&root, &room).contains(user);
            (types, rooms.has_user(&root, &room, user))
        });
        let status = presence.seen(user, 0).status;
        Some((rooms.of_connection(id), ended, in_rooms.collect(), status))
    });
    all.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost on the way, as soon as messages come through both know the same.
    #[test]
    fn all_is_known_again_after_any_loss(
        steps in vec((vec(change(), 0..4), any::<bool>()), 1..40),
    ) {
        let (mut own, mut others, mut mirror) = (Own::default(), others(), others());
        // The mirror misses nothing, so it knows what the far node knows itself.
        let truth = mirror.everyone.clone();
        let mut closed = BTreeSet::new();
        let mut now = Instant::now();
        // All begin in all rooms, so that users have several devices in one.
        let rooms = ["room:0", "room:1", "room:2"];
        let all = (0..IDS).flat_map(|number| opened(number, &format!("user-{}", number / 2), &rooms));
        let opened = said(own.change(all.collect()));
        for knows in [&mut mirror, &mut others] {
            knows.take(said(Own::default().whole(&truth).remove(0)), now);
            knows.take(opened.clone(), now);
        }
        for (changes, is_lost) in steps {
            now += Duration::from_millis(100);
            let mut changes = changes;
            // No id comes twice.
            changes.retain(|change| match change {
                Change::Closed { connection, .. } => closed.insert(connection.clone()),
                Change::Opened(member) => !closed.contains(&member.connection),
                _ => true,
            });
            let letter = said(own.change(changes));
            mirror.take(letter.clone(), now);
            if !is_lost && let Some(Said::Ask { .. }) = others.take(letter, now) {
                for part in own.whole(&truth) {
                    others.take(said(part), now);
                }
                prop_assert_eq!(seen(&others.everyone), seen(&mirror.everyone));
            }
        }
        now += ASK_AGAIN;
        if let Some(Said::Ask { .. }) = others.take(said(own.alive()), now) {
            for part in own.whole(&truth) {
                others.take(said(part), now);
            }
        }
        prop_assert_eq!(seen(&others.everyone), seen(&mirror.everyone));
        prop_assert_eq!(others.take(said(own.alive()), now + ASK_AGAIN), None);
    }
}

/// Returns what a host tells of two devices of ann in a room, two hosts that know them, and that room.
fn ann_twice() -> (Own, Others, Others, RoomName) {
    let (mut own, mut missed, mut heard) = (Own::default(), others(), others());
    let room = RoomName::new("room:a").unwrap();
    let now = Instant::now();
    let both = [0, 1].map(|number| opened(number, "ann", &[room.as_str()]));
    let opened = said(own.change(both.concat()));
    for knows in [&mut missed, &mut heard] {
        knows.take(said(Own::default().whole(&everyone()).remove(0)), now);
        assert_eq!(knows.take(opened.clone(), now), None);
    }
    (own, missed, heard, room)
}

fn left(number: usize, room: &RoomName) -> Change {
    Change::Left {
        connection: name(number),
        room: room.as_str().to_owned(),
        last: false,
    }
}

fn ended(number: usize) -> Change {
    Change::Ended {
        connection: name(number),
        left: Vec::new(),
    }
}

fn ann_is_there(others: &Others, room: &RoomName) -> bool {
    let (rooms, ann) = (&others.everyone.rooms, UserId::new("ann").unwrap());
    rooms.has_user(&Namespace::root(), room, &ann)
}

#[test]
fn who_lingers_by_one_device_still_does_when_it_was_missed_that_another_left_before() {
    let (mut own, mut missed, mut heard, room) = ann_twice();
    let now = Instant::now();
    heard.take(said(own.change(vec![left(1, &room), ended(0)])), now);
    assert!(ann_is_there(&heard, &room));
    for part in own.whole(&heard.everyone) {
        missed.take(said(part), now);
    }
    assert!(ann_is_there(&missed, &room));
}

#[test]
fn who_left_on_purpose_does_not_linger_for_who_missed_it_or_has_just_come() {
    let (mut own, mut missed, mut heard, room) = ann_twice();
    let (mut comes, now) = (others(), Instant::now());
    for change in [ended(0), left(1, &room)] {
        heard.take(said(own.change(vec![change])), now);
    }
    for part in own.whole(&heard.everyone) {
        missed.take(said(part.clone()), now);
        comes.take(said(part), now);
    }
    for others in [&heard, &missed, &comes] {
        assert!(!ann_is_there(others, &room));
        assert_eq!(
            others.count(),
            (1, 2),
            "both are known until they are closed"
        );
    }
}

#[test]
fn who_has_told_of_nothing_yet_is_known_at_once() {
    let now = Instant::now();
    let mut own = Own::default();
    let mut hears_it_live = others();
    assert_eq!(hears_it_live.take(said(own.alive()), now), None);
    let changed = said(own.change(vec![Change::Opened(member(name(1), "ann".to_owned()))]));
    let mut hears_a_change = others();
    for others in [&mut hears_it_live, &mut hears_a_change] {
        assert_eq!(others.take(changed.clone(), now), None, "nothing to ask");
        assert_eq!(others.count(), (1, 1));
    }
    let mut comes_later = others();
    let asks = comes_later.take(said(own.alive()), now);
    assert!(matches!(asks, Some(Said::Ask { .. })), "{asks:?}");
}

#[test]
fn who_is_silent_is_buried_once_and_told_so() {
    let (mut own, mut others) = (Own::default(), others());
    let start = Instant::now();
    let opened = Change::Opened(Member {
        rooms: ["room:a".to_owned()].into(),
        ..member(name(1), "ann".to_owned())
    });
    own.change(vec![opened]);
    others.take(said(own.whole(&everyone()).remove(0)), start);
    assert_eq!(others.count(), (1, 1));
    assert!(others.silent(start + LEASE / 2).is_empty());
    others.excuse(start + LEASE / 2);
    assert!(others.silent(start + LEASE).is_empty());
    let late = start + LEASE * 2;
    assert_eq!(others.silent(late), ["far"]);
    assert_eq!(others.known("far"), 1);
    let lost = others.bury("far", 1, late);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].exits[0].room.as_str(), "room:a");
    assert!(lost[0].exits[0].last);
    assert!(others.bury("far", 1, late).is_empty());
    let told = others.take(said(own.alive()), late);
    assert_eq!(
        told,
        Some(Said::Buried {
            node: "far".to_owned(),
            changes: 1,
        })
    );
    assert_eq!(others.count(), (0, 0));
}

#[test]
fn who_was_on_a_host_that_ended_in_order_lingers() {
    let (mut own, mut others) = (Own::default(), others());
    let start = Instant::now();
    others.take(said(own.whole(&everyone()).remove(0)), start);
    let room = "room:a".to_owned();
    let changes = vec![
        Change::Opened(member(name(1), "ann".to_owned())),
        Change::Joined {
            connection: name(1),
            room: room.clone(),
        },
        Change::Ended {
            connection: name(1),
            left: Vec::new(),
        },
    ];
    others.take(said(own.change(changes)), start);
    others.take(said(Said::Bye), start);
    let (ann, room) = (UserId::new("ann").unwrap(), RoomName::new(&room).unwrap());
    let seen = |others: &Others| {
        let Everyone { rooms, presence } = &others.everyone;
        let is_there = rooms.has_user(&Namespace::root(), &room, &ann);
        (is_there, presence.seen(&ann, 0).status)
    };
    assert!(
        others
            .take_orphans(start + Duration::from_secs(4))
            .is_empty()
    );
    assert_eq!(seen(&others), (true, Status::Online));
    let gone = others.take_orphans(start + Duration::from_secs(5));
    assert_eq!(gone.len(), 1);
    assert!(gone[0].ended && gone[0].exits[0].last);
    assert_eq!(seen(&others), (false, Status::Offline));
}

#[test]
fn a_host_that_comes_knows_who_seems_offline() {
    let (mut own, mut others) = (Own::default(), others());
    let everyone = everyone();
    let presence = &everyone.presence;
    let (ann, id) = (UserId::new("ann").unwrap(), name(1));
    let connection = ConnectionId::parse(&id).unwrap();
    presence.open(&ann, connection, None, Known::default());
    presence.choose(&ann, Status::Offline, 5_000);
    own.change(vec![Change::Opened(member(id, "ann".to_owned()))]);
    for part in own.whole(&everyone) {
        others.take(said(part), Instant::now());
    }
    let known = &others.everyone.presence;
    assert_eq!(known.seen(&ann, 9_000), presence.seen(&ann, 9_000));
    assert_eq!(known.seen(&ann, 9_000).at_ms, Some(5_000));
}

#[test]
fn who_leaves_on_two_hosts_at_once_has_left_though_neither_has_told() {
    let (mut own, mut others) = (Own::default(), others());
    let start = Instant::now();
    let (ann, root) = (UserId::new("ann").unwrap(), Namespace::root());
    let room = RoomName::new("room:a").unwrap();
    for (connection, ends) in [(1, "left"), (2, "closed")] {
        let opened = Change::Opened(member(name(connection), "ann".to_owned()));
        let joined = Change::Joined {
            connection: name(connection),
            room: room.as_str().to_owned(),
        };
        own.change(vec![opened, joined]);
        for part in own.whole(&everyone()) {
            others.take(said(part), start);
        }
        assert!(others.take_untold().is_empty());
        let (connection, left) = (name(connection), Vec::new());
        let ended = Change::Ended {
            connection: connection.clone(),
            left,
        };
        let changes = match ends {
            "left" => vec![Change::Left {
                connection,
                room: room.as_str().to_owned(),
                last: false,
            }],
            _ => vec![
                ended,
                Change::Closed {
                    connection,
                    last: Vec::new(),
                },
            ],
        };
        others.take(said(own.change(changes)), start);
        let untold = others.take_untold();
        assert_eq!(untold.len(), 1, "{ends}");
        assert!(untold[0].ended && untold[0].exits[0].last);
        assert!(!others.everyone.rooms.has_user(&root, &room, &ann));
    }
}

#[test]
fn what_its_own_host_has_told_is_not_told_again() {
    let (mut own, mut others) = (Own::default(), others());
    let room = "room:a".to_owned();
    let opened = Change::Opened(member(name(1), "ann".to_owned()));
    let joined = Change::Joined {
        connection: name(1),
        room: room.clone(),
    };
    own.change(vec![opened, joined]);
    for part in own.whole(&everyone()) {
        others.take(said(part), Instant::now());
    }
    let ended = Change::Ended {
        connection: name(1),
        left: Vec::new(),
    };
    let closed = Change::Closed {
        connection: name(1),
        last: vec![room],
    };
    others.take(said(own.change(vec![ended, closed])), Instant::now());
    assert!(others.take_untold().is_empty());
}
