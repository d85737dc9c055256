//! The metrics: name, type and labels of every one that a process registers, and of no other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus::Registry;
use prometheus::proto::MetricType;
use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::health::{Check, Health};
use sqlsentinel_common::outcome::RunStatus;
use sqlsentinel_common::reload::ReloadMetrics;

use crate::markdown::{codes, read, section};

/// By name: type and labels.
type Described = BTreeMap<String, (String, Vec<String>)>;

fn described(title: &str) -> Result<Described> {
    let rows = section(&read("docs/reference/metrics.md")?, title)?.rows;
    let row = |row: &Vec<String>| {
        let name = codes(&row[0]).pop().with_context(|| format!("no name in {row:?}"))?;
        let mut labels = codes(&row[2]);
        labels.sort();
        Ok((name, (row[1].clone(), labels)))
    };
    rows.iter().map(row).collect()
}

fn registered(registry: &Registry) -> Described {
    let families = registry.gather();
    let family = |family: &prometheus::proto::MetricFamily| {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            _ => "something else",
        };
        let labels = family.get_metric().iter().flat_map(|metric| metric.get_label());
        let mut labels: Vec<String> = labels.map(|label| label.name().to_owned()).collect();
        labels.sort();
        labels.dedup();
        (family.name().to_owned(), (kind.to_owned(), labels))
    };
    families.iter().map(family).collect()
}

/// Every collector of `registry` shows itself: one with labels and without a series would be overlooked.
fn all_shown(registry: &Registry) -> Result<()> {
    let debug = format!("{registry:?}");
    let collectors = debug.split_once('(').and_then(|(_, rest)| rest.split_once(" collectors"));
    let collectors: usize = collectors.context("the registry does not say how many it holds")?.0.parse()?;
    anyhow::ensure!(collectors == registry.gather().len(), "a metric with labels has no series: give it one here");
    Ok(())
}

#[test]
fn the_metrics_of_every_process_are_those_described() -> Result<()> {
    let registry = sqlsentinel_common::metrics::registry("worker", "1.2.3")?;
    ReloadMetrics::register(&registry)?;
    let health = Health::default();
    health.register(&registry)?;
    health.report("process", Check::healthy("running").with_latency(Duration::ZERO));
    assert_eq!(registered(&registry), described("Every process")?);
    Ok(())
}

#[test]
fn the_coordinators_metrics_are_those_described() -> Result<()> {
    let registry = Registry::new();
    let metrics = sqlsentinel_coordinator::metrics::Metrics::register(&registry)?;
    for labelled in [&metrics.scheduler_job_runs, &metrics.purged_rows] {
        labelled.with_label_values(&["a"]).inc();
    }
    metrics.backlog(&[], [SourceName::default_source()].iter(), Duration::ZERO);
    all_shown(&registry)?;
    assert_eq!(registered(&registry), described("Coordinator")?);
    Ok(())
}

#[test]
fn the_workers_metrics_are_those_described() -> Result<()> {
    let registry = Registry::new();
    let metrics = sqlsentinel_worker::metrics::Metrics::register(&registry)?;
    metrics.executed("a", &SourceName::default_source(), RunStatus::Ok, Duration::ZERO);
    metrics.source_up.with_label_values(&["a"]).set(1);
    all_shown(&registry)?;
    assert_eq!(registered(&registry), described("Worker")?);
    Ok(())
}

#[test]
fn the_notifiers_metrics_are_those_described() -> Result<()> {
    let registry = Registry::new();
    sqlsentinel_notifier::metrics::Metrics::register(&registry)?;
    all_shown(&registry)?;
    assert_eq!(registered(&registry), described("Notifier")?);
    Ok(())
}
