//! How much of what was handed over to a client's transport waits to be written, in bytes: the
//! Socket.IO server counts packets only, and a packet can have a megabyte.
//!
//! The server does not say what it still holds. But what was handed over is known, and what its
//! WebSocket's stream has written, or polls have fetched; the difference waits. Frames have some bytes
//! of their own, which make that too little by a few per cent; when it would fall below nothing,
//! nothing waits, and the count begins anew from there.
//!
//! What is volatile is not counted: the server keeps the latest of it only, and writes it when nothing
//! else waits.

use super::listener::{Switch, Transports};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicU64, Ordering},
};

/// The bytes of what is handed over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    text: u64,
    attachments: u64,
    /// The attachments' as polls fetch them, in base64.
    encoded: u64,
}

impl Size {
    pub(super) fn of(text: &str, attachments: &[Bytes]) -> Self {
        let sizes = || attachments.iter().map(|bytes| bytes.len() as u64);
        Self {
            text: text.len() as u64,
            attachments: sizes().sum(),
            encoded: sizes().map(|bytes| bytes.div_ceil(3) * 4).sum(),
        }
    }
}

/// Counts for one transport.
#[derive(Debug)]
pub(super) struct Backlog {
    limit: u64,
    /// The stream on which the session was opened, if that is a WebSocket's.
    first: Option<Weak<Switch>>,
    /// Bytes that polls have fetched.
    fetched: AtomicU64,
    /// The session whose polls are counted, to be forgotten with it.
    session: OnceLock<(Weak<Transports>, String)>,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    queued: u64,
    /// What the transport had written when nothing waited, less what had been queued then.
    base: i128,
    /// The stream that `base` is about; none while the session polls.
    stream: Weak<Switch>,
    /// At how much queued it is worth to look again.
    look_at: u64,
}

impl Backlog {
    pub(super) fn new(limit: usize, first: Option<&Arc<Switch>>) -> Self {
        Self {
            limit: limit as u64,
            first: first.map(Arc::downgrade),
            fetched: AtomicU64::new(0),
            session: OnceLock::new(),
            counted: Mutex::default(),
        }
    }

    /// Returns the stream on which the session was opened, if that is a WebSocket's and there.
    pub(super) fn opened_on(&self) -> Option<Arc<Switch>> {
        self.first.as_ref()?.upgrade()
    }

    /// Counts what the polls of a session fetch, unless it was opened as a WebSocket.
    pub(super) fn count_polls(self: &Arc<Self>, transports: &Arc<Transports>, session: &str) {
        if self.first.is_some() {
            return;
        }
        let owner = (Arc::downgrade(transports), session.to_owned());
        if self.session.set(owner).is_ok() {
            transports.count_polls(session, self);
        }
    }

    pub(super) fn count_fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that are about to be handed over. Returns false, and does not, when too much
    /// waits already.
    pub(super) fn take(&self, size: Size, transports: &Transports, session: &str) -> bool {
        let mut counted = self.counted.lock();
        let has_room = self.has_room_in(&mut counted, transports, session);
        if has_room {
            counted.queued += size.text;
            counted.queued += match counted.polls() {
                true => size.encoded,
                false => size.attachments,
            };
        }
        has_room
    }

    /// Tells whether more may wait.
    pub(super) fn has_room(&self, transports: &Transports, session: &str) -> bool {
        self.has_room_in(&mut self.counted.lock(), transports, session)
    }

    fn has_room_in(&self, counted: &mut Counted, transports: &Transports, session: &str) -> bool {
        counted.queued < counted.look_at || self.look(counted, transports, session) < self.limit
    }

    /// Returns how much waits.
    pub(super) fn waits(&self, transports: &Transports, session: &str) -> u64 {
        self.look(&mut self.counted.lock(), transports, session)
    }

    fn look(&self, counted: &mut Counted, transports: &Transports, session: &str) -> u64 {
        // What was opened as a WebSocket stays on its stream, whichever others name the session.
        let upgraded = || transports.stream_of(session);
        let stream = self.opened_on().or_else(upgraded);
        let written = match &stream {
            Some(stream) => stream.written(),
            None => self.fetched.load(Ordering::Relaxed),
        };
        let stream = stream.as_ref().map(Arc::downgrade).unwrap_or_default();
        counted.wait_on(stream, written, self.limit)
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        if let Some((transports, session)) = self.session.get()
            && let Some(transports) = transports.upgrade()
        {
            transports.forget_polls(session);
        }
    }
}

impl Counted {
    /// Tells whether the session polled when it was last looked at.
    fn polls(&self) -> bool {
        self.stream.ptr_eq(&Weak::new())
    }

