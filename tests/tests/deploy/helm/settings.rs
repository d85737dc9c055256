//! That every setting of every service can be given by the chart's values, or is left out for a reason.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use sqlsentinel_tests::helm::sets;
use sqlsentinel_tests::programs::{SERVICES, options, root};

use super::{pods, rendered, variables};

/// What is a secret: given by a file, or by an entry of `env` that refers to a Secret.
pub(super) const SECRETS: [&str; 7] = [
    "STATE_DB_URL",
    "NATS_PASSWORD",
    "DATABASE_URL",
    "SMTP_PASSWORD",
    "SLACK_WEBHOOK_URL",
    "WEBHOOK_URL",
    "WEBHOOK_AUTH_HEADER",
];

/// What has no value of its own, and why.
const LEFT_OUT: [(&str, &str); 18] = [
    ("STATE_DB_PATH", "a SQLite file has one host"),
    ("PORT", "LISTEN says more"),
    ("LOG_FORMAT", "JSON is what collectors read; `env` can change it"),
    ("LOG_FILE", "nothing can be written to; stderr is collected"),
    ("SMTP_CA_FILE", "caBundle counts for mail servers, too"),
    ("SMTP_USER", "a name of 0.1.x"),
    ("SMTP_FROM", "a name of 0.1.x"),
    ("SMTP_FROM_EMAIL", "a name of 0.1.x"),
    ("SQLSENTINEL_LANE_JOBS", "for tuning, by `env`"),
    ("SQLSENTINEL_LANE_RUNNING", "for tuning, by `env`"),
    ("SQLSENTINEL_QUEUE_ALLOWANCE_SECONDS", "for tuning, by `env`"),
    ("SQLSENTINEL_RESCUE_SECONDS", "for tuning, by `env`"),
    ("SQLSENTINEL_AUDIT_SECONDS", "for tuning, by `env`"),
    ("SQLSENTINEL_AUDIT_HOURS", "for tuning, by `env`"),
    ("SQLSENTINEL_BATCH", "for tuning, by `env`"),
    ("SQLSENTINEL_SENDER_CONCURRENCY", "for tuning, by `env`"),
    ("SQLSENTINEL_CLAIM_LEASE_SECONDS", "for tuning, by `env`"),
    ("SQLSENTINEL_ADOPT_SUPERSEDED", "once, by `env`, and away again"),
];

/// The variables that the sets of values give each component between them.
fn given() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut given: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (set, _) in sets()? {
        for (component, _, pod) in pods(&rendered(&set)?) {
            given.entry(component.to_owned()).or_default().extend(variables(pod).map(|(name, _)| name.to_owned()));
        }
    }
    Ok(given)
}

#[test]
fn every_setting_of_a_service_has_a_value_or_a_reason_to_have_none() -> Result<()> {
    let (given, mut left_out) = (given()?, BTreeSet::new());
    for service in SERVICES {
        let given = &given[service.trim_start_matches("sqlsentinel-")];
        for variable in options(service).get_arguments().filter_map(|arg| arg.get_env()?.to_str()) {
            if !given.contains(variable) && !SECRETS.contains(&variable) {
                left_out.insert(variable.to_owned());
            }
        }
        assert!(given.contains("TIMEZONE"), "{service}");
    }
    let expected: BTreeSet<String> = LEFT_OUT.iter().map(|(variable, _)| (*variable).to_owned()).collect();
    assert_eq!(left_out, expected);
    Ok(())
}

#[test]
fn every_variable_that_the_chart_sets_is_described() -> Result<()> {
    let described = std::fs::read_to_string(root().join("docs/reference/cli.md"))?;
    for (component, variables) in given()? {
        for variable in variables.iter().filter(|variable| !["SHOP_NAME", "WAREHOUSE_URL"].contains(&variable.as_str()))
        {
            assert!(described.contains(&format!("`{variable}`")), "{component}: nobody describes {variable}");
        }
    }
    Ok(())
}
