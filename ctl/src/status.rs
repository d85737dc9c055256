//! `status`: the state of every alert, read from the state database, or asked of the coordinators over NATS.

mod place;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::ConfigSettings;
use sqlsentinel_common::store::history::{AlertStatus, InstanceStatus};
use sqlsentinel_common::timestamp::Timestamp;

use self::place::Place;
use crate::output::{moment, print, print_json, table};
use crate::{cluster, state};

/// Whose state, and where to ask.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    config: Option<ConfigSettings>,
    /// Only this alert
    #[arg(long, value_name = "NAME")]
    alert: Option<String>,
    #[command(flatten)]
    place: Place,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// An alert that is configured, and what is known of it.
#[derive(Debug, Serialize)]
struct Line {
    alert_name: String,
    silenced: bool,
    /// None: it has not run yet.
    state: Option<AlertStatus>,
    /// Of a single alert, by the state database: its instances that are not OK.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instances: Vec<InstanceStatus>,
}

/// Prints the states.
pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.as_ref().map(|settings| settings.load()).transpose()?;
    let configured = config.map(|config| state::chosen_alerts(&config, args.alert.as_deref())).transpose()?;
    let mut instances = Vec::new();
    let known = match &args.place {
        Place::Cluster(nats) => cluster::statuses(nats).await?,
        Place::StateDatabase(settings) => {
            let store = state::open_existing(settings)?;
            if let Some(alert) = &args.alert {
                instances = store.instance_statuses(alert).await.context("cannot read the alert's instances")?;
            }
            store.alert_statuses(args.alert.as_deref()).await.context("cannot read the alerts' states")?
        }
    };
    let mut lines = lines(known, configured, args.alert.as_deref());
    if let [line] = lines.as_mut_slice() {
        line.instances = instances;
    }
    match args.output {
        Output::Json => print_json(&lines)?,
        Output::Text => {
            let rows: Vec<_> = lines.iter().map(row).collect();
            print(&table(["Alert Name", "Status", "Silenced", "Last Check"], &rows))?;
            let instances: Vec<_> = lines.iter().flat_map(|line| &line.instances).map(instance_row).collect();
            if !instances.is_empty() {
                print("\n")?;
                print(&table(["Instance", "Status", "Since", "Told"], &instances))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every configured alert, with what is known of it; every known one where no configuration is given.
fn lines(known: Vec<AlertStatus>, configured: Option<BTreeSet<String>>, alert: Option<&str>) -> Vec<Line> {
    let names = configured.unwrap_or_else(|| known.iter().map(|status| status.alert_name.clone()).collect());
    let names = names.into_iter().filter(|name| alert.is_none_or(|alert| alert == name));
    let line = |alert_name: String| {
        let state = known.iter().find(|status| status.alert_name == alert_name).cloned();
        let silenced = state.as_ref().is_some_and(|state| state.silenced);
        Line { alert_name, silenced, state, instances: Vec::new() }
    };
    names.map(line).collect()
}

fn row(line: &Line) -> [String; 4] {
    let status = line.state.as_ref().and_then(shown_status).unwrap_or_else(|| "NEVER RUN".to_owned());
    let last = line.state.as_ref().and_then(|state| state.last_executed_at);
    [
        line.alert_name.clone(),
        status,
        if line.silenced { "yes" } else { "no" }.to_owned(),
        last.map_or_else(|| "-".to_owned(), moment),
    ]
}

/// What the alert is in, and how its last run ended where that says something else; none before the first run.
fn shown_status(state: &AlertStatus) -> Option<String> {
    let shown = match (&state.status, &state.last_outcome) {
        (Some(status), Some(outcome)) if status != outcome => Some(format!("{status} (last run: {outcome})")),
        (status, outcome) => status.clone().or_else(|| outcome.clone()),
    };
    match state.instances_alerting {
        0 => shown,
        1 => shown.map(|shown| format!("{shown}, 1 instance")),
        several => shown.map(|shown| format!("{shown}, {several} instances")),
    }
}

fn instance_row(instance: &InstanceStatus) -> [String; 4] {
    let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), moment);
    [instance.instance.clone(), instance.status.clone(), time(instance.alerting_since), time(instance.told_at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, status: Option<&str>, outcome: &str) -> AlertStatus {
        AlertStatus {
            alert_name: name.to_owned(),
            status: status.map(str::to_owned),
            last_outcome: Some(outcome.to_owned()),
            silenced: true,
            silenced_until: None,
            last_check: None,
            last_executed_at: None,
            consecutive_alerts: 0,
            consecutive_errors: 0,
            instances_alerting: 0,
        }
    }

    fn shown(configured: Option<&[&str]>, alert: Option<&str>) -> Vec<[String; 4]> {
        let known = vec![known("a", Some("ALERT"), "ERROR"), known("gone", Some("OK"), "OK")];
        let configured = configured.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        lines(known, configured, alert).iter().map(row).collect()
    }

    #[test]
    fn a_configuration_decides_which_alerts_are_shown() {
        let names = |rows: Vec<[String; 4]>| rows.into_iter().map(|[name, ..]| name).collect::<Vec<_>>();
        assert_eq!(names(shown(None, None)), ["a", "gone"]);
        assert_eq!(names(shown(Some(&["a", "new"]), None)), ["a", "new"]);
        assert_eq!(names(shown(None, Some("gone"))), ["gone"]);
    }

    #[test]
    fn an_error_does_not_hide_what_the_alert_is_in() {
        let rows = shown(Some(&["a", "new"]), None);
        assert_eq!(rows[0][1..3], ["ALERT (last run: ERROR)", "yes"]);
        assert_eq!(rows[1][1..], ["NEVER RUN", "no", "-"]);
    }

    #[test]
    fn how_many_instances_are_wrong_stands_beside_what_the_alert_is_in() {
        let of = |instances_alerting| {
            shown_status(&AlertStatus { instances_alerting, ..known("a", Some("ALERT"), "ALERT") })
        };
        assert_eq!([of(0), of(1), of(3)].map(Option::unwrap), ["ALERT", "ALERT, 1 instance", "ALERT, 3 instances"]);
    }
}