    /// Returns how much waits, and plans when to look again.
    fn wait_on(&mut self, stream: Weak<Switch>, written: u64, limit: u64) -> u64 {
        let (queued, written) = (i128::from(self.queued), i128::from(written));
        let is_known = self.stream.ptr_eq(&stream);
        if !is_known || queued - (written - self.base) < 0 {
            self.stream = stream;
            self.base = written - queued;
        }
        let waits = u64::try_from(queued - (written - self.base)).unwrap_or(0);
        self.look_at = self.queued + limit.saturating_sub(waits) / 4;
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: u64) -> Size {
        Size {
            text: bytes,
            ..Size::default()
        }
    }

    #[test]
    fn what_was_not_written_counts_and_what_was_is_forgiven() {
        let (transports, stream) = (Transports::new("/socket.io"), Arc::new(Switch::default()));
        let backlog = Backlog::new(1_000, Some(&stream));
        let take = || backlog.take(text(100), &transports, "s");
        let taken = (0..100).take_while(|_| take()).count();
        assert!((10..=12).contains(&taken), "{taken}");
        assert!(!take(), "and nothing more");
        // What was written, with the frames' own bytes.
        stream.count_written(taken * 108);
        for _ in 0..1_000 {
            assert!(take());
            stream.count_written(108);
        }
    }

    #[test]
    fn what_is_volatile_does_not_count_and_is_held_back_while_too_much_waits() {
        let (transports, stream) = (Transports::new("/socket.io"), Arc::new(Switch::default()));
        let backlog = Backlog::new(1_000, Some(&stream));
        for _ in 0..1_000 {
            assert!(backlog.has_room(&transports, "s"));
        }
        assert!(backlog.take(text(1_000), &transports, "s"));
        assert!(!backlog.has_room(&transports, "s"));
        // Some of them were written, too.
        stream.count_written(3_000);
        assert!(backlog.has_room(&transports, "s"));
        let taken = (0..100)
            .take_while(|_| backlog.take(text(100), &transports, "s"))
            .count();
        assert!((10..=12).contains(&taken), "{taken}");
    }

    #[test]
    fn a_transport_that_is_upgraded_begins_anew() {
        let (transports, stream) = (Transports::new("/socket.io"), Arc::new(Switch::default()));
        let backlog = Backlog::new(1_000, None);
        for _ in 0..5 {
            assert!(backlog.take(text(100), &transports, "s"));
        }
        transports.upgraded("s", &stream);
        let taken = (0..100)
            .take_while(|_| backlog.take(text(100), &transports, "s"))
            .count();
        assert!((10..=12).contains(&taken), "{taken}");
    }

    #[test]
    fn what_polls_have_fetched_is_forgiven_and_what_they_have_not_counts() {
        let transports = Transports::new("/socket.io");
        let backlog = Arc::new(Backlog::new(1_000, None));
        backlog.count_polls(&transports, "s");
        let take = || backlog.take(text(100), &transports, "s");
        for _ in 0..1_000 {
            assert!(take());
            transports.polled("s", 103);
        }
        let taken = (0..100).take_while(|_| take()).count();
        assert!((10..=12).contains(&taken), "{taken}");
        transports.polled("somebody else's", 1_000_000);
        assert!(!take());
        transports.polled("s", 1_100);
        assert!(take());
        drop(backlog);
        assert!(!transports.counts_polls("s"));
    }

    #[test]
    fn bytes_that_are_polled_count_as_they_are_fetched() {
        let (transports, stream) = (Transports::new("/socket.io"), Arc::new(Switch::default()));
        let bytes = [Bytes::from(vec![0; 300])];
        let taken = |backlog: &Backlog, fetch: bool| {
            let take = |_: &usize| backlog.take(Size::of("", &bytes), &transports, "s");
            (0..100)
                .take_while(take)
                .inspect(|n| {
                    // One of two is fetched.
                    if fetch && n % 2 == 0 {
                        transports.polled("s", 402);
                    }
                })
                .count()
        };
        let polled = Arc::new(Backlog::new(4_000, None));
        polled.count_polls(&transports, "s");
        let both = taken(&polled, true);
        assert!((18..=22).contains(&both), "{both}");
        let all = taken(&Backlog::new(4_000, None), false);
        assert!((10..=11).contains(&all), "{all}");
        let written = taken(&Backlog::new(4_000, Some(&stream)), false);
        assert!((13..=15).contains(&written), "{written}");
    }

    #[test]
    fn other_streams_that_name_a_session_forgive_nothing() {
        let transports = Transports::new("/socket.io");
        let [opened, upgraded] = [(); 2].map(|()| Arc::new(Switch::default()));
        let websocket = Backlog::new(1_000, Some(&opened));
        let polling = Backlog::new(1_000, None);
        transports.upgraded("p", &upgraded);
        for (backlog, session) in [(websocket, "w"), (polling, "p")] {
            let take = || backlog.take(text(100), &transports, session);
            let taken = (0..100).take_while(|_| take()).count();
            assert!((10..=12).contains(&taken), "{taken}");
            let another = Arc::new(Switch::default());
            transports.upgraded(session, &another);
            assert!(!take());
            drop(another);
            assert!(!take());
        }
    }
}
