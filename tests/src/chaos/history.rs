//! What happened in one chaos run, as plain data: the harness fills it from its own observations and from the state
//! database, [`super::checker`] judges it. As JSON it can be kept, and judged again.
//!
//! All moments are microseconds since the Unix epoch, on the machine's wall clock, which is the state database's too. A
//! stepped clock is a process's own, and a fault.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::ledger::{Fire, Gap, Notification};

/// How long a notifier waits for an answer.
pub const ATTEMPT: Duration = Duration::from_secs(10);

/// One run, whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When the harness began to watch. Fires due before are not judged.
    pub begin: i64,
    /// The moment of the audit: fires due up to here are judged. The harness waits until they have ended.
    pub until: i64,
    /// When everything below was read.
    pub end: i64,
    /// How long after a fault's end its effects may last: elections, redeliveries, rescue. Part of the promise, so small.
    pub recovery_us: i64,
    /// The alerts that were ever in a file.
    pub alerts: Vec<Alert>,
    /// What the harness did to the system, and when.
    pub faults: Vec<Fault>,
    /// What the target said, and when. Of one alert in order: each holds until the next one is set.
    pub signals: Vec<Signal>,
    /// Queries that ran at the target, each once, by its log.
    pub runs: Vec<Run>,
    /// The state database at the end.
    pub ledger: Ledger,
    /// Rows that leaders wrote, in the order of their commits.
    pub writes: Vec<Write>,
    /// What arrived at the webhook receiver, in order.
    pub deliveries: Vec<Delivery>,
    /// Who led, sampled from the state database; in order.
    pub leadership: Vec<Sample>,
}

/// One alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// When the harness wrote which definition into the coordinators' files; in order.
    pub edits: Vec<Edit>,
    /// The versions that the ledger says were in force; in order.
    pub versions: Vec<Version>,
}

/// The harness changed an alert in the coordinators' files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// When the file was in place.
    pub at: i64,
    /// What it says from then on; none if the alert is no longer in it.
    pub definition: Option<Definition>,
}

/// An interval of the ledger's table of versions (`sqlsentinel_configs`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Fires after this moment are this version's.
    pub valid_from: i64,
    /// And up to this one; none while it is in force.
    pub valid_until: Option<i64>,
    /// The definition.
    pub definition: Definition,
}

/// What a definition says, as far as it decides what must happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Definition {
    /// `every 5s`, or a cron pattern of five or six fields.
    pub schedule: String,
    /// The zone that the pattern is in, by its IANA name.
    pub timezone: String,
    /// Whether it is on.
    pub enabled: bool,
    /// What becomes of fires that nobody planned in time.
    pub misfire: Misfire,
    /// How old a missed fire may be to run; none is a day.
    pub catchup_us: Option<i64>,
    /// What becomes of a fire that is due while an earlier one is open.
    pub overlap: Overlap,
    /// Over how much time fires are spread.
    pub jitter_us: i64,
    /// How long a run may take.
    pub timeout_us: i64,
    /// How many ALERT in a row there must be before it is told.
    pub consecutive: usize,
    /// How long ALERT must last before it is told, in nominal time.
    pub for_us: i64,
    /// After how long an alarm that goes on is told again, in nominal time; never if none.
    pub repeat_us: Option<i64>,
    /// Whether its end is told.
    pub send_resolved: bool,
}

impl Default for Definition {
    fn default() -> Self {
        Self {
            schedule: "every 1s".to_owned(),
            timezone: "UTC".to_owned(),
            enabled: true,
            misfire: Misfire::Once,
            catchup_us: None,
            overlap: Overlap::Skip,
            jitter_us: 0,
            timeout_us: 30_000_000,
            consecutive: 1,
            for_us: 0,
            repeat_us: None,
            send_resolved: false,
        }
    }
}

/// `misfire` in a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// The newest runs, for all of them.
    Once,
    /// Each runs.
    All,
    /// None runs.
    Skip,
}

/// `overlap` in a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is skipped.
    Skip,
    /// One waits for the open one; any more are skipped.
    QueueOne,
    /// It runs beside it.
    Allow,
}

/// One thing that the harness did to the system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// What it was.
    pub kind: FaultKind,
    /// Whom it hit: a member's name (`coordinator-1`), `nats-0`, `state`, `target`, `sink`, an alert.
    pub subject: String,
    /// When it began: before the first thing was done.
    pub from: i64,
    /// When it was over: the process started again, the connection whole.
    pub until: i64,
    /// Of a rollback: commits after this moment are lost, as far as they were made before `from`.
    #[serde(default)]
    pub lost_after: Option<i64>,
    /// For people: a percentage, a delay, a file.
    #[serde(default)]
    pub detail: String,
}

