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
    time::{Duration, Instant},
};
use tokio::time::{Sleep, sleep};

/// Bytes that are read from a stream on which nothing can be written, besides as many as are written.
const ALLOWANCE: usize = 1 << 20;

/// How long a stream must have been written to without a halt, or not at all, until what was queued for
/// it counts as written; and how often it is looked whether more may be read.
const QUIET: Duration = Duration::from_millis(100);

/// Bytes that the name of a namespace may have in a CONNECT packet that is posted.
const LONGEST_NAME: usize = 256;

/// What separates the packets of one request (Engine.IO protocol 4, "HTTP long-polling").
const SEPARATOR: u8 = 0x1e;

/// The reading of one stream: held back while its peer reads less than it sends.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Since when nothing could be written, the last time that was so; forgotten when it is long ago.
    halted: Option<Instant>,
    /// Whether that is so now.
    is_halted: bool,
    /// Bytes that may be read all the same.
    left: usize,
    /// When to look again, while none may, and who waits for that.
    look: Option<(Pin<Box<Sleep>>, Waker)>,
}

impl Throttle {
    /// Takes note of what came of writing to the stream.
    pub(super) fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => {
                if self.halted.replace(Instant::now()).is_none() {
                    self.left = ALLOWANCE;
                }
                self.is_halted = true;
            }
            Poll::Ready(written) => {
                self.is_halted = false;
                let written = *written.as_ref().unwrap_or(&0);
                self.left = self.left.saturating_add(written).min(ALLOWANCE);
                if let Some((_, waker)) = &self.look {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// Is ready when the stream may be read.
    pub(super) fn poll_allowed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(halted) = self.halted {
            if !self.is_halted && halted.elapsed() >= QUIET {
                self.halted = None;
                break;
            }
            if self.left > 0 {
                break;
            }
            let waits = || (Box::pin(sleep(QUIET)), cx.waker().clone());
            let (look, waker) = self.look.get_or_insert_with(waits);
            waker.clone_from(cx.waker());
            if look.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.look = None;
        }
        self.look = None;
        Poll::Ready(())
    }

    /// Takes note of how many bytes were read.
    pub(super) fn read(&mut self, bytes: usize) {
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
    use std::future::poll_fn;

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

    #[tokio::test]
    async fn what_is_written_without_a_halt_holds_nothing_back() {
        let mut throttle = Throttle::default();
        for _ in 0..10 {
            throttle.read(ALLOWANCE);
            throttle.wrote(&Poll::Ready(Ok(1)));
            assert!(may_read(&mut throttle).await);
        }
    }

    #[tokio::test]
    async fn who_reads_nothing_is_not_read_from_for_ever() {
        let mut throttle = Throttle::default();
        throttle.wrote(&Poll::Pending);
        throttle.read(ALLOWANCE - 1);
        assert!(may_read(&mut throttle).await);
        throttle.read(1);
        assert!(!may_read(&mut throttle).await);
        throttle.wrote(&Poll::Pending);
        assert!(!may_read(&mut throttle).await);
        // As much as it reads.
        throttle.wrote(&Poll::Ready(Ok(10)));
        throttle.wrote(&Poll::Pending);
        poll_fn(|cx| throttle.poll_allowed(cx)).await;
        throttle.read(10);
        assert!(!may_read(&mut throttle).await);
        // And again when it has read everything.
        throttle.wrote(&Poll::Ready(Ok(1)));
        throttle.read(1);
        poll_fn(|cx| throttle.poll_allowed(cx)).await;
        assert!(throttle.halted.is_none());
    }
}
