//! The outcome transaction: from a batch of outcomes to history, states and the outbox.
//!
//! Input: outcomes, from the bus or from a run that a person asked for. Output: a [`Fate`] for each, once everything
//! that follows from them is committed, together (invariant 3). Recording an outcome again changes nothing. What silences
//! have kept back goes the same way, without an outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sqlsentinel_common::alert::AlertDefinition;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::messages::OutcomeMessage;
use sqlsentinel_common::store::outbox::NoticeKind;
use sqlsentinel_common::store::outcomes::{FireProgress, LastWord, LockedFire, OutcomeTx, RecordedRun, Trigger};
use sqlsentinel_common::store::{Store, StoreError};
use sqlsentinel_common::timestamp::Timestamp;

use crate::definitions::{DefinitionCache, Definitions};
use crate::judgement::{Decision, DefinedRun, ITSELF, Judgement, judge_all, judge_untold};

/// What became of one outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Recorded and judged.
    Recorded {
        /// Whether its fire had been given up as `EXPIRED`.
        late: bool,
    },
    /// Its fire had ended already.
    Duplicate,
    /// No fire is known by its id, and none will be.
    UnknownFire,
    /// Nothing was done: no fire is known by its id yet. The state database has gone back, and what ran is planned again.
    NotPlannedYet,
    /// Nothing was done: the definition it is to be judged by cannot be read here.
    Unreadable(String),
    /// Nothing was done: the state database will not take it.
    Invalid(String),
}

/// What recording a batch has come to.
#[derive(Debug, Default)]
pub struct Recorded {
    /// For each outcome, in the batch's order; none: nothing was done, and it is to come again.
    pub fates: Vec<Option<Fate>>,
    /// How many notifications are new in the outbox.
    pub notifications: usize,
    /// Why some are to come again.
    pub failure: Option<StoreError>,
}

/// Records outcomes. One for all batches of a process.
#[derive(Debug)]
pub struct Recorder {
    store: Store,
    definitions: DefinitionCache,
}

impl Recorder {
    /// A recorder that writes to `store`.
    pub fn new(store: Store) -> Self {
        Self { store, definitions: DefinitionCache::default() }
    }

    /// Records `outcomes`, in one transaction if it can be. A batch that the database refuses because of its data is
    /// halved until the culprit stands alone; one that it cannot take now is left.
    pub async fn record(&self, outcomes: &[&OutcomeMessage]) -> Recorded {
        let mut recorded = Recorded { fates: vec![None; outcomes.len()], ..Recorded::default() };
        let mut parts: Vec<Range<usize>> = std::iter::once(0..outcomes.len()).collect();
        while let Some(part) = parts.pop() {
            match self.record_together(&outcomes[part.clone()]).await {
                Ok((fates, notifications)) => {
                    recorded.notifications += notifications;
                    for (place, fate) in part.zip(fates) {
                        recorded.fates[place] = Some(fate);
                    }
                }
                Err(error) if error.is_about_the_data() && part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Err(error) if error.is_about_the_data() => {
                    recorded.fates[part.start] = Some(Fate::Invalid(error.to_string()));
                }
                Err(error) => {
                    recorded.failure = Some(error);
                    break;
                }
            }
        }
        recorded
    }

