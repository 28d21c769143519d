//! How much of what was handed over to a client's transport waits to be written, in packets and bytes.
//! The Socket.IO server does not count bytes, and a packet can have a megabyte; and of a packet for
//! many it does not say whose queue was full.
//!
//! The server does not say either what it still holds. But what was handed over is known, byte by byte,
//! and what its WebSocket's stream has written, or polls have fetched; the difference waits. The server
//! has some packets of its own, such as pings, which make that too little; when it would fall below
//! nothing, nothing waits, and the count goes on from there. Packets are written in their order, so
//! which of them wait follows from the bytes that do.
//!
//! What is volatile is not counted: the server keeps the latest of it only, and writes it when nothing
//! else waits.
//!
//! A packet for a room is counted for each of its members, whose counts are not in the processor's
//! caches: waiting for them is most of what that costs. So what is touched for each packet is in one
//! line of them.

use super::{
    config::SocketConfig,
    listener::{Switch, Transports},
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

/// Into how many parts the packets that may wait are divided: where each begins is known, and so how
/// many wait to within one part.
const PARTS: usize = 16;

/// The bytes of one packet that is handed over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// As they are written to a WebSocket, in frames (RFC 6455, 5.2).
    written: u64,
    /// As polls fetch them, attachments in base64. What stands between packets is not counted, since the
    /// first that a poll fetches has nothing before it.
    fetched: u64,
}

impl Size {
    /// Returns the size of a packet with so many bytes of text, in a frame with Engine.IO's type of it,
    /// and attachments.
    pub(super) fn of(text: usize, attachments: &[Bytes]) -> Self {
        let text = text as u64 + 1;
        let mut size = Self {
            written: in_frame(text),
            fetched: text,
        };
        for bytes in attachments {
            let bytes = bytes.len() as u64;
            size.written += in_frame(bytes);
            size.fetched += 1 + bytes.div_ceil(3) * 4;
        }
        size
    }
}

/// Returns the bytes of a server's frame with so many bytes in it.
fn in_frame(bytes: u64) -> u64 {
    bytes
        + match bytes {
            0..126 => 2,
            126..0x1_0000 => 4,
            _ => 10,
        }
}

/// How much may wait for one client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    packets: usize,
    bytes: usize,
}

impl Bounds {
    pub(super) fn of(config: &SocketConfig) -> Self {
        Self {
            packets: config.outgoing_queue,
            bytes: config.outgoing_bytes,
        }
    }

    /// Returns how many packets make a part.
    fn part(self) -> usize {
        self.packets.div_ceil(PARTS)
    }

    /// Returns how many packets wait at most, or seem to: of the part that is being written all do, though
    /// all but one may have been written.
    pub(super) fn most_packets(self) -> usize {
        self.packets.saturating_add(self.part() - 1)
    }
}

/// Counts for one transport.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Backlog {
    counted: Mutex<Counted>,
    bounds: Bounds,
    /// The stream on which the session was opened, if that is a WebSocket's.
    first: Option<Weak<Switch>>,
    /// Bytes that polls have fetched.
    fetched: AtomicU64,
    /// The session whose polls are counted, to be forgotten with it.
    session: OnceLock<(Weak<Transports>, String)>,
    /// Held while a socket of the transport enters rooms, or leaves all of them with its namespace: one
    /// that comes back has the same id, and must not be taken out of its rooms by the one before.
    pub(super) moving: Mutex<()>,
}

#[derive(Debug)]
#[repr(C)]
struct Counted {
    // Touched for each packet.
    queued: u64,
    /// At how many bytes queued it is worth to look again.
    look_at: u64,
    /// Packets that were queued and are not known to be written.
    packets: u64,
    /// At how many of them it is worth to look again.
    look_at_packets: u64,
    /// How many more make the part whole that the last one is in.
    left_in_part: u64,
    /// The bytes of the largest packet since nothing waited.
    largest: u64,
    /// The stream on which the rest is written; none while the session polls.
    stream: Weak<Switch>,
    // Touched now and then.
    /// How much of what was queued was written or fetched.
    done: u64,
    /// What polls had fetched when it was looked last.
    fetched: u64,
    /// What the stream had written when it was looked last.
    written: u64,
    /// Whether the session has been upgraded, or seemed to be.
    is_upgraded: bool,
    /// How many packets make a part.
    part: u64,
    /// What had been queued with each whole part of these packets.
    parts: VecDeque<u64>,
}

// With the lock before it.
const _: () = assert!(std::mem::offset_of!(Counted, done) <= 64 - size_of::<u64>());

