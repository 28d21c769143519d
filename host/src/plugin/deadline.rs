//! How long a call may take, and where it goes on when it takes long.
//!
//! A call may use so much of the processor's time. By the clock on the wall a call that others keep from
//! running, on a busy machine, would be at fault, and its plugin be quarantined for it.

use super::{engine::LongCalls, guest::Waits};
use crate::ports::CallError;
use futures_util::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// How long the calls of one event may wait for the store together.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// By how much the clock on the wall may be ahead of the time that a call has used: it may sleep, or be
/// kept from running.
const PATIENCE: u32 = 10;

/// How much later than that it may be noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How often a call may give way before it is a long one. The first slice of its time is a part of
/// one, as it begins between two ticks of the clock.
const SHORT_SLICES: u32 = 2;

/// A call that ends once it has used up its time. What it sleeps is its own doing, too.
struct Metered<T> {
    call: BoxFuture<'static, Result<T, CallError>>,
    waits: Arc<Waits>,
    deadline: Duration,
    used: Duration,
    /// Since when it waits for something else than its turn or the store, by what that is noticed to be
    /// over, and when it has waited too long.
    asleep: Option<(Instant, Arc<Noticed>, Pin<Box<Sleep>>)>,
    /// Most calls end with their first slice, which is not worth a look at the clock.
    has_begun: bool,
}

impl<T> Metered<T> {
    fn new(
        deadline: Duration,
        waits: Arc<Waits>,
        call: BoxFuture<'static, Result<T, CallError>>,
    ) -> Self {
        Self {
            call,
            waits,
            deadline,
            used: Duration::ZERO,
            asleep: None,
            has_begun: false,
        }
    }

    fn use_up(&mut self, time: Duration) {
        self.used += time;
        let nanos = u64::try_from(self.used.as_nanos()).unwrap_or(u64::MAX);
        self.waits.used.store(nanos, Ordering::Relaxed);
    }
}

impl<T> Future for Metered<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return self.call.as_mut().poll(context);
        }
        if let Some((since, noticed, _)) = self.asleep.take() {
            let woken = noticed.woken.get().copied().unwrap_or_else(Instant::now);
            self.use_up(woken.saturating_duration_since(since));
        }
        let noticed = Arc::new(Noticed {
            waker: context.waker().clone(),
            woken: OnceLock::new(),
        });
        let before = time_of_thread();
        let waker = Waker::from(noticed.clone());
        let polled = self.call.as_mut().poll(&mut Context::from_waker(&waker));
        self.use_up(time_of_thread().saturating_sub(before));
        if polled.is_ready() {
            return polled;
        }
        if self.used >= self.deadline {
            return Poll::Ready(Err(CallError::Timeout(self.deadline)));
        }
        // Who gives way wakes itself.
        if noticed.woken.get().is_none() && !self.waits.is_waiting() {
            let mut end = Box::pin(sleep(self.deadline - self.used));
            if end.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
            self.asleep = Some((Instant::now(), noticed, end));
        }
        Poll::Pending
    }
}

/// A waker that notices when it is used.
struct Noticed {
    waker: Waker,
    woken: OnceLock<Instant>,
}

impl Wake for Noticed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.get_or_init(Instant::now);
        self.waker.wake_by_ref();
    }
}

