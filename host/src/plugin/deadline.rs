//! How long a call may take, and where it goes on when it takes long.

use super::{engine::LongCalls, guest::Waits};
use crate::ports::CallError;
use futures_util::future::BoxFuture;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// How long the calls of one event may wait for the store together.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often a call may give way before it is a long one. The first slice of its time is a part of
/// one, as it begins between two ticks of the clock.
const SHORT_SLICES: u32 = 2;

/// A call that runs: here as long as it is short, and then among the long ones.
enum Running<T> {
    Here(BoxFuture<'static, T>, u32),
    Apart(tokio_util::task::AbortOnDropHandle<T>),
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
        long.clock.wind();
        if let Poll::Ready(result) = call.as_mut().poll(context) {
            return Poll::Ready(Ok(result));
        }
        // What does not wait has used its slice up.
        if waits.is_waiting() {
            return Poll::Pending;
        }
        *slices += 1;
        if *slices < SHORT_SLICES {
            return Poll::Pending;
        }
        let call = std::mem::replace(call, Box::pin(std::future::pending()));
        *self = Self::Apart(long.spawn(call));
        self.poll_apart(context)
    }

    fn poll_apart(&mut self, context: &mut Context<'_>) -> Poll<Result<T, CallError>> {
        match self {
            Self::Here(..) => Poll::Pending,
            Self::Apart(call) => Pin::new(call).poll(context).map(|ended| {
                ended.map_err(|error| CallError::Unavailable(format!("the call ended: {error}")))
            }),
        }
    }
}

/// Runs a call until its deadline, which is as much later as it waits for the store. One that is
/// given up is dropped, and its instance with it.
///
/// # Errors
/// The call's own; `Timeout`; `Unavailable` when the store is waited for too long.
pub(super) async fn in_time<T: Send + 'static>(
    start: Instant,
    deadline: Duration,
    waits: &Waits,
    long: &LongCalls,
    call: BoxFuture<'static, Result<T, CallError>>,
) -> Result<T, CallError> {
    let mut running = Running::Here(call, 0);
    let mut call = std::pin::pin!(poll_fn(|context| running.poll(context, waits, long)));
    // Most calls end at once, and need no timer.
    if let Poll::Ready(result) = futures_util::poll!(call.as_mut()) {
        return result.flatten();
    }
    let mut waited = Duration::ZERO;
    loop {
        if let Ok(result) = timeout_at(start + deadline + waited, call.as_mut()).await {
            return result.flatten();
        }
        let before = std::mem::replace(&mut waited, waits.total());
        if waited > LONGEST_WAIT {
            let why = format!("state was waited for {LONGEST_WAIT:?}");
            return Err(CallError::Unavailable(why));
        }
        if waited == before {
            return Err(CallError::Timeout(deadline));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::clock::Clock, *};
    use std::sync::Arc;
    use tokio::sync::oneshot;

    const DEADLINE: Duration = Duration::from_secs(1);

    async fn run(
        waits: Arc<Waits>,
        call: impl Future<Output = Result<u8, CallError>> + Send + 'static,
    ) -> (Result<u8, CallError>, Duration) {
        let long = LongCalls::start(Clock::start(|_| true).unwrap()).unwrap();
        let start = Instant::now();
        let result = in_time(start, DEADLINE, &waits, &long, Box::pin(call)).await;
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
        assert!(took <= LONGEST_WAIT + DEADLINE * 2, "{took:?}");
    }

    #[tokio::test]
    async fn a_call_that_gives_way_again_and_again_goes_on_apart_and_ends_when_given_up() {
        let (told, dropped) = oneshot::channel::<()>();
        let long = LongCalls::start(Clock::start(|_| true).unwrap()).unwrap();
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
        let waits = Waits::default();
        let deadline = Duration::from_millis(50);
        let result = in_time(Instant::now(), deadline, &waits, &long, call).await;
        assert!(matches!(result, Err(CallError::Timeout(_))), "{result:?}");
        elsewhere.await.unwrap();
        assert!(dropped.await.is_err(), "its parts are dropped with it");
    }
}