    /// Records `outcomes` in one transaction, all or none; what becomes of each, and how many notifications are new.
    async fn record_together(&self, outcomes: &[&OutcomeMessage]) -> Result<(Vec<Fate>, usize), StoreError> {
        self.store
            .step(async {
                let mut tx = self.store.begin_outcomes().await?;
                let ids: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.execution_id).collect();
                let mut fires = tx.lock_fires(&ids).await?;
                let unknown: BTreeSet<_> = ids.into_iter().filter(|id| !fires.contains_key(id)).collect();
                let mut planned_through = None;
                if !unknown.is_empty() {
                    // In this order: a fire that is planned between the two is seen, and not taken for one that never was.
                    planned_through = tx.planned_through().await?;
                    fires.append(&mut tx.lock_fires(&unknown).await?);
                }
                let hashes = fires.values().filter(|fire| fire.progress != FireProgress::Ended);
                let definitions = self.definitions.get(&mut tx, hashes.map(|fire| &fire.config_hash)).await?;
                let Sorted { fates, runs, again } = sort(outcomes, &fires, &definitions, planned_through);
                let judgement = write(&mut tx, &runs).await?;
                tx.raise_deliveries(&again).await?;
                tx.commit().await?;
                log(&runs, &judgement);
                Ok((fates, judgement.notifications.len()))
            })
            .await
    }

    /// Records a run that a person asked for: it has no fire, and is judged by `definition`.
    pub async fn record_manual(
        &self,
        definition: &AlertDefinition,
        outcome: &OutcomeMessage,
    ) -> Result<Judgement, StoreError> {
        let run = RecordedRun {
            outcome,
            alert_name: &definition.name,
            scheduled_for: outcome.scheduled_for,
            config_hash: &outcome.config_hash,
            trigger: Trigger::Manual,
            late: false,
        };
        self.store
            .step(async {
                let mut tx = self.store.begin_outcomes().await?;
                // A cluster's ledger may never have seen this version, and the history points to it.
                tx.ensure_definition(definition, &outcome.config_hash).await?;
                let runs = [(run, definition)];
                let judgement = write(&mut tx, &runs).await?;
                tx.commit().await?;
                log(&runs, &judgement);
                Ok(judgement)
            })
            .await
    }
}

/// How many alerts one look for untold ones may find.
const UNTOLD_AT_ONCE: u32 = 256;

impl Recorder {
    /// Tells what silences have kept back and nobody keeps back any more. Returns how many notifications are new.
    pub async fn record_untold(&self) -> Result<usize, StoreError> {
        let (mut after, mut notifications) = (String::new(), 0);
        loop {
            let words = self.store.untold(&after, UNTOLD_AT_ONCE).await?;
            let Some(last) = words.last() else { return Ok(notifications) };
            after.clone_from(&last.alert_name);
            let mut found = Vec::new();
            for word in &words {
                match &word.definition {
                    // A disabled alert is not watched: whatever it was in may be over.
                    Ok(definition) => found.extend(definition.enabled.then_some((word, definition))),
                    Err(error) => {
                        tracing::debug!(alert_name = word.alert_name, error, "cannot read the definition in force");
                    }
                }
            }
            if !found.is_empty() {
                notifications += self.record_words(&found).await?;
            }
        }
    }

    /// One transaction over alerts that were found untold.
    async fn record_words(&self, found: &[(&LastWord, &AlertDefinition)]) -> Result<usize, StoreError> {
        self.store
            .step(async {
                let mut tx = self.store.begin_outcomes().await?;
                let alerts = found.iter().map(|(word, _)| word.alert_name.as_str()).collect();
                let (states, mut instances) = (tx.lock_states(&alerts).await?, tx.lock_instances(&alerts).await?);
                let now = tx.now().await?;
                let (mut told, mut all) = (Vec::new(), Judgement::default());
                for (word, definition) in found {
                    let Some(state) = states.get(&word.alert_name) else { continue };
                    let instances = instances.remove(&word.alert_name).unwrap_or_default();
                    let judged = judge_untold(state, &instances, word, definition, now).map_err(unwritable)?;
                    let Some(judgement) = judged else { continue };
                    told.extend(judgement.decisions.iter().map(|decision| (*word, decision.clone())));
                    all.extend(judgement);
                }
                save(&mut tx, &all).await?;
                tx.commit().await?;
                for (word, Decision { instance, reason, notices, .. }) in told {
                    tracing::info!(
                        alert_name = word.alert_name,
                        instance = (instance != ITSELF).then_some(instance),
                        execution_id = %word.execution_id,
                        scheduled_for = %word.scheduled_for,
                        status = word.verdict.status.as_str(),
                        reason = reason.as_str(),
                        notices = names(&notices),
                        "silence is over"
                    );
                }
                Ok(all.notifications.len())
            })
            .await
    }
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Invalid(format!("a notification cannot be written: {error}"))
}

fn names(notices: &[NoticeKind]) -> String {
    notices.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(",")
}

