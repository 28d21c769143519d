//! The host's TCP side: it accepts, counts, and can end every transport.
//!
//! Socket.IO's server offers no way to close a transport, so every accepted stream is wrapped with a
//! [`Switch`]. To end a WebSocket transport the switch lets the server read an Engine.IO close
//! packet, as if the client had sent it: the server then writes out what is queued and closes. What
//! has not ended some seconds later, or is to end at once, is cut.

use super::{adapter::HostAdapter, backlog::Backlog, intake::Throttle};
use crate::ports::CloseReason;
use axum::{Router, body::Body, extract::Request};
use dashmap::DashMap;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use socketioxide::{TransportType, socket::Socket};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// How long a transport may take to write out what is queued before it is cut.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// How long what is queued may wait for the next poll of a session that ends: who is there polls all the
/// time.
const POLLED_TIME: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long data may stay unacknowledged by the peer's TCP before the stream is given up; a stalled
/// peer would otherwise keep its socket for ever.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to send the head of a request.
const HEADER_TIME: Duration = Duration::from_secs(15);

/// A text frame of a client with the Engine.IO packet `1` (close), masked with zeros (RFC 6455, 5.2).
const CLOSE_PACKET: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'1'];

const OPEN: u8 = 0;
const ENDING: u8 = 1;
const CUT: u8 = 2;

/// Ends one stream.
#[derive(Debug, Default)]
// What every write touches first, and so in one line of the processor's caches, as in `backlog`.
#[repr(C)]
pub(super) struct Switch {
    state: AtomicU8,
    written: AtomicU64,
    wakers: Mutex<[Option<Waker>; 2]>,
    /// The session that was upgraded on this stream, to be forgotten with it, and what had been written
    /// before.
    session: OnceLock<(Weak<Transports>, String, u64)>,
}

impl Switch {
    fn set(&self, state: u8) {
        self.state.fetch_max(state, Ordering::AcqRel);
        for waker in self.wakers.lock().iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }

    /// Ends the stream: at once where its peer does not read.
    fn end(self: &Arc<Self>, reason: CloseReason) {
        if reason == CloseReason::SlowConsumer {
            self.set(CUT);
            return;
        }
        self.set(ENDING);
        let switch = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(FLUSH_TIME).await;
            if let Some(switch) = switch.upgrade() {
                switch.set(CUT);
            }
        });
    }

    /// Returns how many bytes were written to the stream, of one on which a session was upgraded since
    /// then.
    pub(super) fn written(&self) -> u64 {
        let before = self.session.get().map_or(0, |(.., before)| *before);
        self.written.load(Ordering::Relaxed).saturating_sub(before)
    }

    /// Counts what was written; called by who writes to the stream, and nobody else.
    pub(super) fn count_written(&self, bytes: usize) {
        let written = self.written.load(Ordering::Relaxed) + bytes as u64;
        self.written.store(written, Ordering::Relaxed);
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    /// Writes to the stream unless it is cut, and counts what was written.
    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.state() >= CUT {
            return Poll::Ready(Err(cut()));
        }
        let written = write(cx);
        match written {
            Poll::Ready(Ok(bytes)) => self.count_written(bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.remember(1, cx);
                if self.state() >= CUT {
                    return Poll::Ready(Err(cut()));
                }
            }
        }
        written
    }

    /// Remembers who waits to read (0) or write (1). Called before the state is looked at again.
    fn remember(&self, side: usize, cx: &Context<'_>) {
        if let Some(slot) = self.wakers.lock().get_mut(side) {
            match slot {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *slot = Some(cx.waker().clone()),
            }
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Some((transports, session, _)) = self.session.get()
            && let Some(transports) = transports.upgrade()
        {
            // A reference to oneself cannot be upgraded any more, but compared.
            let is_other = |stream: &Weak<Self>| !std::ptr::eq(stream.as_ptr(), self);
            transports.streams.remove_if_mut(session, |_, streams| {
                streams.retain(is_other);
                streams.is_empty()
            });
        }
    }
}

#[repr(C)]
struct SwitchedStream {
    stream: TcpStream,
    switch: Arc<Switch>,
    throttle: Throttle,
    close_packet_read: bool,
    _open: OpenStream,
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the host")
}

