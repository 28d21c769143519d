//! The clock that makes guests give way. It ticks while guests run, and rests when none has for a
//! while: a thread that wakes a thousand times a second was a fifth of the processor's time of a host
//! that sends 5,000 messages a second, and nearly all of one that is idle.

use anyhow::{Context, Result};
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::Duration,
};

/// How long a guest runs before it lets others run; the deadline of a call is watched apart from it.
const TIME_SLICE: Duration = Duration::from_millis(1);

/// How often a clock that rests looks whether it is needed at all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A clock that ticks for as long as what it ticks for is there.
#[derive(Debug, Clone)]
pub(super) struct Clock(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    thread: OnceLock<Thread>,
    /// How many guests run now. It ticks as long as there is one, which may be for any time before it
    /// comes to where it gives way.
    running: AtomicUsize,
    /// Whether a guest has begun to run since the last tick.
    is_wanted: AtomicBool,
    rests: AtomicBool,
}

/// A guest that runs.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Clock {
    /// Starts a clock that calls `tick` until that returns false.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub(super) fn start(tick: impl FnMut(bool) -> bool + Send + 'static) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let ticking = shared.clone();
        let thread = std::thread::Builder::new()
            .name("guest clock".to_owned())
            .spawn(move || ticking.run(tick))
            .context("the clock's thread could not be started")?;
        shared.thread.get_or_init(|| thread.thread().clone());
        Ok(Self(shared))
    }

    /// Runs what guests run in: the clock ticks while it does. A guest that has used up its slice is
    /// polled again, and so goes on having a clock.
    pub(super) async fn during<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        poll_fn(|context| self.ticking(|| call.as_mut().poll(context))).await
    }

    /// Runs what a guest runs in once, while the clock ticks.
    pub(super) fn ticking<T>(&self, run: impl FnOnce() -> T) -> T {
        let _running = self.0.enter();
        run()
    }
}

impl Shared {
    fn enter(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        // Not written where it is set.
        if !self.is_wanted.load(Ordering::Relaxed) {
            self.is_wanted.store(true, Ordering::Relaxed);
        }
        // Either it is seen here that the clock rests, or there that a guest runs.
        if self.rests.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Running(self)
    }

    fn is_needed(&self) -> bool {
        self.running.load(Ordering::SeqCst) > 0 || self.is_wanted.load(Ordering::Relaxed)
    }

    fn run(&self, mut tick: impl FnMut(bool) -> bool) {
        loop {
            std::thread::sleep(TIME_SLICE);
            if !tick(true) {
                return;
            }
            // Where events come that often, none has to wake it.
            if self.is_needed() {
                self.is_wanted.store(false, Ordering::Relaxed);
                continue;
            }
            self.rests.store(true, Ordering::SeqCst);
            while !self.is_needed() {
                std::thread::park_timeout(LOOK_EVERY);
                if !tick(false) {
                    return;
                }
            }
            self.rests.store(false, Ordering::SeqCst);
            self.is_wanted.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::atomic::AtomicU64, time::Instant};

    fn counting() -> (Clock, Arc<AtomicU64>) {
        let ticks = Arc::new(AtomicU64::new(0));
        let counted = Arc::downgrade(&ticks);
        let clock = Clock::start(move |ticks| match counted.upgrade() {
            Some(count) => {
                count.fetch_add(ticks.into(), Ordering::Relaxed);
                true
            }
            None => false,
        });
        (clock.unwrap(), ticks)
    }

    fn until(condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < end, "in time");
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn it_rests_when_nothing_runs_and_ticks_for_each_that_does() {
        let (clock, ticks) = counting();
        let rests = || clock.0.rests.load(Ordering::SeqCst);
        for _ in 0..50 {
            until(rests);
            let before = ticks.load(Ordering::Relaxed);
            clock
                .during(async { until(|| ticks.load(Ordering::Relaxed) > before) })
                .await;
        }
    }

    #[tokio::test]
    async fn it_ticks_for_one_that_has_been_kept_from_running() {
        let (clock, ticks) = counting();
        for time in [0, 1, 2, 5, 20] {
            let call = async {
                std::thread::sleep(Duration::from_millis(time));
                let before = ticks.load(Ordering::Relaxed);
                until(|| ticks.load(Ordering::Relaxed) > before + 1);
            };
            clock.during(call).await;
        }
    }

    #[tokio::test]
    async fn it_does_not_rest_while_something_gives_way_again_and_again() {
        let (clock, ticks) = counting();
        let call = async {
            let end = ticks.load(Ordering::Relaxed) + 10;
            while ticks.load(Ordering::Relaxed) < end {
                let before = ticks.load(Ordering::Relaxed);
                until(|| ticks.load(Ordering::Relaxed) > before);
                tokio::task::yield_now().await;
            }
        };
        clock.during(call).await;
    }

    #[test]
    fn it_ends_with_what_it_ticks_for() {
        let (clock, ticks) = counting();
        drop(ticks);
        until(|| Arc::strong_count(&clock.0) == 1);
    }
}