/// What kinds of faults there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A member was killed (SIGKILL) and started again.
    Kill,
    /// A member was stopped (SIGSTOP) and went on.
    Freeze,
    /// A member's connection to NATS was cut or slowed.
    CutNats,
    /// A member's connection to the state database was cut or slowed.
    CutState,
    /// A worker's connection to the target was cut or slowed.
    CutTarget,
    /// A NATS node was killed and started again.
    NatsLoss,
    /// A NATS node lost its store.
    NatsWipe,
    /// PostgreSQL was stopped and started again.
    StateRestart,
    /// PostgreSQL was slow.
    StateSlow,
    /// PostgreSQL went back in time.
    StateRollback,
    /// A coordinator's clock was wrong.
    ClockStep,
    /// A definition was edited in every coordinator's files.
    Edit,
    /// Coordinators had different files.
    SplitFiles,
    /// The receiver answered something else than 2xx.
    SinkError,
    /// The receiver broke the connection after the body.
    SinkReset,
    /// The receiver never answered, or too late.
    SinkTimeout,
}

impl FaultKind {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::CutNats => "cut_nats",
            Self::CutState => "cut_state",
            Self::CutTarget => "cut_target",
            Self::NatsLoss => "nats_loss",
            Self::NatsWipe => "nats_wipe",
            Self::StateRestart => "state_restart",
            Self::StateSlow => "state_slow",
            Self::StateRollback => "state_rollback",
            Self::ClockStep => "clock_step",
            Self::Edit => "edit",
            Self::SplitFiles => "split_files",
            Self::SinkError => "sink_error",
            Self::SinkReset => "sink_reset",
            Self::SinkTimeout => "sink_timeout",
        }
    }
}

/// The target was told to say something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// The alert that reads it.
    pub alert: String,
    /// `OK` or `ALERT`.
    pub status: String,
    /// Its value: one more for each alarm of this alert. An alarm's end has the alarm's value.
    pub value: i64,
    /// Just before it was written.
    pub set_before: i64,
    /// When the write was confirmed: from here on every query sees it, until the next one's `set_before`.
    pub set_after: i64,
    /// When the harness saw that the cluster's state followed; none if it never did.
    pub followed_at: Option<i64>,
}

/// One query that ran at the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The execution that it was for.
    pub execution_id: String,
    /// The alert.
    pub alert: String,
    /// When it began, as the target's log says.
    pub at: i64,
}

/// The state database's tables at the end, as far as they are judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// `sqlsentinel_fires`.
    pub fires: Vec<Fire>,
    /// `sqlsentinel_gaps`.
    pub gaps: Vec<Gap>,
    /// `sqlsentinel_executions`.
    pub executions: Vec<Execution>,
    /// `sqlsentinel_notifications`.
    pub notifications: Vec<Notification>,
}

/// One record of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// The execution's id.
    pub id: String,
    /// The alert.
    pub alert: String,
    /// The nominal time.
    pub scheduled_for: i64,
    /// When the run that counts began, on the worker's clock.
    pub executed_at: i64,
    /// `OK`, `ALERT`, `ERROR` or `NO_DATA`.
    pub status: String,
    /// The value that it read, if it was a whole number.
    pub value: Option<i64>,
    /// Which publication it was.
    pub attempt: i64,
    /// How often that publication was handed out.
    pub delivery: i64,
}

/// One row that a leader wrote, as the harness's triggers saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// When.
    pub at: i64,
    /// The table.
    pub table: String,
    /// The row's key.
    pub key: String,
    /// The row's stamp: the leader's epoch.
    pub epoch: i64,
    /// The row's stamp: the transaction's number within the epoch.
    pub seq: i64,
}

/// One request that arrived at the webhook receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// When its body was complete, or when it was refused.
    pub at: i64,
    /// Its `Idempotency-Key`.
    pub notification_id: String,
    /// `alert_name` of the body.
    pub alert: String,
    /// `kind` of the body.
    pub kind: String,
    /// `status` of the body.
    pub status: String,
    /// `actual_value` of the body, if it was a whole number.
    pub value: Option<i64>,
    /// `possible_duplicate` of the body.
    pub possible_duplicate: bool,
    /// How it was answered.
    pub answer: Answer,
}

/// What the receiver did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It answered this status, in time.
    Status(u16),
    /// It broke the connection after it had the body.
    Reset,
    /// It had the body, and answered too late or never.
    Timeout,
}

/// Who led at some moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When the row was read.
    pub at: i64,
    /// The epoch in it.
    pub epoch: i64,
    /// The node that took it.
    pub holder: String,
    /// When the holder took it.
    pub acquired_at: i64,
}