impl AsyncRead for SwitchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.switch.state() == OPEN && self.throttle.poll_allowed(cx).is_ready() {
            let before = buffer.filled().len();
            let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
            if read.is_ready() {
                self.throttle.read(buffer.filled().len() - before);
                return read;
            }
        }
        // Also of one that is ending, to be woken when it is cut.
        self.switch.remember(0, cx);
        match self.switch.state() {
            OPEN => Poll::Pending,
            ENDING if !self.close_packet_read && buffer.remaining() >= CLOSE_PACKET.len() => {
                self.close_packet_read = true;
                buffer.put_slice(&CLOSE_PACKET);
                Poll::Ready(Ok(()))
            }
            ENDING => Poll::Pending,
            _ => Poll::Ready(Err(cut())),
        }
    }
}

impl AsyncWrite for SwitchedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self {
            stream,
            switch,
            throttle,
            ..
        } = self.get_mut();
        let written = switch.poll_write(cx, |cx| Pin::new(stream).poll_write(cx, bytes));
        throttle.wrote(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self {
            stream,
            switch,
            throttle,
            ..
        } = self.get_mut();
        let written = switch.poll_write(cx, |cx| Pin::new(stream).poll_write_vectored(cx, slices));
        throttle.wrote(&written);
        written
    }
}

/// The transports of all sessions, to be ended.
#[derive(Debug)]
pub(super) struct Transports {
    /// The streams that name a session for an upgrade, by its Engine.IO id. The server answers all
    /// alike, and only then finds that a session has been upgraded already.
    streams: DashMap<String, Vec<Weak<Switch>>>,
    /// Where what polls fetch is counted, by Engine.IO session id.
    polls: DashMap<String, Weak<Backlog>>,
    /// The path that Socket.IO is served under.
    path: String,
    /// The service itself, for requests of the host's own.
    router: OnceLock<Router>,
}

impl Transports {
    pub(super) fn new(path: &str) -> Arc<Self> {
        Arc::new(Self {
            streams: DashMap::new(),
            polls: DashMap::new(),
            path: path.to_owned(),
            router: OnceLock::new(),
        })
    }

    /// Remembers a stream on which a session may have been upgraded to a WebSocket.
    pub(super) fn upgraded(self: &Arc<Self>, session: &str, switch: &Arc<Switch>) {
        let before = switch.written.load(Ordering::Relaxed);
        let owner = (Arc::downgrade(self), session.to_owned(), before);
        if switch.session.set(owner).is_ok() {
            let mut streams = self.streams.entry(session.to_owned()).or_default();
            streams.push(Arc::downgrade(switch));
        }
    }

    /// Returns the stream that a session was upgraded on: the first of those that are there.
    pub(super) fn stream_of(&self, session: &str) -> Option<Arc<Switch>> {
        let streams = self.streams.get(session)?;
        streams.iter().find_map(Weak::upgrade)
    }

    /// Returns all streams that a session may have been upgraded on.
    fn streams_of(&self, session: &str) -> Vec<Arc<Switch>> {
        let streams = self.streams.get(session);
        let streams = streams.iter().flat_map(|streams| streams.iter());
        streams.filter_map(Weak::upgrade).collect()
    }

    /// Remembers where what the polls of a session fetch is counted.
    pub(super) fn count_polls(&self, session: &str, backlog: &Arc<Backlog>) {
        self.polls
            .insert(session.to_owned(), Arc::downgrade(backlog));
    }

    pub(super) fn forget_polls(&self, session: &str) {
        self.polls.remove(session);
    }

    /// Counts bytes that a poll of a session has fetched.
    pub(super) fn polled(&self, session: &str, bytes: u64) {
        if let Some(backlog) = self.polls.get(session).and_then(|entry| entry.upgrade()) {
            backlog.count_fetched(bytes);
            // The server's own packets in it, which are not counted, are forgotten at once.
            backlog.waits(self, session);
        }
    }

    #[cfg(test)]
    pub(super) fn counts_polls(&self, session: &str) -> bool {
        self.polls.contains_key(session)
    }

