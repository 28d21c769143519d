//! Which hosts there are, and which of them tells of a user: each knows it by itself, and all know the
//! same as soon as they know of each other.

use crate::core::names::UserId;
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long after it has begun to listen a host tells of nobody: until it has heard from others what is so
/// and what they have told already.
pub(super) const SETTLING: Duration = Duration::from_secs(2);

/// The other hosts, and whether all of their connections are known.
#[derive(Debug, Default)]
pub(super) struct Names(ArcSwap<BTreeMap<String, bool>>);

impl Names {
    /// Takes note of the other hosts; returns whether anything has changed.
    pub(super) fn set(&self, names: BTreeMap<String, bool>) -> bool {
        let changes = **self.0.load() != names;
        if changes {
            self.0.store(Arc::new(names));
        }
        changes
    }

    /// Returns the other hosts, and whether all of their connections are known.
    pub(super) fn all(&self) -> Arc<BTreeMap<String, bool>> {
        self.0.load_full()
    }

    /// Tells whether a host that listens since then knows all that it takes to tell plugins of users.
    pub(super) fn is_settled(&self, since: Instant, now: Instant) -> bool {
        now >= since + SETTLING && self.0.load().values().all(|is_known| *is_known)
    }

    /// Tells whether there is no other host.
    pub(super) fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Returns of how many other hosts all connections are known.
    pub(super) fn known(&self) -> usize {
        let others = self.0.load();
        others.values().filter(|is_known| **is_known).count()
    }

    /// Tells whether a host of this name, which listens since then, tells plugins of a user.
    pub(super) fn speaks_for(
        &self,
        own: &str,
        user: &UserId,
        since: Instant,
        now: Instant,
    ) -> bool {
        let others = self.0.load();
        let weight = weight(own, user);
        self.is_settled(since, now) && others.keys().all(|name| self::weight(name, user) < weight)
    }
}

/// Returns how much a host is for telling of a user; the one with the most does. So when a host comes or
/// goes only those users change theirs whom it concerns (rendezvous hashing). It is the same in all
/// versions: FNV-1a, mixed as in SplitMix64.
fn weight<'a>(name: &'a str, user: &UserId) -> (u64, &'a str) {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in user.as_str().bytes().chain([0]).chain(name.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_tells_of_each_user_and_each_of_about_as_many() {
        let hosts = ["a1", "b2", "c3"];
        let now = Instant::now();
        let mut told = [0; 3];
        for number in 0..3_000 {
            let user = UserId::new(&format!("user-{number}")).unwrap();
            let mut speakers = Vec::new();
            for (index, own) in hosts.iter().enumerate() {
                let names = Names::default();
                let others = hosts.iter().filter(|name| *name != own);
                names.set(others.map(|name| ((*name).to_owned(), true)).collect());
                if names.speaks_for(own, &user, now, now + SETTLING) {
                    speakers.push(index);
                }
            }
            assert_eq!(speakers.len(), 1);
            told[speakers[0]] += 1;
        }
        assert!(
            told.iter().all(|count| (900..1_100).contains(count)),
            "{told:?}"
        );
    }

    #[test]
    fn who_does_not_know_all_yet_tells_of_nobody() {
        let (names, now) = (Names::default(), Instant::now());
        let user = UserId::new("ann").unwrap();
        assert!(!names.speaks_for("one", &user, now, now));
        assert!(names.speaks_for("one", &user, now, now + SETTLING));
        assert!(names.set([("two".to_owned(), false)].into()));
        assert!(!names.set([("two".to_owned(), false)].into()));
        assert!(!names.speaks_for("one", &user, now, now + SETTLING));
        names.set([("two".to_owned(), true)].into());
        let later = now + SETTLING;
        let one = names.speaks_for("one", &user, now, later);
        names.set([("one".to_owned(), true)].into());
        assert!(one != names.speaks_for("two", &user, now, later));
    }
}
