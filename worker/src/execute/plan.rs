//! Whether a delivered job is run, and for how long. Pure.

use std::time::Duration;

use sqlsentinel_common::messages::Job;
use sqlsentinel_common::timestamp::Timestamp;

/// After this many deliveries without an end a job is given up: whatever ends its workers is probably in it.
pub(super) const MAX_DELIVERIES: u32 = 5;

/// What to do with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Run it, for at most this long.
    Run(Duration),
    /// Its deadline has passed: nobody wants to know any more.
    Overdue,
    /// It was handed out too often.
    Abandon,
}

/// What to do with `job`, handed out for the `delivery`-th time, at `now` on the cluster's clock.
pub(super) fn plan(job: &Job, delivery: u32, now: Timestamp) -> Plan {
    let left = job.deadline.since(now);
    if left.is_zero() {
        Plan::Overdue
    } else if delivery > MAX_DELIVERIES {
        Plan::Abandon
    } else {
        Plan::Run(left.min(Duration::from_millis(job.timeout_ms)))
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::alert::{ConfigHash, QueryOptions, SourceName};
    use sqlsentinel_common::ids::ExecutionId;
    use sqlsentinel_common::messages::MESSAGE_VERSION;

    use super::*;

    #[test]
    fn a_run_ends_with_its_time_out_or_its_deadline_and_is_not_begun_too_late_or_too_often() {
        let deadline = Timestamp::from_micros(100_000_000);
        let job = Job {
            version: MESSAGE_VERSION,
            execution_id: ExecutionId::manual(),
            alert_name: "a".to_owned(),
            scheduled_for: Timestamp::from_micros(1),
            attempt: 1,
            config_hash: ConfigHash::of("{}"),
            source: SourceName::default_source(),
            query: "SELECT 1".to_owned(),
            options: QueryOptions::default(),
            timeout_ms: 30_000,
            deadline,
        };
        let seconds = Duration::from_secs;
        for (before_deadline, delivery, expected) in [
            (60, 1, Plan::Run(seconds(30))),
            (60, MAX_DELIVERIES, Plan::Run(seconds(30))),
            (60, MAX_DELIVERIES + 1, Plan::Abandon),
            (10, 1, Plan::Run(seconds(10))),
            (0, 1, Plan::Overdue),
            (0, MAX_DELIVERIES + 1, Plan::Overdue),
        ] {
            assert_eq!(
                plan(&job, delivery, deadline.minus(seconds(before_deadline))),
                expected,
                "{before_deadline} {delivery}"
            );
        }
        assert_eq!(plan(&job, 1, deadline.plus(seconds(1))), Plan::Overdue);
    }
}
