//! The chart, rendered by Helm: `tests/helm/render.py` does it, and lints and validates what comes out.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::programs::root;

/// The chart's folder.
pub fn chart() -> PathBuf {
    root().join("deploy/helm/sqlsentinel")
}

/// The sets of values that come with the chart, each with its name.
pub fn sets() -> Result<Vec<(String, PathBuf)>> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(chart().join("ci"))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).context("a set without a name")?;
        sets.push((name.to_owned(), path.clone()));
    }
    sets.sort();
    Ok(sets)
}

/// The set with this name.
pub fn set(name: &str) -> PathBuf {
    chart().join(format!("ci/{name}.yaml"))
}

/// What Helm makes of a file of values, with `more` values on top; or why not, on its stderr.
pub fn rendering(values: &Path, more: &Value) -> Result<Output> {
    let python = root().join(".tools/helm-venv/bin/python");
    ensure!(python.is_file(), "Helm is missing: run ./scripts/test, which gets what the tests need");
    let script = root().join("tests/helm/render.py");
    Ok(Command::new(python).arg(script).arg(chart()).arg(values).arg(more.to_string()).output()?)
}

/// The manifests that Helm makes of a file of values, with `more` values on top, where nothing is wrong with them.
pub fn manifests(values: &Path, more: &Value) -> Result<Vec<Value>> {
    let output = rendering(values, more)?;
    ensure!(output.status.success(), "{}: {}", values.display(), String::from_utf8_lossy(&output.stderr));
    let mut rendered: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(rendered["problems"] == json!([]), "{}: {:#}", values.display(), rendered["problems"]);
    match rendered["manifests"].take() {
        Value::Array(manifests) => Ok(manifests),
        other => anyhow::bail!("no manifests: {other}"),
    }
}