    /// Ends the transport under a socket. Must be called on a runtime.
    pub(super) fn close(self: &Arc<Self>, socket: &Socket<HostAdapter>, reason: CloseReason) {
        let session = socket.id.to_string();
        let mut switches = self.streams_of(&session);
        let backlog = socket.req_parts().extensions.get::<Arc<Backlog>>();
        switches.extend(backlog.and_then(|backlog| backlog.opened_on()));
        if socket.transport_type() == TransportType::Polling {
            let waits = backlog.filter(|_| reason != CloseReason::SlowConsumer);
            self.close_polling(session, waits.cloned());
        } else if switches.is_empty() {
            tracing::error!("a WebSocket without a stream of the host's");
        }
        for switch in switches {
            switch.end(reason);
        }
    }

    /// Ends a polling session by the request with which its client would; what waits for its next poll
    /// would be lost with it, so that is waited for.
    fn close_polling(self: &Arc<Self>, session: String, waits: Option<Arc<Backlog>>) {
        let Some(router) = self.router.get().cloned() else {
            return;
        };
        let uri = format!("{}/?EIO=4&transport=polling&sid={session}", self.path);
        let transports = self.clone();
        tokio::spawn(async move {
            let end = Instant::now() + POLLED_TIME;
            while let Some(backlog) = &waits
                && backlog.waits(&transports, &session) > 0
                && Instant::now() < end
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let request = Request::post(uri).body(Body::from("1"));
            if let Ok(request) = request {
                // The service never fails; an unknown session is an answer like any other.
                let _ = router.oneshot(request).await;
            }
        });
    }

    pub(super) fn serve_own_requests_by(&self, router: Router) {
        let _ = self.router.set(router);
    }
}

/// Counts the streams that are open.
struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The address of the peer of a request, as an extension of it.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// Accepts and serves until told to stop; streams that are open then go on until they end. For each
/// client so many bytes may wait that the host has sent.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    max_streams: usize,
    outgoing_bytes: usize,
    stopping: CancellationToken,
    streams: TaskTracker,
) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut full = false;
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => {
                failing = false;
                accepted
            }
            Err(error) => {
                // Out of file descriptors, most likely; a pause keeps this from being a busy loop.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "connections cannot be accepted; trying on");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if open.fetch_add(1, Ordering::AcqRel) >= max_streams {
            open.fetch_sub(1, Ordering::AcqRel);
            if !std::mem::replace(&mut full, true) {
                tracing::warn!(
                    max_streams,
                    "as many TCP streams as allowed are open; more are closed at once"
                );
            }
            continue;
        }
        full = false;
        prepare(&stream);
        let switch = Arc::new(Switch::default());
        let io = SwitchedStream {
            stream,
            switch: switch.clone(),
            throttle: Throttle::new(outgoing_bytes),
            close_packet_read: false,
            _open: OpenStream(open.clone()),
        };
        let service =
            router
                .clone()
                .map_request(move |mut request: Request<hyper::body::Incoming>| {
                    request.extensions_mut().insert(PeerAddress(address));
                    request.extensions_mut().insert(switch.clone());
                    request.map(Body::new)
                });
        let stopping = stopping.clone();
        streams.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
}

fn prepare(stream: &TcpStream) {
    let options = || {
        stream.set_nodelay(true)?;
        socket2::SockRef::from(stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))
    };
    if let Err(error) = options() {
        tracing::debug!(%error, "a stream's options could not be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_names_a_session_takes_no_other_from_it() {
        let transports = Transports::new("/socket.io");
        let [own, other] = [(); 2].map(|()| Arc::new(Switch::default()));
        transports.upgraded("s", &own);
        transports.upgraded("s", &other);
        let is_own = || Arc::ptr_eq(&transports.stream_of("s").unwrap(), &own);
        assert!(is_own());
        assert_eq!(transports.streams_of("s").len(), 2);
        drop(other);
        assert!(is_own());
        assert_eq!(transports.streams_of("s").len(), 1);
        drop(own);
        assert!(transports.streams_of("s").is_empty());
        assert!(transports.streams.is_empty(), "nothing is kept");
    }
}
