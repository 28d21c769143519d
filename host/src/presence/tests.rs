use super::*;
use crate::ports::{Alone, Dated};
use proptest::{collection::vec, prelude::*};

const SECOND: Duration = Duration::from_secs(1);

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn place(room: &str) -> (Namespace, RoomName) {
    (Namespace::root(), RoomName::new(room).unwrap())
}

/// A presence whose time the test hands in, and what plugins were told.
struct Setting {
    presence: Presence,
    start: Instant,
    seconds: u64,
    told: Vec<(UserId, Status)>,
}

impl Setting {
    fn new() -> Self {
        Self {
            presence: Presence::new(PresenceConfig::default(), Arc::new(Alone)),
            start: Instant::now(),
            seconds: 0,
            told: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.start + SECOND * self.seconds as u32
    }

    fn now_ms(&self) -> u64 {
        1_700_000_000_000 + self.seconds * 1_000
    }

    fn end(&self, id: ConnectionId) {
        self.presence.end_here(&Namespace::root(), id, self.now());
    }

    /// Does what is to be done at this time.
    fn settle(&mut self, owner: impl Fn(ConnectionId) -> UserId) {
        for lingering in self.presence.take_over(self.now()) {
            let (id, now_ms) = (lingering.connection, self.now_ms());
            let left = [place("room:a")];
            self.presence.close_here(&owner(id), id, left, now_ms);
        }
        self.presence.find_idle(self.now(), self.now_ms());
        for user in self.presence.take_changes() {
            while let Some(change) = self.presence.begin_telling(&user, self.now_ms()) {
                let status = change.seen.status;
                self.told.push((user.clone(), status));
                self.presence.told(&user, status, self.now_ms());
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Open(usize),
    Touch(usize),
    End(usize),
    Choose(usize, Status),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6_usize).prop_map(Step::Open),
        (0..6_usize).prop_map(Step::Touch),
        (0..6_usize).prop_map(Step::End),
        (0..2_usize, 0..4_usize).prop_map(|(user, status)| Step::Choose(user, Status::ALL[status])),
        prop_oneof![Just(1), Just(4), Just(5), Just(60), Just(299), Just(300)].prop_map(Step::Wait),
    ]
}

/// The rule as it is written, without any of the machinery.
#[derive(Default)]
struct Model {
    /// When it was active last, and when it ended.
    connections: BTreeMap<usize, (u64, Option<u64>)>,
    choices: BTreeMap<usize, Status>,
}

impl Model {
    fn status(&self, user: usize) -> Status {
        let mut own = self.connections.iter().filter(|(id, _)| *id % 2 == user);
        if own.clone().count() == 0 {
            return Status::Offline;
        }
        if let Some(chosen) = self.choices.get(&user) {
            return *chosen;
        }
        match own.any(|(_, (active, _))| *active != u64::MAX) {
            true => Status::Online,
            false => Status::Away,
        }
    }

    fn pass(&mut self, now: u64) {
        self.connections
            .retain(|_, (_, ended)| ended.is_none_or(|ended| now < ended + 5));
        for (active, ended) in self.connections.values_mut() {
            if ended.is_none() && *active != u64::MAX && now >= *active + 300 {
                *active = u64::MAX;
            }
        }
        for user in 0..2 {
            if self.connections.keys().all(|id| id % 2 != user) {
                self.choices.remove(&user);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, a user is seen as the rule has it, and plugins are told of
    /// each change once.
    #[test]
    fn users_are_seen_as_the_rule_has_it(steps in vec(step(), 1..60)) {
        let users = [user("ann"), user("ben")];
        let mut setting = Setting::new();
        let mut model = Model::default();
        let mut ids: BTreeMap<usize, ConnectionId> = BTreeMap::new();
        let mut owners: BTreeMap<ConnectionId, UserId> = BTreeMap::new();
        let mut expected = [Status::Offline; 2];
        let mut told = Vec::new();
        for step in steps {
            let (now, seconds) = (setting.now(), setting.seconds);
            match step {
                Step::Open(number) if !model.connections.contains_key(&number) => {
                    let id = ConnectionId::fresh();
                    ids.insert(number, id);
                    owners.insert(id, users[number % 2].clone());
                    setting.presence.open_here(&users[number % 2], id, now);
                    model.connections.insert(number, (seconds, None));
                }
                Step::Touch(number) => {
                    if let Some((active, None)) = model.connections.get_mut(&number) {
                        *active = seconds;
                        setting.presence.touch(ids[&number], now);
                    }
                }
                Step::End(number) => {
                    if let Some((_, ended @ None)) = model.connections.get_mut(&number) {
                        *ended = Some(seconds);
                        setting.end(ids[&number]);
                    }
                }
                Step::Choose(user, status) => {
                    setting.presence.choose(&users[user], status, setting.now_ms());
                    match status {
                        Status::Online => {
                            model.choices.remove(&user);
                        }
                        _ if model.connections.keys().any(|id| id % 2 == user) => {
                            model.choices.insert(user, status);
                        }
                        _ => {}
                    }
                }
                Step::Wait(seconds) => setting.seconds += seconds,
                Step::Open(_) => {}
            }
            model.pass(setting.seconds);
            setting.settle(|id| owners[&id].clone());
            for (number, user) in users.iter().enumerate() {
                let status = model.status(number);
                prop_assert_eq!(setting.presence.seen(user, setting.now_ms()).status, status);
                if expected[number] != status {
                    expected[number] = status;
                    told.push((user.clone(), status));
                }
            }
            prop_assert_eq!(&setting.told, &told);
        }
        setting.seconds += 1_000;
        for id in owners.keys() {
            setting.end(*id);
        }
        setting.seconds += 1_000;
        setting.settle(|id| owners[&id].clone());
        prop_assert!(setting.presence.people.is_empty(), "nobody is remembered");
    }
}

#[test]
fn what_was_left_with_the_last_connection_is_told() {
    let mut setting = Setting::new();
    let (ann, id) = (user("ann"), ConnectionId::fresh());
    setting.presence.open_here(&ann, id, setting.now());
    setting.settle(|_| user("ann"));
    setting.end(id);
    setting.seconds += 5;
    for lingering in setting.presence.take_over(setting.now()) {
        let left = [place("room:a"), place("room:b")];
        let now_ms = setting.now_ms();
        setting
            .presence
            .close_here(&ann, lingering.connection, left, now_ms);
    }
    let change = setting.presence.begin_telling(&ann, 0).unwrap();
    assert_eq!(change.before, Status::Online);
    assert_eq!(change.seen.status, Status::Offline);
    assert_eq!(change.seen.at_ms, Some(setting.now_ms()));
    assert_eq!(change.left, [place("room:a"), place("room:b")].into());
    assert!(setting.presence.begin_telling(&ann, 0).is_none());
}

#[test]
fn who_goes_before_anything_was_told_has_gone_for_the_rooms() {
    let mut setting = Setting::new();
    for (chosen, is_told) in [(Status::Online, true), (Status::Offline, false)] {
        let (ann, id) = (user("ann"), ConnectionId::fresh());
        let presence = &setting.presence;
        presence.open(&ann, id, None, Known::default());
        presence.choose(&ann, chosen, 0);
        presence.close(&ann, id, [place("room:a")], 0);
        setting.told.clear();
        setting.settle(|_| user("ann"));
        let expected = is_told.then_some((ann, Status::Offline));
        assert_eq!(setting.told, Vec::from_iter(expected));
        assert!(setting.presence.people.is_empty());
    }
}

#[test]
fn rooms_that_were_left_at_once_hear_of_the_last_one_too() {
    let mut setting = Setting::new();
    let (ann, ids) = (user("ann"), [(); 2].map(|()| ConnectionId::fresh()));
    for id in ids {
        setting.presence.open(&ann, id, None, Known::default());
    }
    setting.settle(|_| user("ann"));
    // Each of two nodes takes the other's to be there still, and leaves the room at once.
    for id in ids {
        setting.presence.end(&ann, id, [place("room:a")].into());
    }
    for id in ids {
        setting.presence.close(&ann, id, [], 0);
    }
    let change = setting.presence.begin_telling(&ann, 0).unwrap();
    assert_eq!(change.left, [place("room:a")].into());
}

#[test]
fn who_has_come_long_ago_has_not_just_come() {
    let mut setting = Setting::new();
    let (ann, id) = (user("ann"), ConnectionId::fresh());
    let presence = &setting.presence;
    presence.open(&ann, id, None, Known::default());
    // Another node tells, and this one does from now on.
    let announced = Dated {
        at_ms: 1,
        what: Status::Online,
    };
    presence.merge(
        &ann,
        Known {
            announced,
            ..Known::default()
        },
    );
    setting.settle(|_| user("ann"));
    for status in [Status::Away, Status::Online] {
        setting.presence.choose(&ann, status, 0);
        let change = setting.presence.begin_telling(&ann, 0).unwrap();
        assert!(!change.has_just_come);
        setting.presence.told(&ann, status, 0);
    }
}

#[test]
fn who_has_just_come_has_done_so_however_often_a_node_tells_of_it() {
    let setting = Setting::new();
    let (ann, id) = (user("ann"), ConnectionId::fresh());
    for _ in 0..2 {
        setting.presence.open(&ann, id, None, Known::default());
        setting.presence.turn_idle(&ann, id, None);
    }
    let change = setting.presence.begin_telling(&ann, 0).unwrap();
    assert!(change.has_just_come);
}

#[test]
fn what_another_node_has_told_is_forgotten() {
    let setting = Setting::new();
    let (ann, id) = (user("ann"), ConnectionId::fresh());
    let presence = &setting.presence;
    presence.open(&ann, id, None, Known::default());
    let told = |at_ms, what| Known {
        announced: Dated { at_ms, what },
        ..Known::default()
    };
    presence.merge(&ann, told(1, Status::Online));
    presence.close(&ann, id, [place("room:a")], 0);
    presence.merge(&ann, told(2, Status::Offline));
    assert!(presence.people.is_empty());
}

#[test]
fn who_appears_offline_was_seen_when_that_was_said() {
    let mut setting = Setting::new();
    let (ann, id) = (user("ann"), ConnectionId::fresh());
    setting.presence.open_here(&ann, id, setting.now());
    let said = setting.now_ms();
    setting.presence.choose(&ann, Status::Offline, said);
    setting.seconds += 60;
    setting.presence.touch(id, setting.now());
    let seen = setting.presence.seen(&ann, setting.now_ms());
    assert_eq!(
        seen,
        Seen {
            status: Status::Offline,
            at_ms: Some(said)
        }
    );
}

#[test]
fn of_two_choices_the_later_holds_on_all_nodes() {
    let one = Presence::new(PresenceConfig::default(), Arc::new(Alone));
    let two = Presence::new(PresenceConfig::default(), Arc::new(Alone));
    let (ann, id) = (user("ann"), ConnectionId::fresh());
    for presence in [&one, &two] {
        presence.open(&ann, id, None, Known::default());
    }
    one.choose(&ann, Status::Busy, 5_000);
    two.merge(&ann, one.known(&ann));
    // Its clock is behind, and yet this was said later.
    two.choose(&ann, Status::Away, 1_000);
    let (first, second) = (one.known(&ann), two.known(&ann));
    one.merge(&ann, second);
    two.merge(&ann, first);
    for presence in [&one, &two] {
        assert_eq!(presence.seen(&ann, 0).status, Status::Away);
    }
}
