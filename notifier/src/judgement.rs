//! What a batch of runs does to the states of its alerts and their instances, and which notifications follow. Pure.
//!
//! Input: the runs with their definitions, the states as they were; or a state that a silence has left behind. Output:
//! the states that have moved and what goes into the outbox: one notification for each notice of [`crate::transition`],
//! of an alert itself or of one of its instances (`memory`), and route of the definition.

mod memory;

use std::collections::{BTreeMap, BTreeSet};

use sqlsentinel_common::alert::AlertDefinition;
use sqlsentinel_common::ids::NotificationId;
use sqlsentinel_common::store::outbox::{NewNotification, NoticeKind};
use sqlsentinel_common::store::outcomes::{AlertState, InstanceState, Instances, LastWord, RecordedRun};
use sqlsentinel_common::timestamp::Timestamp;

pub use self::memory::ITSELF;
use self::memory::{Decided, Heard, Memory};
use crate::render::Payload;
use crate::transition::{Judged, Reason, Rule, catch_up};

/// A run and the definition that it is judged by.
pub type DefinedRun<'a> = (RecordedRun<'a>, &'a AlertDefinition);

/// What a batch comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// The states that are not what they were.
    pub moved: Vec<AlertState>,
    /// The instances that are not what they were.
    pub instances: Vec<InstanceState>,
    /// Alerts and instances of theirs of which nothing has to be remembered any more.
    pub ended: BTreeSet<(String, String)>,
    /// What is to be told.
    pub notifications: Vec<NewNotification>,
    /// Why, for each run, in the order in which they were judged.
    pub decisions: Vec<Decision>,
}

/// What was decided about one run: about its alert, and then about each instance with which it did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The run's place in the batch.
    pub run: usize,
    /// The instance; [`ITSELF`].
    pub instance: String,
    /// Why.
    pub reason: Reason,
    /// What is to be told.
    pub notices: Vec<NoticeKind>,
}

