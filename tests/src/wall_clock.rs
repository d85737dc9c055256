//! The machine's wall clock, which in tests is also the servers': all of them run here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in microseconds since the Unix epoch: the unit of the ledger.
#[expect(clippy::disallowed_methods, reason = "an auditor's clock must not be the audited program's")]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Sleeps until the wall clock shows `moment`, in microseconds; returns at once if it has passed.
pub async fn sleep_until(moment: i64) {
    let left = u64::try_from(moment - now()).unwrap_or_default();
    tokio::time::sleep(Duration::from_micros(left)).await;
}

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
