//! The guide to templates: what it shows is what notifiers make of it, and its variables are those that there are.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlsentinel_common::config::{ChannelConfig, VARIABLES, load_str};
use sqlsentinel_notifier::render::{Payload, email, slack, webhook};

use crate::markdown::{blocks, codes, read, section, texts_marked};
use crate::samples::claim;

const GUIDE: &str = "docs/guides/templates.md";

/// Each configuration is followed by what its only entry says of the notification that the other documents show.
#[test]
fn templates_of_the_guide_give_what_stands_below_them() -> Result<()> {
    let sent = texts_marked(&read("docs/reference/messages.md")?, "json webhook").remove(0);
    let (claim, payload): (_, Payload) = (claim(&serde_json::from_str(&sent)?)?, serde_json::from_str(&sent)?);
    let blocks = blocks(&read(GUIDE)?);
    ensure!(blocks.len() >= 6 && blocks.len().is_multiple_of(2), "{}", blocks.len());
    for pair in blocks.chunks(2) {
        ensure!((pair[0].mark.as_str(), pair[1].mark.as_str()) == ("yaml", "text rendered"), "line {}", pair[0].line);
        let config = load_str(&pair[0].text, GUIDE, &|_| None)?;
        let (_, channel) = config.alerts[0].channels.first().context("no entry")?;
        let text = match &channel.config {
            ChannelConfig::Email(config) => {
                let mail = email::mail(config.subject.as_ref(), config.body.as_ref(), &claim, &payload);
                format!("Subject: {}\n\n{}", mail.subject, mail.text)
            }
            ChannelConfig::Slack(config) => {
                let message: Value = serde_json::from_str(&slack::body(config, &claim, &payload)?)?;
                message["blocks"][1]["text"]["text"].as_str().context("no text")?.to_owned()
            }
            ChannelConfig::Webhook(config) => webhook::body(config, &claim, &payload)?.text,
        };
        assert_eq!(text.trim(), pair[1].text, "line {}", pair[0].line);
    }
    Ok(())
}

#[test]
fn the_variables_of_the_guide_are_those_of_templates() -> Result<()> {
    let rows = section(&read(GUIDE)?, "Variables")?.rows;
    let mut described: Vec<String> = rows.iter().flat_map(|row| codes(&row[0])).collect();
    let mut known = VARIABLES.map(str::to_owned).to_vec();
    described.sort();
    known.sort();
    assert_eq!(described, known);
    Ok(())
}
