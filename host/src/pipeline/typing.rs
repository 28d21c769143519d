//! Who stops typing without saying so.

use super::Pipeline;
use crate::core::event::Notice;
use std::{sync::Arc, time::Instant};

/// Ends the typing of those who have not said for a while that they type, until the host stops.
pub async fn end_typing(pipeline: Arc<Pipeline>) {
    while pipeline
        .unless_stopping(pipeline.executor.typing.over())
        .await
        .is_some()
    {
        for (id, room) in pipeline.executor.typing.take_over(Instant::now()) {
            let Some(connection) = pipeline.connections.get(id) else {
                continue;
            };
            let rooms = &pipeline.executor.rooms;
            if rooms.set_typing(&connection.namespace, id, &room, false) {
                let typing = false;
                pipeline.notify(connection, Notice::Typing { room, typing });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        core::{
            event::Identity,
            names::{ConnectionId, Namespace, RoomName, UserId},
        },
        ports::{Alone, Nowhere},
        rooms::{Change, Rooms},
        typing::Typing,
    };
    use proptest::{collection::vec, prelude::*};
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::Arc,
        time::{Duration, Instant},
    };

    const CONNECTIONS: usize = 4;
    const ROOMS: [&str; 2] = ["room:a", "room:b"];

    #[derive(Debug, Clone)]
    enum Step {
        Join(usize, usize),
        Leave(usize, usize),
        Start(usize, usize),
        Stop(usize, usize),
        End(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = || (0..CONNECTIONS, 0..ROOMS.len());
        prop_oneof![
            place().prop_map(|(id, room)| Step::Join(id, room)),
            place().prop_map(|(id, room)| Step::Leave(id, room)),
            place().prop_map(|(id, room)| Step::Start(id, room)),
            place().prop_map(|(id, room)| Step::Start(id, room)),
            place().prop_map(|(id, room)| Step::Stop(id, room)),
            (0..CONNECTIONS).prop_map(Step::End),
            (1..6_u64).prop_map(Step::Wait),
        ]
    }

    /// Who is in a room, and until when each types there: the rule as it is written.
    #[derive(Default)]
    struct Model {
        members: BTreeSet<(usize, usize)>,
        until: BTreeMap<(usize, usize), u64>,
    }

    impl Model {
        /// Each two connections are one user's.
        fn typing(&self, room: usize) -> BTreeSet<usize> {
            let here = self.until.keys().filter(|(_, at)| *at == room);
            here.map(|(id, _)| id / 2).collect()
        }

        fn leave(&mut self, id: usize, room: usize) {
            self.members.remove(&(id, room));
            self.until.remove(&(id, room));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A user types from the first start until 5 seconds after the last one, a stop, a leave or the
        /// connection's end, whichever of the user's connections it is; and each change is told once.
        #[test]
        fn who_types_is_as_the_rule_has_it(steps in vec(step(), 1..80)) {
            let (rooms, namespace) = (Rooms::new(9, Arc::new(Alone)), Namespace::root());
            let typing = Typing::new(Duration::from_secs(5));
            let ids: Vec<_> = (0..CONNECTIONS).map(|_| ConnectionId::fresh()).collect();
            let names = ROOMS.map(|room| RoomName::new(room).unwrap());
            let users = ["ann", "ben"].map(|user| UserId::new(user).unwrap());
            for (number, id) in ids.iter().enumerate() {
                let user = users[number / 2].clone();
                let identity = Identity::new(user, String::new(), serde_json::Map::new(), None);
                rooms.add(&namespace, *id, &Arc::new(identity), &Nowhere::outbound());
            }
            let (start, mut seconds) = (Instant::now(), 0);
            let mut model = Model::default();
            let mut ended = BTreeSet::new();
            for step in steps {
                let before = [0, 1].map(|room| model.typing(room));
                let now = start + Duration::from_secs(seconds);
                let mut told = Vec::new();
                match step {
                    Step::Join(id, room) => {
                        if !ended.contains(&id) {
                            model.members.insert((id, room));
                        }
                        rooms.join(&namespace, ids[id], &names[room]);
                    }
                    Step::Leave(id, room) => {
                        model.leave(id, room);
                        let left = rooms.leave(&namespace, ids[id], &names[room]);
                        if let Change::Left { stopped: true, .. } = left {
                            told.push((id / 2, room));
                        }
                    }
                    Step::Start(id, room) => {
                        if model.members.contains(&(id, room)) {
                            model.until.insert((id, room), seconds + 5);
                            typing.set(ids[id], &names[room], true, now);
                        }
                        if rooms.set_typing(&namespace, ids[id], &names[room], true) {
                            told.push((id / 2, room));
                        }
                    }
                    Step::Stop(id, room) => {
                        model.until.remove(&(id, room));
                        typing.set(ids[id], &names[room], false, now);
                        if rooms.set_typing(&namespace, ids[id], &names[room], false) {
                            told.push((id / 2, room));
                        }
                    }
                    Step::End(id) => {
                        ended.insert(id);
                        for room in 0..ROOMS.len() {
                            model.leave(id, room);
                        }
                        for exit in rooms.end(&namespace, ids[id]) {
                            let room = names.iter().position(|name| *name == exit.room);
                            told.extend(exit.stopped.then_some((id / 2, room.unwrap())));
                        }
                    }
                    Step::Wait(wait) => {
                        seconds += wait;
                        model.until.retain(|_, until| *until > seconds);
                        let now = start + Duration::from_secs(seconds);
                        for (id, name) in typing.take_over(now) {
                            if rooms.set_typing(&namespace, id, &name, false) {
                                let id = ids.iter().position(|own| *own == id).unwrap();
                                let room = names.iter().position(|own| *own == name).unwrap();
                                told.push((id / 2, room));
                            }
                        }
                    }
                }
                let mut expected = Vec::new();
                for room in 0..ROOMS.len() {
                    let now = model.typing(room);
                    let changed = now.symmetric_difference(&before[room]);
                    expected.extend(changed.map(|user| (*user, room)));
                    let named: Vec<_> = now.iter().map(|user| users[*user].clone()).collect();
                    prop_assert_eq!(rooms.typing(&namespace, &names[room]), named);
                }
                told.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(told, expected);
            }
        }
    }
}