impl Backlog {
    pub(super) fn new(bounds: Bounds, first: Option<&Arc<Switch>>) -> Self {
        Self {
            counted: Mutex::new(Counted::new(bounds.part() as u64)),
            bounds,
            first: first.map(Arc::downgrade),
            fetched: AtomicU64::new(0),
            session: OnceLock::new(),
            moving: Mutex::new(()),
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

    /// Tells whether somebody counts right now; looking brings the counts into the processor's caches.
    pub(super) fn is_being_counted(&self) -> bool {
        self.counted.is_locked()
    }

    /// Counts a packet that is about to be handed over. Returns false, and does not, when too much
    /// waits already.
    pub(super) fn take(&self, size: Size, transports: &Transports, session: &str) -> bool {
        let mut counted = self.counted.lock();
        let has_room = self.has_room_in(&mut counted, transports, session);
        if has_room {
            let polls = counted.polls();
            counted.count(if polls { size.fetched } else { size.written });
        }
        has_room
    }

    /// Tells whether more may wait. It always looks: what is volatile is written but not counted, and
    /// too much of it at once would pass for what waits.
    pub(super) fn has_room(&self, transports: &Transports, session: &str) -> bool {
        self.look_for_room(&mut self.counted.lock(), transports, session)
    }

    fn has_room_in(&self, counted: &mut Counted, transports: &Transports, session: &str) -> bool {
        if counted.queued < counted.look_at && counted.packets < counted.look_at_packets {
            return true;
        }
        self.look_for_room(counted, transports, session)
    }

    fn look_for_room(&self, counted: &mut Counted, transports: &Transports, session: &str) -> bool {
        let waits = self.look(counted, transports, session);
        let (bytes, packets) = (self.bounds.bytes as u64, self.bounds.most_packets() as u64);
        counted.look_at = counted.queued + bytes.saturating_sub(waits).div_ceil(4);
        let packets_left = packets.saturating_sub(counted.packets);
        counted.look_at_packets = counted.packets + packets_left.div_ceil(4);
        waits < bytes && packets_left > 0
    }

    /// Returns how many bytes wait.
    pub(super) fn waits(&self, transports: &Transports, session: &str) -> u64 {
        self.look(&mut self.counted.lock(), transports, session)
    }

    fn look(&self, counted: &mut Counted, transports: &Transports, session: &str) -> u64 {
        // What was opened as a WebSocket stays on its stream, whichever others name the session.
        let upgraded = || transports.stream_of(session);
        let stream = self.opened_on().or_else(upgraded);
        let fetched = self.fetched.load(Ordering::Relaxed);
        counted.look(stream.as_ref(), fetched);
        counted.wait()
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
    fn new(part: u64) -> Self {
        Self {
            queued: 0,
            look_at: 0,
            packets: 0,
            look_at_packets: 0,
            left_in_part: part,
            largest: 0,
            stream: Weak::new(),
            done: 0,
            fetched: 0,
            written: 0,
            is_upgraded: false,
            part,
            parts: VecDeque::new(),
        }
    }

    /// Tells whether the session polled when it was last looked at.
    fn polls(&self) -> bool {
        self.stream.ptr_eq(&Weak::new())
    }

    fn count(&mut self, bytes: u64) {
        self.queued += bytes;
        self.largest = self.largest.max(bytes);
        self.packets += 1;
        self.left_in_part -= 1;
        if self.left_in_part == 0 {
            self.left_in_part = self.part;
            self.parts.push_back(self.queued);
        }
    }

    /// Takes note of what was written on the stream and fetched by polls.
    fn look(&mut self, stream: Option<&Arc<Switch>>, fetched: u64) {
        let (known, written) = match stream {
            Some(stream) => (Arc::downgrade(stream), stream.written()),
            None => (Weak::new(), 0),
        };
        self.done += fetched - std::mem::replace(&mut self.fetched, fetched);
        if !self.stream.ptr_eq(&known) {
            if self.polls() && !std::mem::replace(&mut self.is_upgraded, true) {
                // What was to be polled may be less on the stream, where attachments are not in base64; and
                // the server loses a packet that the last poll had no place for.
                let waits = self.queued.saturating_sub(self.done);
                self.done += waits.min(waits / 4 + self.largest);
            }
            // Streams that name the session may come and go; what waits still does.
            self.stream = known;
            self.written = 0;
        }
        self.done += written.saturating_sub(std::mem::replace(&mut self.written, written));
    }

    /// Returns how many bytes wait, and forgets the packets that do not.
    fn wait(&mut self) -> u64 {
        if self.done >= self.queued {
            self.done = self.queued;
            self.largest = 0;
            self.packets = 0;
            self.left_in_part = self.part;
            self.parts.clear();
            return 0;
        }
        while self.parts.front().is_some_and(|end| *end <= self.done) {
            self.parts.pop_front();
            self.packets -= self.part;
        }
        self.queued - self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: u64) -> Size {
        Size {
            written: bytes,
            fetched: bytes,
        }
    }

    fn bytes(bytes: usize) -> Bounds {
        Bounds {
            packets: 1_000_000,
            bytes,
        }
    }

    #[test]
    fn packets_have_the_sizes_that_the_server_writes() {
        let sizes = |text: usize, attachments: &[usize]| {
            let attachments = attachments.iter().map(|bytes| Bytes::from(vec![0; *bytes]));
            let size = Size::of(text, &attachments.collect::<Vec<_>>());
            (size.written, size.fetched)
        };
        assert_eq!(sizes(124, &[]), (127, 125));
        assert_eq!(sizes(125, &[]), (130, 126));
        assert_eq!(sizes(65_534, &[]), (65_539, 65_535));
        assert_eq!(sizes(65_535, &[]), (65_546, 65_536));
        assert_eq!(sizes(10, &[0, 4]), (13 + 2 + 6, 11 + 1 + 9));
    }

    #[test]
    fn as_many_packets_wait_as_may_and_those_that_were_written_do_not() {
        let transports = Transports::new("/socket.io");
        for packets in [1, 2, 15, 16, 17, 100, 4_096] {
            let stream = Arc::new(Switch::default());
            let bytes = usize::MAX;
            let backlog = Backlog::new(Bounds { packets, bytes }, Some(&stream));
            let part = packets.div_ceil(PARTS);
            // Each has a size of its own.
            let mut sizes = VecDeque::new();
            let take = |sizes: &mut VecDeque<u64>| {
                let size = 10 + (sizes.len() as u64 * 7) % 50;
                let taken = backlog.take(text(size), &transports, "s");
                sizes.extend(taken.then_some(size));
                taken
            };
            for round in 1..50 {
                while take(&mut sizes) {}
                let most = packets + part - 1;
                assert!(
                    (packets..=most).contains(&sizes.len()),
                    "{packets}: {}",
                    sizes.len()
                );
                let written = sizes.drain(..(packets * round / 50).max(1));
                stream.count_written(written.sum::<u64>() as usize);
            }
        }
    }

    #[test]
    fn what_was_not_written_counts_and_what_was_is_forgiven() {
        let (transports, stream) = (Transports::new("/socket.io"), Arc::new(Switch::default()));
        let backlog = Backlog::new(bytes(1_000), Some(&stream));
        let take = || backlog.take(text(100), &transports, "s");
        let taken = (0..100).take_while(|_| take()).count();
        assert!((10..=12).contains(&taken), "{taken}");
        assert!(!take(), "and nothing more");
        // What was written, with what the server has said of its own.
        stream.count_written(taken * 108);
        for _ in 0..1_000 {
            assert!(take());
            stream.count_written(108);
        }
    }

    #[test]
    fn what_is_volatile_does_not_count_and_is_held_back_while_too_much_waits() {
        let (transports, stream) = (Transports::new("/socket.io"), Arc::new(Switch::default()));
        let backlog = Backlog::new(bytes(1_000), Some(&stream));
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
    fn what_waits_when_a_transport_is_upgraded_goes_on_waiting() {
        let (transports, stream) = (Transports::new("/socket.io"), Arc::new(Switch::default()));
        let backlog = Arc::new(Backlog::new(bytes(1_000), None));
        backlog.count_polls(&transports, "s");
        let take = || backlog.take(text(100), &transports, "s");
        let taken = || (0..100).take_while(|_| take()).count();
        for _ in 0..8 {
            assert!(take());
        }
        stream.count_written(10_000);
        transports.upgraded("s", &stream);
        // Three quarters of it wait, less what is written before it is looked, and one packet.
        stream.count_written(100);
        let more = taken();
        assert!((6..=7).contains(&more), "{more}");
        // The last poll fetches some, the rest is written.
        transports.polled("s", 300);
        assert_eq!(taken(), 3);
        stream.count_written(500);
        assert_eq!(taken(), 5);
        // Who only seems to upgrade forgives nothing.
        drop(stream);
        let another = Arc::new(Switch::default());
        transports.upgraded("s", &another);
        assert!(!take());
    }

    #[test]
    fn what_polls_have_fetched_is_forgiven_and_what_they_have_not_counts() {
        let transports = Transports::new("/socket.io");
        let backlog = Arc::new(Backlog::new(bytes(1_000), None));
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
        let attachments = [Bytes::from(vec![0; 300])];
        let taken = |backlog: &Backlog, fetch: bool| {
            let take = |_: &usize| backlog.take(Size::of(0, &attachments), &transports, "s");
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
        let polled = Arc::new(Backlog::new(bytes(4_000), None));
        polled.count_polls(&transports, "s");
        let both = taken(&polled, true);
        assert!((18..=22).contains(&both), "{both}");
        let all = taken(&Backlog::new(bytes(4_000), None), false);
        assert!((10..=11).contains(&all), "{all}");
        let written = taken(&Backlog::new(bytes(4_000), Some(&stream)), false);
        assert!((13..=15).contains(&written), "{written}");
    }

    #[test]
    fn other_streams_that_name_a_session_forgive_nothing() {
        let transports = Transports::new("/socket.io");
        let [opened, upgraded] = [(); 2].map(|()| Arc::new(Switch::default()));
        let websocket = Backlog::new(bytes(1_000), Some(&opened));
        let polling = Backlog::new(bytes(1_000), None);
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