/// Returns how much of the processor's time this thread has used.
fn time_of_thread() -> Duration {
    // Never negative, and never without an answer for the thread that asks.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A call that runs: here as long as it is short, and then among the long ones.
enum Running<T> {
    Here(Metered<T>, u32),
    Apart(AbortOnDropHandle<Result<T, CallError>>),
    Moving,
}

impl<T: Send + 'static> Running<T> {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        waits: &Waits,
        long: &LongCalls,
    ) -> Poll<Result<T, CallError>> {
        let Self::Here(call, slices) = self else {
            return self.poll_apart(context);
        };
        if let Poll::Ready(result) = long.clock.ticking(|| Pin::new(call).poll(context)) {
            return Poll::Ready(result);
        }
        // What does not wait has used its slice up.
        if waits.is_waiting() {
            return Poll::Pending;
        }
        *slices += 1;
        if *slices < SHORT_SLICES {
            return Poll::Pending;
        }
        if let Self::Here(call, _) = std::mem::replace(self, Self::Moving) {
            *self = Self::Apart(long.spawn(call));
        }
        self.poll_apart(context)
    }

    fn poll_apart(&mut self, context: &mut Context<'_>) -> Poll<Result<T, CallError>> {
        match self {
            Self::Here(..) | Self::Moving => Poll::Pending,
            Self::Apart(call) => Pin::new(call).poll(context).map(|ended| {
                ended.unwrap_or_else(|error| {
                    Err(CallError::Unavailable(format!("the call ended: {error}")))
                })
            }),
        }
    }
}

