//! The JSON Schema of configuration files: the committed one is the one of the code, what is valid passes it, and what
//! can be seen to be wrong in one file does not.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;
use sqlsentinel_common::config::schema;
use sqlsentinel_tests::programs::{self, root};

use crate::markdown::{blocks, documents, files, read};

const FILE: &str = "docs/reference/alerts.schema.json";

struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Validator {
    fn new() -> Result<Self> {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        let failed = |error: &dyn std::fmt::Display| anyhow::anyhow!("{error}");
        compiler.add_resource("schema.json", schema()).map_err(|error| failed(&error))?;
        let index = compiler.compile("schema.json", &mut schemas).map_err(|error| failed(&error))?;
        Ok(Self { schemas, index })
    }

    /// What is wrong with a file, if anything is.
    fn refusal(&self, text: &str) -> Result<Option<String>> {
        let file: Value = serde_saphyr::from_str(text).with_context(|| text.to_owned())?;
        Ok(self.schemas.validate(&file, self.index).err().map(|error| format!("{error:#}")))
    }
}

#[test]
fn the_committed_schema_is_the_one_of_the_code_as_ctl_prints_it() -> Result<()> {
    let printed = Command::new(programs::ours("sqlsentinel-ctl")?).arg("schema").output()?;
    ensure!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout)?;
    assert_eq!(serde_json::from_str::<Value>(&printed)?, schema());
    assert_eq!(read(FILE)?, printed, "write it anew: sqlsentinel-ctl schema > {FILE}");
    Ok(())
}

#[test]
fn every_example_and_every_sample_passes_the_schema() -> Result<()> {
    let validator = Validator::new()?;
    let mut checked = 0;
    for path in files(&root().join("examples"), "yaml")? {
        let refusal = validator.refusal(&fs::read_to_string(&path)?)?;
        ensure!(refusal.is_none(), "{}: {refusal:?}", path.display());
        checked += 1;
    }
    for document in documents()? {
        for block in blocks(&fs::read_to_string(&document)?).into_iter().filter(|block| block.mark == "yaml") {
            let refusal = validator.refusal(&block.text)?;
            ensure!(refusal.is_none(), "{}:{}: {refusal:?}", document.display(), block.line);
            checked += 1;
        }
    }
    assert!(checked >= 8, "{checked}");
    Ok(())
}

/// An alert with further keys.
fn alert(keys: &str) -> String {
    format!("alerts: [{{name: a, query: q, schedule: '@daily', {keys}}}]")
}

/// An alert with one entry of `notify`.
fn entry(keys: &str) -> String {
    alert(&format!("notify: [{{{keys}}}]"))
}

#[test]
fn values_in_every_form_that_is_read_pass_the_schema() -> Result<()> {
    let validator = Validator::new()?;
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let whole = names(&[
        "database: {url: $DATABASE_URL}",
        "database: {url: 'sqlite::memory:'}",
        "database: {url: 'mysql+pymysql://u@h/d'}",
        "database: {url_file: db}",
        "channels: {ops: {channel: slack, rate: 5/m, max_concurrency: 2, fallback: boss}}",
        "include: [teams/*.yaml]",
        "{}",
    ]);
    let alerts = [
        "enabled: no",
        "enabled: true",
        "enabled: 0",
        "enabled: '${SWITCH:-on}'",
        "timeout: 7",
        "timeout: 1m 30s",
        "consecutive: 3",
        "consecutive: '3'",
        "repeat_interval: never",
        "on_error: keep",
        "on_error: {action: alert, after: 5}",
        "severity: critical",
        "labels: {team: data, tier: 1, on_call: true}",
        "notify: [ops, {channel: slack}]",
        "query_env: [A, B_2]",
        "instance_key: [host, region]",
        "instance_key: host",
        "misfire: all",
        "overlap: queue_one",
        "catchup_window: 2d",
        "jitter: 0",
    ];
    let entries = [
        "channel: email, recipients: ['${ON_CALL}']",
        "channel: webhook, url: $URL, headers: {A: x, B: {file: /run/secrets/b}}",
        "channel: webhook, method: PATCH, secret_file: /run/secrets/s",
    ];
    for text in whole.into_iter().chain(alerts.map(alert)).chain(entries.map(entry)) {
        let refusal = validator.refusal(&text)?;
        assert_eq!(refusal, None, "{text}");
    }
    Ok(())
}

#[test]
fn what_is_wrong_in_a_file_does_not_pass_the_schema() -> Result<()> {
    let validator = Validator::new()?;
    let whole = [
        "[]",
        "databse: {url: 'sqlite:///t.db'}",
        "database: {}",
        "database: {url: ''}",
        "database: {url: canary}",
        "database: {url: $A, url_file: b}",
        "databases: {'a b': {url: $A}}",
        "channels: {ops: slack}",
        "channels: {ops: {channel: teams}}",
        "channels: {ops: {channel: slack, max_concurrency: 0}}",
        "channels: {ops: {channel: slack, rate: often}}",
        "defaults: {name: a}",
        "include: a.yaml",
        "alerts: {}",
        "alerts: [{name: a, query: q}]",
        "alerts: [{query: q, schedule: '@daily'}]",
        "alerts: [{name: 1, query: q, schedule: '@daily'}]",
    ]
    .map(str::to_owned);
    let alerts = [
        "shedule: x",
        "enabled: perhaps",
        "timeout: [1]",
        "timeout: -1",
        "consecutive: 0",
        "consecutive: 1.5",
        "severity: critcal",
        "labels: {a-b: x}",
        "labels: {a: [x]}",
        "on_error: alrt",
        "on_error: {often: 1}",
        "on_no_data: nothing",
        "misfire: twice",
        "overlap: never",
        "notify: ops",
        "instance_key: []",
        "instance_key: [a, a]",
        "query_env: [$A]",
        "query_env: A",
    ];
    let entries = [
        "url: https://h",
        "channel: emial",
        "channel: email",
        "channel: email, recipients: []",
        "channel: email, recipients: [a@b], url: https://h",
        "channel: slack, webhook_url: canary",
        "channel: slack, rate: 1/m",
        "channel: slack, webhook_url: $A, webhook_url_file: b",
        "channel: webhook, url: ftp://h",
        "channel: webhook, url: $A, url_file: b",
        "channel: webhook, method: DELETE",
        "channel: webhook, headers: {A: 1}",
        "channel: webhook, headers: {A: {path: x}}",
        "channel: webhook, secret: a, secret_file: b",
    ];
    for text in whole.into_iter().chain(alerts.map(alert)).chain(entries.map(entry)) {
        ensure!(validator.refusal(&text)?.is_some(), "{text}");
    }
    Ok(())
}
