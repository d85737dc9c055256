//! The documents, taken apart: fenced blocks, sections, tables.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sqlsentinel_tests::programs::root;

/// One fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line in which it begins, from 1.
    pub(crate) line: usize,
    /// Everything after the fence: a language, and perhaps a word of ours.
    pub(crate) mark: String,
    /// What is between the fences.
    pub(crate) text: String,
}

/// What is under one heading, up to the next one of any level.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) title: String,
    /// The rows of its tables without their headings, cell by cell.
    pub(crate) rows: Vec<Vec<String>>,
    /// Every line that is not in a block.
    pub(crate) lines: Vec<String>,
}

/// All documents: those of the root, and what is in `docs`.
pub(crate) fn documents() -> Result<Vec<PathBuf>> {
    let mut documents = files(&root().join("docs"), "md")?;
    documents.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    Ok(documents)
}

/// A document's text, by its path in the checkout.
pub(crate) fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// The files below `folder` with this extension, in a stable order.
pub(crate) fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
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

/// The fenced blocks.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(mark) = line.trim_start().strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
        blocks.push(Block { line: number + 1, mark: mark.trim().to_owned(), text: body.join("\n") });
    }
    blocks
}

/// The texts of the blocks whose mark is exactly `mark`.
pub(crate) fn texts_marked(document: &str, mark: &str) -> Vec<String> {
    blocks(document).into_iter().filter(|block| block.mark == mark).map(|block| block.text).collect()
}

/// The sections in their order.
pub(crate) fn sections(document: &str) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut section = Section::default();
    let mut in_block = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        if in_block {
            continue;
        }
        if let Some(title) = line.strip_prefix('#') {
            sections.push(std::mem::take(&mut section));
            section.title = title.trim_start_matches('#').trim().to_owned();
        }
        if let Some(row) = line.strip_prefix('|') {
            section.rows.push(row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
            // The rule under a table's heading: what came before it names the columns.
            if row.starts_with("---") {
                section.rows.truncate(section.rows.len() - 2);
            }
        }
        section.lines.push(line.to_owned());
    }
    sections.push(section);
    sections
}

/// The section with this title.
pub(crate) fn section(document: &str, title: &str) -> Result<Section> {
    let found = sections(document).into_iter().find(|section| section.title == title);
    found.with_context(|| format!("there is no section `{title}`"))
}

/// What stands between backticks in `text`.
pub(crate) fn codes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The anchor that a heading has.
pub(crate) fn slug(title: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    title.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn blocks_are_told_apart_by_their_whole_mark() {
    let document = "a\n```yaml\nb: 1\nc: 2\n```\n```yaml fragment\nd\n```\n";
    let block = |line, mark: &str, text: &str| Block { line, mark: mark.to_owned(), text: text.to_owned() };
    assert_eq!(blocks(document), [block(2, "yaml", "b: 1\nc: 2"), block(6, "yaml fragment", "d")]);
    assert_eq!(texts_marked(document, "yaml"), ["b: 1\nc: 2"]);
}

#[test]
fn a_table_is_its_rows_and_belongs_to_its_section() -> Result<()> {
    let document = "# One\n| a | b |\n|---|---|\n| `c`, `d` | |\n```\n# no title\n| x |\n```\n## Two `x`\ntext\n";
    assert_eq!(section(document, "One")?.rows, [["`c`, `d`", ""]]);
    assert_eq!(codes("`c`, `d` e"), ["c", "d"]);
    assert_eq!(sections(document).last().map(|section| slug(&section.title)), Some("two-x".to_owned()));
    Ok(())
}
