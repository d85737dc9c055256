//! Waiting for something to become true, without a fixed sleep: ask again and again until a deadline, then say what
//! was seen last.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long tests wait for what should happen soon: generous, since a loaded machine is slow and a passed test is not.
pub const SOON: Duration = Duration::from_secs(45);

const PAUSE: Duration = Duration::from_millis(20);

/// Asks `observe` until `expected` holds of what it returns, and returns that; fails after `deadline` with what was
/// awaited and what was seen last. An error of `observe` counts as "not yet".
pub async fn eventually<T, F>(
    awaited: &str,
    deadline: Duration,
    mut observe: impl FnMut() -> F,
    expected: impl Fn(&T) -> bool,
) -> Result<T>
where
    T: Debug,
    F: Future<Output = Result<T>>,
{
    let began = Instant::now();
    loop {
        let seen = match tokio::time::timeout(deadline, observe()).await {
            Ok(Ok(value)) if expected(&value) => return Ok(value),
            Ok(Ok(value)) => format!("{value:?}"),
            Ok(Err(error)) => format!("error: {error:#}"),
            Err(_) => "no answer at all".to_owned(),
        };
        if began.elapsed() >= deadline {
            return Err(anyhow!("waited {deadline:?} in vain for: {awaited}\n  last seen: {seen}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn it_returns_the_first_value_that_was_expected() -> Result<()> {
        let count = AtomicU32::new(0);
        let next = || async { Ok(count.fetch_add(1, Ordering::SeqCst)) };
        assert_eq!(eventually("three", SOON, next, |seen| *seen == 3).await?, 3);
        Ok(())
    }

    #[tokio::test]
    async fn a_failure_says_what_was_awaited_and_what_was_seen() {
        let failure = eventually("a miracle", Duration::ZERO, || async { Ok(41) }, |seen| *seen == 42).await;
        let text = failure.unwrap_err().to_string();
        assert!(text.contains("a miracle") && text.contains("41"), "{text}");
    }

    #[tokio::test]
    async fn a_question_that_never_returns_does_not_outlast_the_deadline() {
        let never = || std::future::pending::<Result<()>>();
        let failure = eventually("an answer", Duration::from_millis(1), never, |()| true).await;
        assert!(failure.unwrap_err().to_string().contains("no answer"));
    }
}
