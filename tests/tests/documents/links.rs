//! Links inside the checkout lead to files that are there, and to headings that are in them.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::markdown::{documents, sections, slug};

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let mut broken = Vec::new();
    for document in documents()? {
        let text = std::fs::read_to_string(&document)?;
        for link in sections(&text).iter().flat_map(|section| links(&section.lines)) {
            if !link.contains("://") && !leads_somewhere(&document, &link)? {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    Ok(())
}

fn leads_somewhere(document: &Path, link: &str) -> Result<bool> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target: PathBuf = match path {
        "" => document.to_owned(),
        path => document.with_file_name("").join(path),
    };
    let Some(anchor) = anchor else { return Ok(target.exists()) };
    let text = std::fs::read_to_string(target)?;
    Ok(sections(&text).iter().any(|section| slug(&section.title) == anchor))
}

/// The targets of `[text](target)`.
fn links(lines: &[String]) -> Vec<String> {
    let text = lines.join("\n");
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

#[test]
fn a_link_is_followed_to_its_heading() -> Result<()> {
    let config = sqlsentinel_tests::programs::root().join("docs/reference/config.md");
    for (link, leads) in [("cli.md", true), ("#not-supported-yet", true), ("#nowhere", false), ("gone.md", false)] {
        assert_eq!(leads_somewhere(&config, link)?, leads, "{link}");
    }
    assert_eq!(links(&["a [b](c.md#d) and [e](f)".to_owned()]), ["c.md#d", "f"]);
    Ok(())
}
