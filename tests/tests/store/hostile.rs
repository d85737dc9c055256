//! Leases and waiting notifications that somebody else has written: whatever they hold, they are read or refused.
//! Messages on the bus have theirs in `common/src/messages/hostile.rs`.

use proptest::prelude::*;
use proptest::sample::Index;
use sqlsentinel_coordinator::lease::LeaseValue;
use sqlsentinel_notifier::render::Payload;
use sqlsentinel_tests::programs::root;

/// The samples that are kept of version 0.2.0, a document in each line.
fn samples(file: &str) -> Result<Vec<String>, TestCaseError> {
    let text = std::fs::read_to_string(root().join("tests/fixtures/0.2.0").join(file));
    let text = text.map_err(|error| TestCaseError::fail(format!("{file}: {error}")))?;
    Ok(text.lines().map(str::to_owned).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_lease_or_notification_makes_a_reader_panic(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        for file in ["leases.jsonl", "payloads.jsonl"] {
            let samples = samples(file)?;
            let mut text = which.get(&samples).clone().into_bytes();
            let (lease, payload) = (serde_json::from_slice::<LeaseValue>(&text), serde_json::from_slice::<Payload>(&text));
            prop_assert!(lease.is_ok() || payload.is_ok(), "the sample itself is read");
            for (place, byte, insert) in &changes {
                let at = place.index(text.len());
                text.splice(at..at + usize::from(!insert), [*byte]);
            }
            let _ = serde_json::from_slice::<LeaseValue>(&text);
            let _ = serde_json::from_slice::<Payload>(&text);
            // Cut off, it is no document any more.
            let cut = &text[..text.len() / 2];
            prop_assert!(serde_json::from_slice::<LeaseValue>(cut).is_err() && serde_json::from_slice::<Payload>(cut).is_err());
        }
    }
}
