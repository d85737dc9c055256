//! What documents and examples show has to work: every configuration in them is read by the product's own parser.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sqlsentinel_common::config;
use sqlsentinel_tests::programs::root;

#[test]
fn every_example_is_a_valid_configuration() -> Result<()> {
    let examples = files(&root().join("examples"), "yaml")?;
    assert!(examples.len() >= 2, "{examples:?}");
    for path in examples {
        check(&path, &path.display().to_string())?;
    }
    Ok(())
}

/// A block marked `yaml` is a whole configuration; anything else in YAML is marked `yaml fragment`.
#[test]
fn every_configuration_in_the_documents_is_valid() -> Result<()> {
    let mut documents = files(&root().join("docs"), "md")?;
    documents.push(root().join("README.md"));
    let folder = tempfile::tempdir()?;
    for document in documents.into_iter().filter(|document| document.is_file()) {
        for (line, block) in blocks(&fs::read_to_string(&document)?, "yaml") {
            let path = folder.path().join("block.yaml");
            fs::write(&path, block)?;
            check(&path, &format!("{}, the block in line {line}", document.display()))?;
        }
    }
    Ok(())
}

fn check(path: &Path, name: &str) -> Result<()> {
    match config::load(path) {
        Ok(config) if config.warnings.is_empty() => Ok(()),
        Ok(config) => bail!("{name}: {:?}", config.warnings),
        Err(errors) => bail!("{name}: {errors}"),
    }
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The fenced blocks whose mark is exactly `language`, each with the line in which it begins.
fn blocks(document: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(mark) = line.trim_start().strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
        if mark.trim() == language {
            blocks.push((number + 1, body.join("\n")));
        }
    }
    blocks
}

#[test]
fn blocks_are_told_apart_by_their_whole_mark() {
    let document = "a\n```yaml\nb: 1\nc: 2\n```\n```yaml fragment\nd\n```\n```sh\ne\n```\n```yaml\nf\n```\n";
    assert_eq!(blocks(document, "yaml"), [(2, "b: 1\nc: 2".to_owned()), (12, "f".to_owned())]);
}
