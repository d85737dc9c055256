//! Payloads that were made to break the reader, and payloads that must come back as they were.

use proptest::prelude::*;
use proptest::sample::Index;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::*;
use crate::api::{LeaderReport, ProcessReport, StepDownAnswer, StepDownRequest};
use crate::outcome::{ErrorKind, RunError, RunStatus, Verdict};
use crate::store::history::AlertStatus;

/// RFC 3339 has four digits for a year.
fn moment() -> impl Strategy<Value = Timestamp> {
    (0..253_402_300_799_999_999_i64).prop_map(Timestamp::from_micros)
}

fn id() -> impl Strategy<Value = ExecutionId> {
    any::<u128>().prop_map(|bits| uuid::Uuid::from_u128(bits).to_string().parse().unwrap())
}

fn source() -> impl Strategy<Value = SourceName> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|name| SourceName::try_from(name).unwrap())
}

prop_compose! {
    fn job()(
        execution_id in id(), alert_name in ".*", scheduled_for in moment(), attempt in any::<u32>(), version in ".*",
        source in source(), query in ".*", timeout_ms in any::<u64>(), deadline in moment(),
    ) -> Job {
        let (config_hash, options) = (ConfigHash::of(&version), QueryOptions::default());
        Job {
            version: MESSAGE_VERSION, execution_id, alert_name, scheduled_for, attempt, config_hash, source, query, options,
            timeout_ms, deadline,
        }
    }
}

/// A cell of any kind. Numbers have whatever digits the database gave them.
fn cell() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "-?[1-9][0-9]{0,40}(\\.[0-9]{1,30})?".prop_map(|digits| serde_json::from_str(&digits).unwrap()),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,8}", inner), 0..4)
                .prop_map(|entries| entries.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

prop_compose! {
    fn outcome()(
        job in job(), delivery in any::<u32>(), worker in ".*", micros in 0..3_600_000_000_u32, status in 0..4_usize,
        actual_value in prop::option::of(cell().prop_filter("none is null", |value| !value.is_null())),
        context in prop::collection::vec((".{0,8}", cell()), 0..4), message in prop::option::of(".*"), truncated in any::<bool>(),
    ) -> OutcomeMessage {
        let status = [RunStatus::Ok, RunStatus::Alert, RunStatus::Error, RunStatus::NoData][status];
        let error = message.map(|message| RunError { kind: ErrorKind::Limit, message });
        let verdict =
            Verdict { actual_value, context: context.into_iter().collect(), truncated, error, ..Verdict::bare(status) };
        OutcomeMessage {
            version: MESSAGE_VERSION, execution_id: job.execution_id, alert_name: job.alert_name,
            scheduled_for: job.scheduled_for, attempt: job.attempt, delivery, config_hash: job.config_hash,
            source: job.source, worker, started_at: job.deadline, duration_ms: f64::from(micros) / 1e3, verdict,
        }
    }
}

/// Whatever a reader makes of it, it answers.
fn read_by_all(payload: &[u8]) {
    let _ = decode::<Job>(payload);
    let _ = decode::<OutcomeMessage>(payload);
    let _ = serde_json::from_slice::<ProcessReport>(payload);
    let _ = serde_json::from_slice::<LeaderReport>(payload);
    let _ = serde_json::from_slice::<StepDownRequest>(payload);
    let _ = serde_json::from_slice::<StepDownAnswer>(payload);
    let _ = serde_json::from_slice::<Vec<AlertStatus>>(payload);
    let _ = serde_json::from_slice::<crate::alert::AlertDefinition>(payload);
}

fn comes_back<M: Versioned + PartialEq + std::fmt::Debug + DeserializeOwned>(message: &M) -> Result<(), TestCaseError> {
    let payload = serde_json::to_vec(message).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let back = decode::<M>(&payload).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&back, message);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_job_comes_back_as_it_was(job in job()) {
        comes_back(&job)?;
    }

    #[test]
    fn an_outcome_comes_back_as_it_was(outcome in outcome()) {
        comes_back(&outcome)?;
    }

    #[test]
    fn no_bytes_make_a_reader_panic(payload in prop::collection::vec(any::<u8>(), 0..400)) {
        read_by_all(&payload);
    }

    #[test]
    fn a_payload_that_was_cut_is_an_error(job in job(), outcome in outcome(), at in any::<Index>()) {
        let payload = serde_json::to_vec(&job).unwrap();
        prop_assert!(decode::<Job>(&payload[..at.index(payload.len())]).is_err());
        let payload = serde_json::to_vec(&outcome).unwrap();
        prop_assert!(decode::<OutcomeMessage>(&payload[..at.index(payload.len())]).is_err());
    }

    #[test]
    fn no_changed_payload_makes_a_reader_panic(
        job in job(), outcome in outcome(), changes in prop::collection::vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        for mut payload in [serde_json::to_vec(&job).unwrap(), serde_json::to_vec(&outcome).unwrap()] {
            for (place, byte, insert) in &changes {
                let at = place.index(payload.len());
                payload.splice(at..at + usize::from(!insert), [*byte]);
            }
            read_by_all(&payload);
        }
    }

    #[test]
    fn a_newer_message_is_reported_as_its_version(version in 2..u32::MAX, rest in "[a-z]{1,8}") {
        let payload = format!("{{\"{rest}\":1,\"version\":{version}}}");
        let error = decode::<Job>(payload.as_bytes()).unwrap_err();
        prop_assert!(matches!(error, DecodeError::Version { found } if found == version), "{error}");
    }
}

#[test]
fn however_deep_a_payload_is_it_is_an_error_and_the_process_lives() {
    for (begin, end) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", begin.repeat(100_000), end.repeat(100_000));
        for key in ["version", "verdict", "options", "unknown"] {
            let payload = format!("{{\"version\":1,\"{key}\":{deep}}}");
            assert!(decode::<Job>(payload.as_bytes()).is_err());
            assert!(decode::<OutcomeMessage>(payload.as_bytes()).is_err());
            assert!(serde_json::from_slice::<ProcessReport>(payload.as_bytes()).is_err());
        }
    }
}
