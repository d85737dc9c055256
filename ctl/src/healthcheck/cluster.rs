//! What all processes of a cluster say, judged as a whole: one leader, a worker for every source, a notifier, and
//! every process well. And whether the ledger accounts for every fire: by the state database if that is named here, by what
//! the coordinators have found otherwise.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlsentinel_common::api::{ProcessReport, Role};
use sqlsentinel_common::audit::CHECK;
use sqlsentinel_common::clock;
use sqlsentinel_common::health::{Check, HealthReport, Status};
use sqlsentinel_common::settings::{NatsSettings, StateSettings};
use sqlsentinel_common::timestamp::Timestamp;

use crate::output::table;
use crate::{audit, cluster};

/// The whole, and what it is made of.
#[derive(Debug, Serialize)]
pub(super) struct ClusterReport {
    /// The worst of `checks`.
    pub(super) status: Status,
    timestamp: Timestamp,
    checks: BTreeMap<String, Check>,
    /// What each process said.
    processes: Vec<ProcessReport>,
}

/// Asks every process, and the state database if it is named; the report, and the same as text.
pub(super) async fn report(
    nats: &NatsSettings,
    state: Option<&StateSettings>,
) -> anyhow::Result<(ClusterReport, String)> {
    let processes = cluster::reports(nats).await?;
    let mut checks = judge(&processes);
    if let Some(state) = state {
        let check = audit::check(state).await.unwrap_or_else(|error| not_from_here(&error, audited(&processes)));
        checks.insert(CHECK.to_owned(), check);
    }
    let health = HealthReport::new(clock::wall_now(), checks);
    let text = format!("{health}\n{}", process_table(&processes));
    let HealthReport { status, timestamp, checks } = health;
    Ok((ClusterReport { status, timestamp, checks, processes }, text))
}

/// The checks that make up a cluster's health.
fn judge(processes: &[ProcessReport]) -> BTreeMap<String, Check> {
    let checks = [
        ("leader", leader(processes)),
        ("workers", workers(processes)),
        ("notifiers", notifiers(processes)),
        ("processes", all_processes(processes)),
        (CHECK, audited(processes)),
    ];
    checks.map(|(name, check)| (name.to_owned(), check)).into()
}

fn of_role(processes: &[ProcessReport], role: Role) -> impl Iterator<Item = &ProcessReport> {
    processes.iter().filter(move |process| process.role == role)
}

fn leader(processes: &[ProcessReport]) -> Check {
    let coordinators = of_role(processes, Role::Coordinator).count();
    let mut leaders: Vec<_> =
        processes.iter().filter_map(|process| process.epoch.map(|epoch| (epoch, &process.node))).collect();
    leaders.sort();
    match leaders.as_slice() {
        [] if coordinators == 0 => Check::unhealthy("no coordinator answers"),
        [] => Check::unhealthy(format!("none of {coordinators} coordinators leads: nothing is planned")),
        [(epoch, node)] if coordinators == 1 => {
            Check::degraded(format!("{node} leads in epoch {epoch}, and nobody stands by"))
        }
        [(epoch, node)] => Check::healthy(format!("{node} leads in epoch {epoch}; standbys: {}", coordinators - 1)),
        // The epoch in the state database decides; the lower one is about to notice.
        [.., (epoch, node)] => Check::degraded(format!("several claim to lead; {node} has the highest epoch, {epoch}")),
    }
}

fn workers(processes: &[ProcessReport]) -> Check {
    let sources = |role| of_role(processes, role).flat_map(|process| process.sources.iter()).collect::<BTreeSet<_>>();
    let served = sources(Role::Worker);
    let missing: Vec<_> = sources(Role::Coordinator).difference(&served).map(|source| format!("`{source}`")).collect();
    match of_role(processes, Role::Worker).count() {
        0 => Check::unhealthy("no worker answers"),
        count if missing.is_empty() => Check::healthy(format!("every database is served; workers: {count}")),
        _ => Check::unhealthy(format!("no worker serves {}", missing.join(", "))),
    }
}

fn notifiers(processes: &[ProcessReport]) -> Check {
    match of_role(processes, Role::Notifier).count() {
        0 => Check::unhealthy("no notifier answers"),
        count => Check::healthy(format!("notifiers: {count}")),
    }
}

/// What the worst of the coordinators' audits says.
fn audited(processes: &[ProcessReport]) -> Check {
    let audits = of_role(processes, Role::Coordinator).filter_map(|process| process.health.checks.get(CHECK));
    let worst = audits.max_by_key(|check| check.status).cloned();
    worst.unwrap_or_else(|| Check::degraded("no coordinator has audited the ledger yet"))
}

/// What the coordinators say, where the state database that is named could not be read.
fn not_from_here(error: &anyhow::Error, audited: Check) -> Check {
    let said = audited.message.unwrap_or_default();
    let message = format!("not audited from here: {error:#}; the coordinators say: {said}");
    if audited.status == Status::Unhealthy { Check::unhealthy(message) } else { Check::degraded(message) }
}