/// Runs a call until it has used `deadline` of the processor's time or slept so long, or has taken
/// `PATIENCE` times that besides waiting for the store. One that is given up is dropped, and its
/// instance with it.
///
/// # Errors
/// The call's own; `Timeout` when its time is used up, or a good part of it is and it got no more;
/// `Unavailable` when the store is waited for too long, or the call hardly got to run.
pub(super) async fn in_time<T: Send + 'static>(
    start: Instant,
    deadline: Duration,
    waits: &Arc<Waits>,
    long: &LongCalls,
    call: BoxFuture<'static, Result<T, CallError>>,
) -> Result<T, CallError> {
    let mut running = Running::Here(Metered::new(deadline, waits.clone(), call), 0);
    let mut call = std::pin::pin!(poll_fn(|context| running.poll(context, waits, long)));
    // Most calls end at once, and need no timer.
    if let Poll::Ready(result) = futures_util::poll!(call.as_mut()) {
        return result;
    }
    let longest = deadline.saturating_mul(PATIENCE);
    loop {
        let waited = waits.total();
        let Some(patience) = LONGEST_WAIT.checked_sub(waited) else {
            let why = format!("state was waited for {LONGEST_WAIT:?}");
            return Err(CallError::Unavailable(why));
        };
        let took = start.elapsed().saturating_sub(waited);
        let Some(left) = longest.checked_sub(took) else {
            // Others of the same plugin may have kept it from running, which are no better.
            let used = Duration::from_nanos(waits.used.load(Ordering::Relaxed));
            if used >= deadline / PATIENCE {
                return Err(CallError::Timeout(deadline));
            }
            let why = format!("it was kept from running for {longest:?}");
            return Err(CallError::Unavailable(why));
        };
        // What is left of either is used up at the earliest then.
        let look = left.min(patience) + LOOK_AGAIN;
        if let Ok(result) = timeout(look, call.as_mut()).await {
            return result;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::clock::Clock, *};
    use tokio::sync::oneshot;

    const DEADLINE: Duration = Duration::from_secs(1);

    fn long() -> LongCalls {
        LongCalls::start(Clock::start(|_| true).unwrap()).unwrap()
    }

    async fn run(
        waits: Arc<Waits>,
        call: impl Future<Output = Result<u8, CallError>> + Send + 'static,
    ) -> (Result<u8, CallError>, Duration) {
        let start = Instant::now();
        let result = in_time(start, DEADLINE, &waits, &long(), Box::pin(call)).await;
        (result, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_store_does_not_count() {
        let waits = Arc::new(Waits::default());
        let (stored, inside) = (Duration::from_secs(5), waits.clone());
        let (result, took) = run(waits, async move {
            inside.during(tokio::time::sleep(stored)).await;
            Ok(1)
        })
        .await;
        assert_eq!(result.unwrap(), 1);
        assert!(took >= stored && took < stored + DEADLINE, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_on_top_of_the_waiting_does() {
        let waits = Arc::new(Waits::default());
        let inside = waits.clone();
        let (result, took) = run(waits, async move {
            inside
                .during(tokio::time::sleep(Duration::from_secs(3)))
                .await;
            std::future::pending().await
        })
        .await;
        assert!(matches!(result, Err(CallError::Timeout(_))), "{result:?}");
        assert!(took < Duration::from_secs(3) + DEADLINE * 2, "{took:?}");
    }

    /// Gives way as a guest does.
    async fn give_way() {
        let mut gave_way = false;
        poll_fn(|context| {
            if std::mem::replace(&mut gave_way, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// A call that gives way, and is kept from running so long each time.
    async fn kept_from_running(times: u32, time: Duration) -> Result<u8, CallError> {
        let mut call = Metered::new(
            DEADLINE,
            Arc::default(),
            Box::pin(async move {
                for _ in 0..times {
                    give_way().await;
                }
                Ok(1)
            }),
        );
        loop {
            if let Poll::Ready(result) = futures_util::poll!(&mut call) {
                return result;
            }
            tokio::time::sleep(time).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_kept_from_running_is_not_at_fault() {
        let result = kept_from_running(100, DEADLINE).await;
        assert_eq!(result.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_sleeps_is() {
        for (times, time, in_time) in [
            (8, DEADLINE / 10, true),
            (12, DEADLINE / 10, false),
            (2, DEADLINE * 1_000, false),
        ] {
            let call = Box::pin(async move {
                give_way().await;
                for _ in 0..times {
                    sleep(time).await;
                }
                Ok(1)
            });
            let start = Instant::now();
            let result = Metered::new(DEADLINE, Arc::default(), call).await;
            match in_time {
                true => assert_eq!(result.unwrap(), 1),
                false => assert!(matches!(result, Err(CallError::Timeout(_))), "{result:?}"),
            }
            assert!(start.elapsed() <= DEADLINE * 2);
        }
    }

    #[tokio::test]
    async fn a_call_that_runs_ends_when_its_time_is_used_up() {
        let deadline = Duration::from_millis(50);
        let (told, mut used) = tokio::sync::watch::channel(Duration::ZERO);
        let call: BoxFuture<'static, Result<u8, CallError>> = Box::pin(async move {
            let mut used = Duration::ZERO;
            loop {
                let before = time_of_thread();
                while time_of_thread() - before < Duration::from_millis(1) {}
                used += time_of_thread() - before;
                told.send_replace(used);
                give_way().await;
            }
        });
        let result = Metered::new(deadline, Arc::default(), call).await;
        assert!(matches!(result, Err(CallError::Timeout(_))), "{result:?}");
        let used = *used.borrow_and_update();
        assert!(used >= deadline && used < deadline * 2, "{used:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_answers_is_out_of_reach() {
        let waits = Arc::new(Waits::default());
        let inside = waits.clone();
        let (result, took) = run(waits, async move {
            inside.during(std::future::pending::<()>()).await;
            Ok(1)
        })
        .await;
        assert!(
            matches!(result, Err(CallError::Unavailable(_))),
            "{result:?}"
        );
        assert!(took <= LONGEST_WAIT + DEADLINE, "{took:?}");
    }

    #[tokio::test]
    async fn a_call_that_gives_way_again_and_again_goes_on_apart_and_ends_when_given_up() {
        let (told, dropped) = oneshot::channel::<()>();
        let long = long();
        let here = std::thread::current().id();
        let (moved, elsewhere) = oneshot::channel();
        let call: BoxFuture<'static, Result<u8, CallError>> = Box::pin(async move {
            let _told = told;
            let mut moved = Some(moved);
            loop {
                tokio::task::yield_now().await;
                if std::thread::current().id() != here
                    && let Some(moved) = moved.take()
                {
                    moved.send(()).unwrap();
                }
            }
        });
        let waits = Arc::default();
        let deadline = Duration::from_millis(50);
        let result = in_time(Instant::now(), deadline, &waits, &long, call).await;
        assert!(matches!(result, Err(CallError::Timeout(_))), "{result:?}");
        elsewhere.await.unwrap();
        assert!(dropped.await.is_err(), "its parts are dropped with it");
    }
}