/// Judges runs in the order of their nominal times, whatever their order in the batch.
pub fn judge_all(
    mut states: BTreeMap<String, AlertState>,
    mut instances: BTreeMap<String, Instances>,
    runs: &[DefinedRun<'_>],
) -> Result<Judgement, serde_json::Error> {
    let mut in_order: Vec<(usize, &DefinedRun<'_>)> = runs.iter().enumerate().collect();
    in_order.sort_by_key(|(_, (run, _))| run.scheduled_for);
    let mut memories: BTreeMap<&str, (Memory, Instances)> = BTreeMap::new();
    let mut moved = BTreeSet::new();
    let mut judgement = Judgement::default();
    for (place, (run, definition)) in in_order {
        let (memory, _) = memories.entry(run.alert_name).or_insert_with(|| {
            let alert = states.remove(run.alert_name).unwrap_or_default();
            let instances = instances.remove(run.alert_name).unwrap_or_default();
            let alert = AlertState { alert_name: run.alert_name.to_owned(), ..alert };
            (Memory { alert, instances: instances.clone() }, instances)
        });
        let verdict = &run.outcome.verdict;
        let judged = Judged {
            execution_id: run.outcome.execution_id,
            scheduled_for: run.scheduled_for,
            started_at: run.outcome.started_at,
            status: verdict.status,
        };
        let heard = Heard { judged, verdict, key: &definition.options.instance_key };
        let all_decided = memory.judge(&heard, Rule::of(definition));
        if all_decided.iter().any(|decided| decided.reason != Reason::Older) {
            moved.insert(run.alert_name);
        }
        judgement.add(place, memory, all_decided, definition)?;
    }
    for (alert, (memory, before)) in memories {
        if moved.contains(alert) {
            judgement.keep(memory, &before);
        }
    }
    Ok(judgement)
}

/// What an alert whose silence is over still has to tell, judged by today's `definition`: by its newest run that said
/// something, or where it has `instances`, by what they remember. None if there is nothing any more.
pub fn judge_untold(
    before: &AlertState,
    instances: &Instances,
    word: &LastWord,
    definition: &AlertDefinition,
    now: Timestamp,
) -> Result<Option<Judgement>, serde_json::Error> {
    // Somebody was faster: another sweep has told it, or there is a silence again.
    if before.silenced || !before.untold {
        return Ok(None);
    }
    let mut memory = Memory { alert: before.clone(), instances: instances.clone() };
    let all_decided = if instances.is_empty() {
        // A newer outcome was judged meanwhile.
        if before.condition_execution_id.or(before.last_execution_id) != Some(word.execution_id) {
            return Ok(None);
        }
        let step = catch_up(before, &definition.rules, now);
        memory.alert = step.state;
        let word = memory::Word {
            execution_id: word.execution_id,
            scheduled_for: word.scheduled_for,
            verdict: std::borrow::Cow::Borrowed(&word.verdict),
        };
        vec![Decided { instance: ITSELF.to_owned(), reason: step.reason, notices: step.notices, word }]
    } else {
        memory.catch_up(&definition.rules, now)
    };
    let mut judgement = Judgement::default();
    judgement.add(0, &mut memory, all_decided, definition)?;
    judgement.keep(memory, instances);
    Ok(Some(judgement))
}

impl Judgement {
    /// Adds everything of another one that is about other alerts.
    pub fn extend(&mut self, other: Self) {
        let Self { moved, instances, ended, notifications, decisions } = other;
        self.moved.extend(moved);
        self.instances.extend(instances);
        self.ended.extend(ended);
        self.notifications.extend(notifications);
        self.decisions.extend(decisions);
    }

    /// Adds what was decided about one run.
    fn add(
        &mut self,
        run: usize,
        memory: &mut Memory,
        all_decided: Vec<Decided<'_>>,
        definition: &AlertDefinition,
    ) -> Result<(), serde_json::Error> {
        for decided in all_decided {
            for kind in &decided.notices {
                let sequence = memory.next_sequence();
                let errors = memory.alert.consecutive_errors;
                self.notifications.extend(to_every_route(&decided, definition, *kind, sequence, errors)?);
            }
            let Decided { instance, reason, notices, .. } = decided;
            self.decisions.push(Decision { run, instance, reason, notices });
        }
        Ok(())
    }

    /// Adds an alert that has moved, with what has become of its instances since `before`.
    fn keep(&mut self, memory: Memory, before: &Instances) {
        let Memory { alert, instances } = memory;
        let ended = before.keys().filter(|name| !instances.contains_key(*name));
        self.ended.extend(ended.map(|name| (alert.alert_name.clone(), name.clone())));
        self.instances.extend(instances.into_values().filter(|part| before.get(&part.instance) != Some(part)));
        self.moved.push(alert);
    }
}

fn to_every_route(
    decided: &Decided<'_>,
    definition: &AlertDefinition,
    kind: NoticeKind,
    sequence: i64,
    consecutive_errors: i64,
) -> Result<Vec<NewNotification>, serde_json::Error> {
    let Decided { instance, word, .. } = decided;
    let payload = Payload::new(definition, &word.verdict, consecutive_errors);
    let payload = serde_json::to_string(&payload)?;
    let execution_id = word.execution_id;
    let routes = definition.notify.iter().map(|route| NewNotification {
        notification_id: NotificationId::of(execution_id, kind.as_str(), sequence, instance, &route.key),
        execution_id,
        alert_name: definition.name.clone(),
        instance: instance.clone(),
        route_key: route.key.clone(),
        channel: route.channel.as_str(),
        kind,
        sequence,
        scheduled_for: word.scheduled_for,
        payload: payload.clone(),
    });
    Ok(routes.collect())
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::ids::ExecutionId;
    use sqlsentinel_common::outcome::{RunStatus, Verdict};
    use sqlsentinel_common::store::outcomes::Condition;

    use super::*;

    const DEFINITION: &str = r#"{"name":"revenue","description":"","query":"SELECT 1","source":"default","schedule":{"text":"@daily","timezone":"UTC"},"timeout_ms":30000,"enabled":true,"notify":[{"key":"ops","channel":"webhook"}],"error_after":3}"#;

    /// What a sweep has found may be past by the time it holds the state's lock.
    #[test]
    fn what_a_sweep_found_counts_only_while_the_locked_state_still_says_so() -> Result<(), serde_json::Error> {
        let definition: AlertDefinition = serde_json::from_str(DEFINITION)?;
        let (run, newer) = (ExecutionId::manual(), ExecutionId::manual());
        let (due, now) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
        let found = AlertState {
            alert_name: "revenue".to_owned(),
            condition: Some(Condition::Alert),
            condition_execution_id: Some(run),
            last_execution_id: Some(newer),
            untold: true,
            ..AlertState::default()
        };
        let word = LastWord {
            alert_name: "revenue".to_owned(),
            definition: Ok(definition.clone()),
            execution_id: run,
            scheduled_for: due,
            verdict: Verdict::bare(RunStatus::Alert),
        };
        let told = judge_untold(&found, &Instances::new(), &word, &definition, now)?.unwrap_or_default();
        assert_eq!(told.notifications.iter().map(|told| told.execution_id).collect::<Vec<_>>(), [run]);
        assert_eq!(told.moved.iter().map(|state| (state.untold, state.sequence)).collect::<Vec<_>>(), [(false, 1)]);
        for locked in [
            AlertState { untold: false, ..found.clone() },
            AlertState { silenced: true, ..found.clone() },
            AlertState { condition_execution_id: Some(newer), ..found.clone() },
        ] {
            assert_eq!(judge_untold(&locked, &Instances::new(), &word, &definition, now)?, None, "{locked:?}");
        }
        Ok(())
    }
}
