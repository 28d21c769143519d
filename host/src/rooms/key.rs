//! What rooms are found by.

use crate::core::names::{Namespace, RoomName};
use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
};

/// A room, in its namespace.
pub(super) type RoomKey = (Namespace, RoomName);

/// What is as good as a [`RoomKey`] to find a room. Where one is sent to, its names are borrowed: to
/// count their references up and down would cost more than the search.
pub(super) trait AsKey {
    fn parts(&self) -> (&Namespace, &RoomName);
}

impl AsKey for RoomKey {
    fn parts(&self) -> (&Namespace, &RoomName) {
        (&self.0, &self.1)
    }
}

impl AsKey for (&Namespace, &RoomName) {
    fn parts(&self) -> (&Namespace, &RoomName) {
        *self
    }
}

impl<'a> Borrow<dyn AsKey + 'a> for RoomKey {
    fn borrow(&self) -> &(dyn AsKey + 'a) {
        self
    }
}

impl Hash for dyn AsKey + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a pair is hashed, which is what the map holds.
        self.parts().hash(state);
    }
}

impl PartialEq for dyn AsKey + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn AsKey + '_ {}