/// A batch, sorted by what is to be done with its outcomes.
struct Sorted<'a> {
    fates: Vec<Fate>,
    runs: Vec<DefinedRun<'a>>,
    /// Deliveries of outcomes that were recorded earlier, or earlier in this batch.
    again: BTreeMap<ExecutionId, u32>,
}

/// Decides what is to be done with each outcome. The first one of an execution counts. Every fire due up to
/// `planned_through` is in the ledger.
fn sort<'a>(
    outcomes: &[&'a OutcomeMessage],
    fires: &'a BTreeMap<ExecutionId, LockedFire>,
    definitions: &'a Definitions,
    planned_through: Option<Timestamp>,
) -> Sorted<'a> {
    let mut sorted = Sorted { fates: Vec::with_capacity(outcomes.len()), runs: Vec::new(), again: BTreeMap::new() };
    let mut seen = BTreeSet::new();
    for outcome in outcomes {
        let id = outcome.execution_id;
        let fate = match fires.get(&id) {
            None if planned_through.is_some_and(|cursor| cursor < outcome.scheduled_for) => Fate::NotPlannedYet,
            None => Fate::UnknownFire,
            Some(fire) if fire.progress == FireProgress::Ended || seen.contains(&id) => {
                let delivery = sorted.again.entry(id).or_default();
                *delivery = outcome.delivery.max(*delivery);
                Fate::Duplicate
            }
            Some(fire) => match definitions.get(&fire.config_hash) {
                Some(Ok(definition)) => {
                    seen.insert(id);
                    let late = fire.progress == FireProgress::Expired;
                    sorted.runs.push((scheduled_run(outcome, fire, late), definition));
                    Fate::Recorded { late }
                }
                Some(Err(reason)) => Fate::Unreadable(reason.clone()),
                None => Fate::Unreadable(format!("definition {} was not looked up", fire.config_hash)),
            },
        };
        sorted.fates.push(fate);
    }
    sorted
}

/// Which alert, time and version a run belongs to is what the ledger says, whatever the message says.
fn scheduled_run<'a>(outcome: &'a OutcomeMessage, fire: &'a LockedFire, late: bool) -> RecordedRun<'a> {
    RecordedRun {
        outcome,
        alert_name: &fire.alert_name,
        scheduled_for: fire.scheduled_for,
        config_hash: &fire.config_hash,
        trigger: Trigger::Cron,
        late,
    }
}

/// Ends the fires, records the runs, moves the states of their alerts and queues what is to be told. The same for
/// scheduled and manual runs; those have no fire.
async fn write(tx: &mut OutcomeTx, runs: &[DefinedRun<'_>]) -> Result<Judgement, StoreError> {
    if runs.is_empty() {
        return Ok(Judgement::default());
    }
    tx.conclude_fires(runs.iter().map(|(run, _)| run)).await?;
    tx.insert_executions(runs.iter().map(|(run, _)| run)).await?;
    let alerts: BTreeSet<&str> = runs.iter().map(|(run, _)| run.alert_name).collect();
    let (states, instances) = (tx.lock_states(&alerts).await?, tx.lock_instances(&alerts).await?);
    let judgement = judge_all(states, instances, runs).map_err(unwritable)?;
    save(tx, &judgement).await?;
    Ok(judgement)
}

async fn save(tx: &mut OutcomeTx, judgement: &Judgement) -> Result<(), StoreError> {
    // Invariant: atomic. These and the states below commit together.
    tx.enqueue(&judgement.notifications).await?;
    tx.save_states(&judgement.moved).await?;
    tx.save_instances(&judgement.instances, &judgement.ended).await
}

fn log(runs: &[DefinedRun<'_>], judgement: &Judgement) {
    for Decision { run, instance, reason, notices } in &judgement.decisions {
        let (run, _) = &runs[*run];
        let message = if instance == ITSELF { "outcome judged" } else { "instance judged" };
        tracing::info!(
            alert_name = run.alert_name,
            instance = (instance != ITSELF).then_some(instance),
            execution_id = %run.outcome.execution_id,
            scheduled_for = %run.scheduled_for,
            status = run.outcome.verdict.status.as_str(),
            duration_ms = run.outcome.duration_ms,
            late = run.late,
            reason = reason.as_str(),
            notices = names(notices),
            "{message}"
        );
    }
}
