//! Bounds on what is taken in from a peer that does not read what it is answered. The Socket.IO server
//! answers a CONNECT packet for a namespace that is not there by itself, with the namespace's name, and
//! keeps any number of bytes of such answers; nothing of the host's sees them.

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep_until},
};

/// Bytes that are read from a stream on which nothing can be written, before it is read no more.
const ALLOWANCE: i64 = 4 << 20;

/// How long a stream must have taken all that was written, or have been left alone, until what was
/// queued for it counts as written.
const QUIET: Duration = Duration::from_millis(100);

/// Bytes that are read of it then, and how often, so that a client that is slow is still heard to live.
const TRICKLE: i64 = 4_096;
const TRICKLE_EVERY: Duration = Duration::from_secs(1);

/// Bytes that the name of a namespace may have in a CONNECT packet that is posted.
const LONGEST_NAME: usize = 256;

/// What separates the packets of one request (Engine.IO protocol 4, "HTTP long-polling").
const SEPARATOR: u8 = 0x1e;

/// By how much the server's answers are longer at most than what they answer, the shortest packets.
const AMPLIFIED: u64 = 4;

/// The reading of one stream: held back while its peer does not read. It has read what it was answered
/// when nothing waits to be written for a while, or as much was written as could wait when it was last
/// allowed more: packets are written in their order.
#[derive(Debug)]
// What every write touches first.
#[repr(C)]
pub(super) struct Throttle {
    /// Bytes that were written.
    written: u64,
    /// Whether nothing can be written now.
    is_halted: bool,
    /// How many bytes may wait that the host itself has sent.
    outgoing_bytes: u64,
    /// How many were written when everything was written that could wait when more was allowed last.
    mark: u64,
    /// When something could not be written, or could be again, the last time; forgotten when that is
    /// long ago.
    halted: Option<Instant>,
    /// Bytes that may be read since then; what was read beyond it is owed.
    left: i64,
    /// When some more may be, while none may.
    trickle: Option<Instant>,
    /// When to look again, and who waits for that.
    look: Option<(Pin<Box<Sleep>>, Waker)>,
}

impl Throttle {
    pub(super) fn new(outgoing_bytes: usize) -> Self {
        Self {
            written: 0,
            is_halted: false,
            outgoing_bytes: outgoing_bytes as u64,
            mark: 0,
            halted: None,
            left: 0,
            trickle: None,
            look: None,
        }
    }

    fn refill(&mut self) {
        let answers = AMPLIFIED * ALLOWANCE.unsigned_abs();
        let waits = self.outgoing_bytes.saturating_add(answers);
        self.left = ALLOWANCE;
        self.mark = self.written.saturating_add(waits);
        self.trickle = None;
    }

    /// Takes note of what came of writing to the stream.
    pub(super) fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.written += *bytes as u64;
        }
        // A task that has used up its turn is told the same as one whose stream is full.
        if written.is_pending() && has_budget_remaining() {
            let now = Instant::now();
            let goes_on = |halted: Instant| self.is_halted || now < halted + QUIET;
            if !self.halted.replace(now).is_some_and(goes_on) {
                self.refill();
            }
            self.is_halted = true;
        } else if written.is_ready() && std::mem::take(&mut self.is_halted) {
            self.halted = Some(Instant::now());
            // It is looked earlier now.
            if let Some((_, waker)) = self.look.take() {
                waker.wake();
            }
        }
    }

    /// Is ready when the stream may be read.
    pub(super) fn poll_allowed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(halted) = self.halted {
            let (now, quiet) = (Instant::now(), halted + QUIET);
            if !self.is_halted && now >= quiet {
                self.halted = None;
                break;
            }
            if self.written >= self.mark {
                self.refill();
            }
            if self.left > 0 {
                break;
            }
            let trickle = *self.trickle.get_or_insert(now + TRICKLE_EVERY);
            if now >= trickle {
                self.left = self.left.saturating_add(TRICKLE);
                self.trickle = None;
                continue;
            }
            let until = match self.is_halted {
                true => trickle,
                false => trickle.min(quiet),
            };
            let mut look = Box::pin(sleep_until(until));
            if look.as_mut().poll(cx).is_pending() {
                self.look = Some((look, cx.waker().clone()));
                return Poll::Pending;
            }
        }
        self.look = None;
        Poll::Ready(())
    }

    /// Takes note of how many bytes were read.
    pub(super) fn read(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.left = self.left.saturating_sub(bytes);
    }
}

