//! Telling the broker that a job is being worked on, and knowing when it can no longer hear that.
//!
//! The broker hands a job to somebody else when it has heard nothing for `CONSUMER_ACK_WAIT`. A worker that could not
//! reach it must have cancelled its query before that, or the target database runs the same query twice at once.

use std::convert::Infallible;
use std::time::Duration;

use sqlsentinel_common::bus::CONSUMER_ACK_WAIT;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How much earlier than the broker this side gives up: cancelling at a database takes up to two seconds.
const MARGIN: Duration = Duration::from_millis(2_500);
/// How long after the last confirmed sign of life a job may go on.
const TRUST: Duration = CONSUMER_ACK_WAIT.saturating_sub(MARGIN);
/// How often a sign of life is given.
const EVERY: Duration = Duration::from_millis(CONSUMER_ACK_WAIT.as_millis() as u64 / 3);
/// How soon one that was not heard is repeated.
const AGAIN: Duration = Duration::from_millis(500);

/// Gives signs of life by `progress` for ever. When none was confirmed for too long, calls `lost` and cancels `cancel`,
/// once; signs of life go on, since the outcome may still have to be published.
pub(super) async fn keep<E, F>(progress: impl Fn() -> F, cancel: &CancellationToken, lost: impl Fn()) -> Infallible
where
    E: std::fmt::Display,
    F: Future<Output = Result<(), E>>,
{
    let (mut reached, mut pause) = (Instant::now(), EVERY);
    loop {
        let sign = async {
            sleep(pause).await;
            // The broker's clock began anew at some time after this moment.
            let sent = Instant::now();
            progress().await.map(|()| sent)
        };
        tokio::select! {
            sign = sign => match sign {
                Ok(sent) => (reached, pause) = (sent, EVERY),
                Err(error) => {
                    tracing::debug!(%error, "a sign of life was not confirmed");
                    pause = AGAIN;
                }
            },
            () = sleep_until(reached + TRUST), if !cancel.is_cancelled() => {
                lost();
                cancel.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_query_goes_on_as_long_as_the_broker_hears_of_it() {
        let (cancel, signs) = (CancellationToken::new(), Cell::new(0));
        let progress = || async {
            signs.set(signs.get() + 1);
            Ok::<_, String>(())
        };
        let _ = timeout(CONSUMER_ACK_WAIT * 10, keep(progress, &cancel, || {})).await;
        assert!(!cancel.is_cancelled());
        assert!(signs.get() >= 29, "{}", signs.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_is_cancelled_before_the_broker_hands_its_job_to_somebody_else() {
        for hangs in [false, true] {
            let (cancel, heard) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
            let last_heard = Cell::new(Instant::now());
            let progress = || async {
                if heard.load(Ordering::Relaxed) {
                    last_heard.set(Instant::now());
                    return Ok(());
                }
                if hangs { std::future::pending().await } else { Err("not connected") }
            };
            let lost = Cell::new(0);
            tokio::select! {
                never = keep(progress, &cancel, || lost.set(lost.get() + 1)) => match never {},
                () = async { sleep(CONSUMER_ACK_WAIT * 3).await; heard.store(false, Ordering::Relaxed); cancel.cancelled().await } => {}
            }
            let silence = last_heard.get().elapsed();
            assert!(
                silence > CONSUMER_ACK_WAIT / 2 && silence + Duration::from_secs(2) < CONSUMER_ACK_WAIT,
                "{silence:?}"
            );
            assert_eq!(lost.get(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_sign_that_was_not_heard_is_repeated_in_time() {
        let (cancel, signs) = (CancellationToken::new(), Cell::new(0_u32));
        let progress = || async {
            signs.set(signs.get() + 1);
            if signs.get() % 2 == 0 { Ok(()) } else { Err("no answer in time") }
        };
        let _ = timeout(CONSUMER_ACK_WAIT * 10, keep(progress, &cancel, || {})).await;
        assert!(!cancel.is_cancelled());
    }
}
