//! What a batch of runs does to the states of its alerts, and which notifications follow. Pure.
//!
//! Input: the runs with their definitions, the states as they were. Output: the states that have moved and what goes
//! into the outbox: one notification for each notice of [`crate::transition`] and route of the definition.

use std::collections::{BTreeMap, BTreeSet};

use sqlsentinel_common::alert::AlertDefinition;
use sqlsentinel_common::ids::NotificationId;
use sqlsentinel_common::store::outbox::{NewNotification, NoticeKind};
use sqlsentinel_common::store::outcomes::{AlertState, RecordedRun};

use crate::render::Payload;
use crate::transition::{Judged, Reason, judge};

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
        let transition = judge(state, &judged, definition.error_after);
        if transition.reason != Reason::Older {
            moved.insert(run.alert_name);
            *state = AlertState { alert_name: run.alert_name.to_owned(), ..transition.state };
        }
        for kind in &transition.notices {
            state.sequence += 1;
            notifications.extend(to_every_route(run, definition, *kind, state)?);
        }
        decisions.push(Decision { run: place, reason: transition.reason, notices: transition.notices });
    }
    let moved = moved.into_iter().filter_map(|alert| states.remove(alert)).collect();
    Ok(Judgement { moved, notifications, decisions })
}

fn to_every_route(
    run: &RecordedRun<'_>,
    definition: &AlertDefinition,
    kind: NoticeKind,
    state: &AlertState,
) -> Result<Vec<NewNotification>, serde_json::Error> {
    let payload = Payload::new(definition, &run.outcome.verdict, state.consecutive_errors);
    let payload = serde_json::to_string(&payload)?;
    let execution_id = run.outcome.execution_id;
    let routes = definition.notify.iter().map(|route| NewNotification {
        notification_id: NotificationId::of(execution_id, kind.as_str(), state.sequence, NO_INSTANCE, &route.key),
        execution_id,
        alert_name: run.alert_name.to_owned(),
        instance: NO_INSTANCE.to_owned(),
        route_key: route.key.clone(),
        channel: route.channel.as_str(),
        kind,
        sequence: state.sequence,
        scheduled_for: run.scheduled_for,
        payload: payload.clone(),
    });
    Ok(routes.collect())
}
