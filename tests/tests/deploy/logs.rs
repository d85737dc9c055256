//! `deploy/logs`: what the examples take out of log lines is there, under the names that are described, which a test of the
//! documents compares with what is logged. The programs that read these files are not to be had here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlsentinel_tests::programs;

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(programs::root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// What may be in a context, and the keys beside it.
fn described() -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let document = read("docs/reference/logging.md")?;
    let (keys, context) = document.split_once("## Context").context("what may be in a context")?;
    let names = |text: &str| -> BTreeSet<String> {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        rows.flat_map(|(cell, _)| cell.split("`, `").map(str::to_owned)).collect()
    };
    Ok((names(context), names(keys)))
}

/// The words that follow `context.` in `text`.
fn of_context(text: &str) -> BTreeSet<String> {
    let words = text.split("context.").skip(1).map(|rest| {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        rest.chars().take_while(|c| is_name(*c)).collect::<String>()
    });
    words.filter(|word| !word.is_empty()).collect()
}

#[test]
fn what_loki_and_elasticsearch_are_given_is_what_lines_have() -> Result<()> {
    let (context, keys) = described()?;
    ensure!(context.contains("alert_name") && keys.contains("level"), "{keys:?}: {context:?}");
    for file in ["deploy/logs/alloy/pipeline.alloy", "docs/guides/monitoring.md"] {
        let named = of_context(&read(file)?);
        ensure!(named.contains("execution_id"), "{file} reads {named:?}");
        assert!(named.is_subset(&context), "{file}: nobody logs {:?}", named.difference(&context));
    }
    let template: Value = serde_json::from_str(&read("deploy/logs/elastic/index-template.json")?)?;
    let properties = &template["template"]["mappings"]["properties"];
    let mapped = |object: &Value| object.as_object().map(|object| object.keys().cloned().collect::<BTreeSet<_>>());
    let fields = mapped(&properties["context"]["properties"]).context("fields of a context")?;
    assert!(fields.is_subset(&context), "nobody logs {:?}", fields.difference(&context));
    // One comes of another, and one is the shipper's.
    let mut fields = mapped(properties).context("fields")?;
    assert!(fields.remove("@timestamp") && fields.remove("component") && fields.insert("timestamp".to_owned()));
    assert_eq!(fields, keys, "what a document has, and what a line has");
    let pipeline: Value = serde_json::from_str(&read("deploy/logs/elastic/pipeline.json")?)?;
    assert_eq!(pipeline["processors"][0]["set"]["copy_from"], "timestamp");
    Ok(())
}

/// A label with many values makes as many streams: what lines are about is in structured metadata instead.
#[test]
fn labels_in_loki_are_few() -> Result<()> {
    let pipeline = read("deploy/logs/alloy/pipeline.alloy")?;
    let block = |name: &str| -> Result<BTreeSet<String>> {
        let (_, rest) = pipeline.split_once(&format!("{name} {{")).with_context(|| name.to_owned())?;
        let (_, rest) = rest.split_once("= {").context("values")?;
        let (values, _) = rest.split_once('}').context("the end of values")?;
        Ok(values.lines().filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())).collect())
    };
    assert_eq!(block("stage.labels")?, BTreeSet::from(["level".to_owned()]));
    let (extracted, metadata) = (block("stage.json")?, block("stage.structured_metadata")?);
    let left: Vec<_> = extracted.difference(&metadata).collect();
    assert_eq!(left, ["level", "timestamp"], "everything else that is read is structured metadata");
    assert!(metadata.is_subset(&extracted), "{:?} is not read", metadata.difference(&extracted));
    for file in ["docker", "kubernetes"] {
        let labels = read(&format!("deploy/logs/alloy/{file}.alloy"))?;
        for label in labels.split("target_label").skip(1).filter_map(|rest| rest.split('"').nth(1)) {
            assert!(["component", "namespace", "service_name"].contains(&label), "{file}: {label}");
        }
    }
    Ok(())
}

#[test]
fn filebeat_sends_to_where_the_template_is_for_and_keeps_our_components() -> Result<()> {
    let template: Value = serde_json::from_str(&read("deploy/logs/elastic/index-template.json")?)?;
    let pattern = template["index_patterns"][0].as_str().and_then(|pattern| pattern.strip_suffix('*'));
    let pattern = pattern.context("a pattern")?;
    for file in ["filebeat-docker.yml", "filebeat-kubernetes.yml"] {
        let filebeat: Value = serde_saphyr::from_str(&read(&format!("deploy/logs/elastic/{file}"))?)?;
        let index = filebeat["output.elasticsearch"]["index"].as_str().context("an index")?;
        assert!(index.starts_with(pattern), "{file}: {index}");
        let parsers = filebeat["filebeat.inputs"][0]["parsers"].as_array().context("parsers")?;
        // The container's line first, then ours in it.
        assert!(parsers[0]["container"].is_object() && parsers[1]["ndjson"]["target"] == "", "{file}: {parsers:?}");
        assert!(filebeat["processors"].to_string().contains(r#""to":"component""#), "{file}");
    }
    let rsyslog = read("deploy/logs/rsyslog/sqlsentinel.conf")?;
    assert!(rsyslog.contains(&format!("searchIndex=\"{pattern}")));
    Ok(())
}

#[test]
fn every_example_is_told_of() -> Result<()> {
    let guide = read("docs/guides/monitoring.md")?;
    let mut folders = vec![programs::root().join("deploy/logs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path: PathBuf = entry?.path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some(name) if path.is_file() => assert!(guide.contains(name), "nobody says what {name} is for"),
                _ => folders.push(path),
            }
        }
    }
    Ok(())
}
