//! What is shown of runs, and which exit code they make.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Map, Value};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::messages::OutcomeMessage;
use sqlsentinel_common::outcome::{InstanceVerdict, RunError, RunStatus};
use sqlsentinel_common::store::outbox::Receipt;
use sqlsentinel_notifier::deliver::Attempt;

use crate::output::printable;

/// One run and what was sent after it.
#[derive(Debug, Serialize)]
pub(super) struct Ran {
    alert_name: String,
    execution_id: ExecutionId,
    status: RunStatus,
    actual_value: Option<Value>,
    threshold: Option<Value>,
    context: Map<String, Value>,
    /// Where the alert has an instance key, instead of the three above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instances: Vec<InstanceVerdict>,
    error: Option<RunError>,
    duration_ms: f64,
    notifications: Vec<Told>,
}

/// One attempt at one notification.
#[derive(Debug, Serialize)]
struct Told {
    channel: String,
    /// What it is about, if not the alert itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    instance: String,
    kind: &'static str,
    /// `sent`, `retry`, `dead` or `skipped`.
    status: &'static str,
    error: Option<String>,
}

impl Ran {
    pub(super) fn new(outcome: OutcomeMessage, attempts: &[Attempt]) -> Self {
        let verdict = outcome.verdict;
        Self {
            alert_name: outcome.alert_name,
            execution_id: outcome.execution_id,
            status: verdict.status,
            actual_value: verdict.actual_value,
            threshold: verdict.threshold,
            context: verdict.context,
            instances: verdict.instances,
            error: verdict.error,
            duration_ms: outcome.duration_ms,
            notifications: attempts.iter().map(told).collect(),
        }
    }
}

fn told(attempt: &Attempt) -> Told {
    let (status, error) = match &attempt.receipt {
        Some(Receipt::Sent) => ("sent", None),
        Some(Receipt::Retry { error, .. }) => ("retry", Some(error.clone())),
        Some(Receipt::Dead { error, .. }) => ("dead", Some(error.clone())),
        Some(Receipt::Skipped { reason }) => ("skipped", Some((*reason).to_owned())),
        None => ("retry", Some("not sent: its claim was about to end".to_owned())),
    };
    let claim = &attempt.claim;
    Told { channel: claim.channel.clone(), instance: claim.instance.clone(), kind: claim.kind.as_str(), status, error }
}

/// One line a run, and one for each notification.
pub(super) fn text(results: &[Ran]) -> String {
    let mut text = String::new();
    for ran in results {
        let head = format!("{} {}: {} ({:.1} ms)", symbol(ran.status), ran.alert_name, ran.status, ran.duration_ms);
        text += &line(head, [&ran.actual_value, &ran.threshold], &ran.context);
        for row in &ran.instances {
            let head = format!("    {} {}: {}", symbol(row.status), row.instance, row.status);
            text += &line(head, [&row.actual_value, &row.threshold], &row.context);
        }
        if let Some(error) = &ran.error {
            text += &format!("    {}\n", printable(&error.message));
        }
        for told in &ran.notifications {
            let error = told.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            let about = if told.instance.is_empty() { String::new() } else { format!(" of {}", told.instance) };
            let said = format!("    {} notification ({}{about}) {}{error}", told.channel, told.kind, told.status);
            text += &(printable(&said) + "\n");
        }
    }
    if results.is_empty() {
        text += "No enabled alert to run.\n";
    }
    text
}

fn symbol(status: RunStatus) -> char {
    match status {
        RunStatus::Ok => '✓',
        RunStatus::Alert => '✗',
        RunStatus::Error | RunStatus::NoData => '!',
    }
}

/// `head`, then what a row says.
fn line(head: String, [actual_value, threshold]: [&Option<Value>; 2], context: &Map<String, Value>) -> String {
    let mut line = head;
    for (name, value) in [("actual_value", actual_value), ("threshold", threshold)] {
        if let Some(value) = value {
            line += &format!(" {name}={value}");
        }
    }
    for (name, value) in context {
        line += &format!(" {name}={value}");
    }
    printable(&line) + "\n"
}

/// All alerts: 1 if any is not OK. A single one: 1 only if it could not be judged, since an ALERT is a good answer
/// then. In both cases 1 if something could not be sent.
pub(super) fn exit_code(results: &[Ran], single: bool) -> ExitCode {
    let fine = |ran: &Ran| match ran.status {
        RunStatus::Ok => true,
        RunStatus::Alert => single,
        RunStatus::Error | RunStatus::NoData => false,
    };
    let told = |ran: &Ran| ran.notifications.iter().all(|told| matches!(told.status, "sent" | "skipped"));
    if results.iter().all(|ran| fine(ran) && told(ran)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(status: RunStatus, told: Option<&'static str>) -> Ran {
        let told = told.map(|status| Told {
            channel: "webhook".to_owned(),
            instance: String::new(),
            kind: "alert",
            status,
            error: None,
        });
        Ran {
            alert_name: "a".to_owned(),
            execution_id: ExecutionId::manual(),
            status,
            actual_value: None,
            threshold: None,
            context: Map::from_iter([("note".to_owned(), Value::from("x\u{1b}[2J"))]),
            instances: Vec::new(),
            error: None,
            duration_ms: 1.0,
            notifications: told.into_iter().collect(),
        }
    }

    #[test]
    fn an_alert_fails_a_sweep_but_not_a_question_about_itself() {
        use RunStatus::*;
        for (status, told, in_sweep, single) in [
            (Ok, None, true, true),
            (Alert, Some("sent"), false, true),
            (Alert, Some("dead"), false, false),
            (Error, None, false, false),
            (NoData, None, false, false),
        ] {
            let code = |fine| if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            let results = [ran(Ok, None), ran(status, told)];
            assert_eq!(exit_code(&results, false), code(in_sweep), "{status} in a sweep");
            assert_eq!(exit_code(&results[1..], true), code(single), "{status} alone");
        }
    }

    #[test]
    fn each_instance_has_a_line_and_so_has_what_is_told_of_it() {
        let row = |name: &str, status| InstanceVerdict {
            instance: name.to_owned(),
            status,
            actual_value: Some(Value::from(3)),
            threshold: None,
            context: Map::new(),
            truncated: false,
        };
        let mut ran = ran(RunStatus::Alert, Some("sent"));
        ran.context.clear();
        ran.instances = vec![row("berlin", RunStatus::Alert), row("bonn\u{1b}", RunStatus::Ok)];
        ran.notifications[0].instance = "berlin".to_owned();
        let expected = "✗ a: ALERT (1.0 ms)\n    ✗ berlin: ALERT actual_value=3\n    ✓ bonn : OK actual_value=3\n    \
                        webhook notification (alert of berlin) sent\n";
        assert_eq!(text(&[ran]), expected);
    }

    #[test]
    fn a_column_cannot_steer_the_terminal() {
        assert!(!text(&[ran(RunStatus::Ok, None)]).contains('\u{1b}'));
    }
}