fn all_processes(processes: &[ProcessReport]) -> Check {
    let status = Status::of_parts(processes.iter().map(|process| process.health.status));
    let unwell: Vec<_> = processes
        .iter()
        .filter(|process| process.health.status > Status::Healthy)
        .map(|process| format!("{} ({})", process.node, troubles(process)))
        .collect();
    match status {
        Status::Unhealthy => Check::unhealthy(unwell.join("; ")),
        Status::Degraded => Check::degraded(unwell.join("; ")),
        Status::Healthy | Status::NotConfigured => Check::healthy(format!("all are well: {}", processes.len())),
    }
}

fn troubles(process: &ProcessReport) -> String {
    let unwell = process.health.checks.iter().filter(|(_, check)| check.status > Status::Healthy);
    let words = unwell.map(|(name, check)| match &check.message {
        Some(message) => format!("{name}: {message}"),
        None => format!("{name}: {}", check.status.as_str()),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn process_table(processes: &[ProcessReport]) -> String {
    let row = |process: &ProcessReport| {
        [
            process.role.as_str().to_owned(),
            process.node.clone(),
            process.health.status.as_str().to_owned(),
            process.epoch.map_or_else(String::new, |epoch| format!("leads, epoch {epoch}")),
            process.version.clone(),
            troubles(process),
        ]
    };
    let rows: Vec<_> = processes.iter().map(row).collect();
    table(["Role", "Node", "Status", "Leadership", "Version", "Troubles"], &rows)
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::alert::SourceName;

    use super::*;

    fn process(role: Role, node: &str, sources: &[&str], epoch: Option<i64>) -> ProcessReport {
        let audited = (role == Role::Coordinator).then(|| (CHECK.to_owned(), Check::healthy("complete")));
        ProcessReport {
            node: node.to_owned(),
            role,
            version: "1".to_owned(),
            epoch,
            sources: sources.iter().map(|name| SourceName::try_from((*name).to_owned()).unwrap()).collect(),
            health: HealthReport::new(Timestamp::default(), audited.into_iter().collect()),
        }
    }

    fn cluster() -> Vec<ProcessReport> {
        vec![
            process(Role::Coordinator, "c1", &["eu", "us"], Some(7)),
            process(Role::Coordinator, "c2", &["eu", "us"], None),
            process(Role::Worker, "w1", &["eu"], None),
            process(Role::Worker, "w2", &["us"], None),
            process(Role::Notifier, "n1", &[], None),
        ]
    }

    fn status(processes: &[ProcessReport]) -> Status {
        Status::of_parts(judge(processes).values().map(|check| check.status))
    }

    #[test]
    fn a_complete_cluster_is_healthy_and_each_missing_part_is_not() {
        assert_eq!(status(&cluster()), Status::Healthy);
        for (missing, check) in [("c1", "leader"), ("w2", "workers"), ("n1", "notifiers")] {
            let rest: Vec<_> = cluster().into_iter().filter(|process| process.node != missing).collect();
            assert_eq!(judge(&rest)[check].status, Status::Unhealthy, "without {missing}");
            assert_eq!(status(&rest), Status::Unhealthy, "without {missing}");
        }
        assert_eq!(status(&[]), Status::Unhealthy);
    }

    #[test]
    fn a_source_without_a_worker_is_named() {
        let rest: Vec<_> = cluster().into_iter().filter(|process| process.node != "w1").collect();
        assert_eq!(judge(&rest)["workers"].message.as_deref(), Some("no worker serves `eu`"));
    }

    #[test]
    fn a_cluster_without_a_standby_or_with_two_leaders_wants_a_look() {
        let alone: Vec<_> = cluster().into_iter().filter(|process| process.node != "c2").collect();
        assert_eq!(judge(&alone)["leader"].status, Status::Degraded);
        let mut two = cluster();
        two[1].epoch = Some(8);
        assert_eq!(judge(&two)["leader"].status, Status::Degraded);
        assert!(judge(&two)["leader"].message.as_deref().is_some_and(|text| text.contains("c2")));
    }

    #[test]
    fn a_fire_that_one_coordinator_misses_makes_the_cluster_unhealthy() {
        assert_eq!(judge(&cluster())[CHECK], Check::healthy("complete"));
        let mut processes = cluster();
        processes[1].health.checks.insert(CHECK.to_owned(), Check::unhealthy("1 missed"));
        assert_eq!(judge(&processes)[CHECK], Check::unhealthy("1 missed"));
        for process in &mut processes {
            process.health.checks.remove(CHECK);
        }
        assert_eq!(judge(&processes)[CHECK].status, Status::Degraded);
    }

    #[test]
    fn an_unwell_process_makes_the_cluster_unwell_and_says_why() {
        let mut processes = cluster();
        let checks = BTreeMap::from([("outbox".to_owned(), Check::unhealthy("stuck"))]);
        processes[4].health = HealthReport::new(Timestamp::default(), checks);
        let check = &judge(&processes)["processes"];
        assert_eq!((check.status, check.message.as_deref()), (Status::Unhealthy, Some("n1 (outbox: stuck)")));
    }
}