/// Returns the body of a request with packets, which fails where a CONNECT packet names what can be no
/// namespace.
pub(super) fn checked(body: Body) -> Body {
    let mut at = At::default();
    let chunks = body.into_data_stream().map(move |chunk| {
        let chunk: Bytes = chunk?;
        match chunk.iter().all(|byte| at.goes_on(*byte)) {
            true => Ok(chunk),
            false => Err(axum::Error::new("a namespace's name is too long")),
        }
    });
    Body::from_stream(chunks)
}

/// Where in its packet a byte is.
#[derive(Debug, Clone, Copy)]
enum At {
    /// Among the types, of which so many bytes were those of a CONNECT packet.
    Types(usize),
    /// In the name of a namespace, after so many bytes of it.
    Name(usize),
    /// In what is not looked at.
    Rest,
}

impl Default for At {
    fn default() -> Self {
        Self::Types(0)
    }
}

impl At {
    /// The beginning of a CONNECT packet with a namespace (Engine.IO 4 "message", Socket.IO 0).
    const CONNECT: [u8; 3] = *b"40/";

    /// Goes on by a byte. Returns false when a name is too long.
    fn goes_on(&mut self, byte: u8) -> bool {
        *self = match (*self, byte) {
            (_, SEPARATOR) => Self::default(),
            (Self::Types(at), byte) if Self::CONNECT.get(at) == Some(&byte) => match at + 1 {
                at if at == Self::CONNECT.len() => Self::Name(1),
                at => Self::Types(at),
            },
            (Self::Name(LONGEST_NAME), byte) if byte != b',' => return false,
            (Self::Name(bytes), byte) if byte != b',' => Self::Name(bytes + 1),
            _ => Self::Rest,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use parking_lot::Mutex;
    use std::{future::poll_fn, sync::Arc};
    use tokio::time::timeout_at;

    #[tokio::test]
    async fn names_of_namespaces_are_bounded_wherever_they_are_cut() {
        let name = |bytes: usize| format!("40/{},", "n".repeat(bytes - 1));
        let long = "x".repeat(1_000);
        for (packets, good) in [
            (name(LONGEST_NAME), true),
            (name(LONGEST_NAME + 1), false),
            (format!("40/{}", "n".repeat(LONGEST_NAME - 1)), true),
            (format!("40/{}", "n".repeat(LONGEST_NAME)), false),
            (format!("40{{\"token\":\"{long}\"}}"), true),
            (format!("40/chat,{{\"token\":\"{long}\"}}"), true),
            (format!("42/chat,[\"{long}\"]\u{1e}40/chat,"), true),
            (format!("42[\"/{long}\"]\u{1e}40/{long}"), false),
            (format!("40/a,{long}\u{1e}40/{long},"), false),
            (format!("40/a\u{1e}42[\"{long}\"]"), true),
            (format!("b40/{long}"), true),
            (format!("4\u{1e}0/{long}"), true),
        ] {
            for size in [1, 2, 3, 64, 10_000] {
                let chunks: Vec<_> = packets
                    .as_bytes()
                    .chunks(size)
                    .map(Bytes::copy_from_slice)
                    .collect();
                let chunks = futures_util::stream::iter(chunks.into_iter().map(Ok::<_, io::Error>));
                let body = checked(Body::from_stream(chunks));
                let taken = axum::body::to_bytes(body, usize::MAX).await;
                assert_eq!(taken.is_ok(), good, "{packets}");
                if let Ok(taken) = taken {
                    assert_eq!(taken, packets, "nothing is changed");
                }
            }
        }
    }

    async fn may_read(throttle: &mut Throttle) -> bool {
        poll!(poll_fn(|cx| throttle.poll_allowed(cx))).is_ready()
    }

    /// Returns how many bytes are read in a while if there are always more, in reads of so many.
    async fn read_during(throttle: &mut Throttle, time: Duration, size: usize) -> usize {
        let (end, mut read) = (Instant::now() + time, 0);
        while timeout_at(end, poll_fn(|cx| throttle.poll_allowed(cx)))
            .await
            .is_ok()
        {
            throttle.read(size);
            read += size;
            if read > 100 << 20 {
                break;
            }
        }
        read
    }

    const LONG: Duration = Duration::from_secs(100);
    const ALL: usize = 100 << 20;
    const OUTGOING: usize = 16 << 20;

    #[tokio::test(start_paused = true)]
    async fn what_is_written_without_a_halt_holds_nothing_back() {
        let mut throttle = Throttle::new(OUTGOING);
        throttle.wrote(&Poll::Ready(Ok(1)));
        assert!(read_during(&mut throttle, LONG, 1 << 16).await >= ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_read_no_more_but_for_a_trickle() {
        for size in [100, 1_000, 1 << 16] {
            let mut throttle = Throttle::new(OUTGOING);
            throttle.wrote(&Poll::Pending);
            let read = read_during(&mut throttle, LONG, size).await as i64;
            let most = ALLOWANCE + TRICKLE * 100 + size as i64;
            assert!((ALLOWANCE..=most).contains(&read), "{size}: {read}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_by_fits_and_starts_is_read_when_it_has_read_what_waited() {
        let mut throttle = Throttle::new(OUTGOING);
        throttle.wrote(&Poll::Pending);
        let (mut read, mut wrote) = (0, 0);
        for _ in 0..100 {
            read += read_during(&mut throttle, Duration::from_secs(1), 1_000).await as i64;
            throttle.wrote(&Poll::Ready(Ok(1 << 20)));
            wrote += 1 << 20;
            // Before the next packet is written.
            read += read_during(&mut throttle, QUIET / 2, 1_000).await as i64;
            throttle.wrote(&Poll::Pending);
        }
        let waited = OUTGOING as i64 + ALLOWANCE * 4;
        let times = 1 + wrote / waited;
        assert_eq!(times, 4);
        let most = times * (ALLOWANCE + 1_000) + TRICKLE * 110;
        assert!((times * ALLOWANCE..=most).contains(&read), "{read}");
    }

    #[tokio::test(start_paused = true)]
    async fn halts_that_lie_apart_are_new_ones_each() {
        let mut throttle = Throttle::new(OUTGOING);
        for _ in 0..100 {
            throttle.wrote(&Poll::Pending);
            throttle.read(1 << 20);
            assert!(may_read(&mut throttle).await);
            throttle.wrote(&Poll::Ready(Ok(1)));
            tokio::time::advance(QUIET).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_read_everything_is_read_again_at_once() {
        let mut throttle = Throttle::new(OUTGOING);
        throttle.wrote(&Poll::Pending);
        throttle.read(usize::MAX);
        assert!(!may_read(&mut throttle).await);
        let wrote = Instant::now() + LONG;
        tokio::time::advance(LONG).await;
        throttle.wrote(&Poll::Ready(Ok(1)));
        assert!(!may_read(&mut throttle).await);
        poll_fn(|cx| throttle.poll_allowed(cx)).await;
        let took = Instant::now() - wrote;
        assert!(took >= QUIET && took < QUIET * 2, "{took:?}");
        assert!(read_during(&mut throttle, LONG, 1 << 16).await >= ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_to_read_is_woken_when_something_could_be_written() {
        let throttle = Arc::new(Mutex::new(Throttle::new(OUTGOING)));
        throttle.lock().wrote(&Poll::Pending);
        throttle.lock().read(usize::MAX);
        let waiting = tokio::spawn({
            let throttle = throttle.clone();
            async move { poll_fn(|cx| throttle.lock().poll_allowed(cx)).await }
        });
        tokio::time::sleep(TRICKLE_EVERY / 2).await;
        assert!(throttle.lock().look.is_some());
        let start = Instant::now();
        throttle.lock().wrote(&Poll::Ready(Ok(1)));
        waiting.await.unwrap();
        assert!(start.elapsed() < QUIET * 2);
    }
}
