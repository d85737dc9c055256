//! What a batch of runs does to the states of its alerts, and which notifications follow. Pure.
//!
//! Input: the runs with their definitions, the states as they were; or a state that a silence has left behind. Output: the states that have moved and what goes
//! into the outbox: one notification for each notice of [`crate::transition`] and route of the definition.

use std::collections::{BTreeMap, BTreeSet};

use sqlsentinel_common::alert::AlertDefinition;
use sqlsentinel_common::ids::{ExecutionId, NotificationId};
use sqlsentinel_common::outcome::Verdict;
use sqlsentinel_common::store::outbox::{NewNotification, NoticeKind};
use sqlsentinel_common::store::outcomes::{AlertState, LastWord, RecordedRun};
use sqlsentinel_common::timestamp::Timestamp;

use crate::render::Payload;
use crate::transition::{Judged, Reason, Rule, Transition, catch_up, judge};

/// An alert whose query has one row has no instances.
const NO_INSTANCE: &str = "";

/// A run and the definition that it is judged by.
pub type DefinedRun<'a> = (RecordedRun<'a>, &'a AlertDefinition);

/// What a batch comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// The states that are not what they were.
    pub moved: Vec<AlertState>,
    /// What is to be told.
    pub notifications: Vec<NewNotification>,
    /// Why, for each run, in the order in which they were judged.
    pub decisions: Vec<Decision>,
}

/// What was decided about one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The run's place in the batch.
    pub run: usize,
    /// Why.
    pub reason: Reason,
    /// What is to be told.
    pub notices: Vec<NoticeKind>,
}

/// Judges runs in the order of their nominal times, whatever their order in the batch.
pub fn judge_all(
    mut states: BTreeMap<String, AlertState>,
    runs: &[DefinedRun<'_>],
) -> Result<Judgement, serde_json::Error> {
    let mut in_order: Vec<(usize, &DefinedRun<'_>)> = runs.iter().enumerate().collect();
    in_order.sort_by_key(|(_, (run, _))| run.scheduled_for);
    let mut moved = BTreeSet::new();
    let (mut notifications, mut decisions) = (Vec::new(), Vec::new());
    for (place, (run, definition)) in in_order {
        let state = states.entry(run.alert_name.to_owned()).or_default();
        let judged = Judged {
            execution_id: run.outcome.execution_id,
            scheduled_for: run.scheduled_for,
            started_at: run.outcome.started_at,
            status: run.outcome.verdict.status,
        };
        let transition = judge(state, &judged, Rule::of(definition));
        if transition.reason != Reason::Older {
            moved.insert(run.alert_name);
            *state = AlertState { alert_name: run.alert_name.to_owned(), ..transition.state };
        }
        for kind in &transition.notices {
            state.sequence += 1;
            let cause = Cause {
                execution_id: run.outcome.execution_id,
                scheduled_for: run.scheduled_for,
                verdict: &run.outcome.verdict,
            };
            notifications.extend(to_every_route(&cause, definition, *kind, state)?);
        }
        decisions.push(Decision { run: place, reason: transition.reason, notices: transition.notices });
    }
    let moved = moved.into_iter().filter_map(|alert| states.remove(alert)).collect();
    Ok(Judgement { moved, notifications, decisions })
}

/// What an alert whose silence is over still has to tell, by its newest run that said something, judged by today's
/// `definition`; none if there is nothing any more.
pub fn judge_untold(
    before: &AlertState,
    word: &LastWord,
    definition: &AlertDefinition,
    now: Timestamp,
) -> Result<Option<Judgement>, serde_json::Error> {
    // Somebody was faster: another sweep has told it, a newer outcome was judged, or there is a silence again.
    let said = before.condition_execution_id.or(before.last_execution_id);
    if before.silenced || !before.untold || said != Some(word.execution_id) {
        return Ok(None);
    }
    let Transition { mut state, notices, reason } = catch_up(before, &definition.rules, now);
    let cause = Cause { execution_id: word.execution_id, scheduled_for: word.scheduled_for, verdict: &word.verdict };
    let mut notifications = Vec::new();
    for kind in &notices {
        state.sequence += 1;
        notifications.extend(to_every_route(&cause, definition, *kind, &state)?);
    }
    Ok(Some(Judgement { moved: vec![state], notifications, decisions: vec![Decision { run: 0, reason, notices }] }))
}

/// What a notification is about.
struct Cause<'a> {
    execution_id: ExecutionId,
    scheduled_for: Timestamp,
    verdict: &'a Verdict,
}

fn to_every_route(
    cause: &Cause<'_>,
    definition: &AlertDefinition,
    kind: NoticeKind,
    state: &AlertState,
) -> Result<Vec<NewNotification>, serde_json::Error> {
    let payload = Payload::new(definition, cause.verdict, state.consecutive_errors);
    let payload = serde_json::to_string(&payload)?;
    let execution_id = cause.execution_id;
    let routes = definition.notify.iter().map(|route| NewNotification {
        notification_id: NotificationId::of(execution_id, kind.as_str(), state.sequence, NO_INSTANCE, &route.key),
        execution_id,
        alert_name: definition.name.clone(),
        instance: NO_INSTANCE.to_owned(),
        route_key: route.key.clone(),
        channel: route.channel.as_str(),
        kind,
        sequence: state.sequence,
        scheduled_for: cause.scheduled_for,
        payload: payload.clone(),
    });
    Ok(routes.collect())
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::outcome::RunStatus;
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
        let told = judge_untold(&found, &word, &definition, now)?.unwrap_or_default();
        assert_eq!(told.notifications.iter().map(|told| told.execution_id).collect::<Vec<_>>(), [run]);
        assert_eq!(told.moved.iter().map(|state| (state.untold, state.sequence)).collect::<Vec<_>>(), [(false, 1)]);
        for locked in [
            AlertState { untold: false, ..found.clone() },
            AlertState { silenced: true, ..found.clone() },
            AlertState { condition_execution_id: Some(newer), ..found.clone() },
        ] {
            assert_eq!(judge_untold(&locked, &word, &definition, now)?, None, "{locked:?}");
        }
        Ok(())
    }
}
