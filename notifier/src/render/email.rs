//! A notification as a mail: subject, text and HTML. Pure, but for the warning about a template that is of no use.
//!
//! Everything that comes from a query's row is data: in the subject it cannot begin a new header, in the HTML part it
//! cannot be markup.

use std::fmt::Write;

use sqlsentinel_common::config::{Escape, Template};
use sqlsentinel_common::store::outbox::Claim;

use super::words::{POSSIBLE_DUPLICATE, TRUNCATED, about, facts, news, one_line, origin, value};
use super::{Payload, custom};

/// How much of one value a subject shows, in characters.
const LONGEST_IN_SUBJECT: usize = 200;

/// How much of a subject that a template gave is sent, in characters.
const LONGEST_SUBJECT: usize = 500;

/// What a mail says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// One line.
    pub subject: String,
    /// For readers of plain text.
    pub text: String,
    /// For the others.
    pub html: String,
}

/// The mail for this attempt; templates give what the standard texts do not.
pub fn mail(subject: Option<&Template>, body: Option<&Template>, claim: &Claim, payload: &Payload) -> Mail {
    let mut remarks = Vec::new();
    let mut filled = |template: Option<&Template>, key| {
        let text = custom::text(template?, key, Escape::Nothing, claim, payload);
        text.map_err(|remark| remarks.push(remark)).ok()
    };
    let subject = filled(subject, "subject").map(|text| one_line(text.trim(), LONGEST_SUBJECT));
    let body = filled(body, "body");
    let subject = subject
        .unwrap_or_else(|| format!("[SQL Sentinel] {}: {}", news(claim), one_line(&about(claim), LONGEST_IN_SUBJECT)));
    if payload.truncated {
        remarks.push(TRUNCATED.to_owned());
    }
    if claim.possible_duplicate {
        remarks.push(POSSIBLE_DUPLICATE.to_owned());
    }
    match body {
        Some(text) => {
            let html = format!("<p>{}</p>\n", escaped(text.trim()));
            Mail { subject, text: text.trim_end().to_owned() + "\n" + &below(&remarks), html: page(&html, &remarks) }
        }
        None => {
            remarks.push(origin(claim, payload));
            let text = text(claim, payload) + &below(&remarks);
            Mail { subject, text, html: page(&html(claim, payload), &remarks) }
        }
    }
}

fn text(claim: &Claim, payload: &Payload) -> String {
    let mut text = format!("{}: {}\n", news(claim), about(claim));
    for (name, value) in facts(claim, payload) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    }
    if let Some(runbook) = &payload.runbook {
        let _ = writeln!(text, "Runbook: {runbook}");
    }
    if !payload.context.is_empty() {
        text.push_str("\nAdditional Context:\n");
        for (name, column) in &payload.context {
            let _ = writeln!(text, "  {name}: {}", value(column));
        }
    }
    text
}

fn html(claim: &Claim, payload: &Payload) -> String {
    let row = |name: &str, html: &str| {
        format!("<tr><th align=\"left\" valign=\"top\">{}</th><td>{html}</td></tr>\n", escaped(name))
    };
    let mut facts: String = facts(claim, payload).iter().map(|(name, value)| row(name, &escaped(value))).collect();
    if let Some(runbook) = &payload.runbook {
        let url = escaped(runbook);
        facts += &row("Runbook", &format!("<a href=\"{url}\">{url}</a>"));
    }
    let mut html = format!(
        "<h2>{}: {}</h2>\n<table cellpadding=\"4\">\n{facts}</table>\n",
        escaped(&news(claim)),
        escaped(&about(claim))
    );
    if !payload.context.is_empty() {
        let column = |(name, column): (&String, &serde_json::Value)| row(name, &escaped(&value(column)));
        let context: String = payload.context.iter().map(column).collect();
        let _ = write!(html, "<h3>Additional Context</h3>\n<table cellpadding=\"4\">\n{context}</table>\n");
    }
    html
}

/// The remarks as the text's end.
fn below(remarks: &[String]) -> String {
    remarks.iter().map(|remark| format!("\n{remark}\n")).collect()
}

/// The whole HTML.
fn page(html: &str, remarks: &[String]) -> String {
    let remarks: String = remarks.iter().map(|remark| format!("<p>{}</p>\n", escaped(remark))).collect();
    format!("<!DOCTYPE html>\n<html><body>\n{html}{remarks}</body></html>\n")
}

/// `text` as HTML shows it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' => html.push_str("<br>\n"),
            c if c.is_control() => html.push(' '),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::super::samples::{claim, payload};
    use super::*;

    #[test]
    fn a_mail_has_the_lines_that_readers_know() {
        let mail = mail(None, None, &claim(), &payload());
        assert_eq!(mail.subject, "[SQL Sentinel] Alert: revenue");
        assert_eq!(
            mail.text,
            "Alert: revenue\nDescription: Revenue below the floor\nStatus: ALERT\nActual Value: 8500.10\n\
             Threshold: 10000\n\nAdditional Context:\n  region: <b>eu</b> & <!channel>\n\n\
             Due 2026-01-01 00:01:00 UTC on database default. \
             Notification 04440625-1cee-569a-85fa-71b910a8a865.\n"
        );
    }

    #[test]
    fn what_a_row_holds_is_never_markup() {
        let html = mail(None, None, &claim(), &payload()).html;
        assert!(html.contains("<td>&lt;b&gt;eu&lt;/b&gt; &amp; &lt;!channel&gt;</td>"), "{html}");
        assert!(!html.contains("<b>") && !html.contains("<!channel"), "{html}");
        assert_eq!(escaped("\"'\u{7}\n"), "&quot;&#39; <br>\n");
    }

    #[test]
    fn a_subject_is_filled_in_and_stays_one_line() -> Result<(), Box<dyn std::error::Error>> {
        let template = Template::subject("{status}! {alert_name} {actual_value}/{threshold}")?;
        let mut payload = payload();
        assert_eq!(mail(Some(&template), None, &claim(), &payload).subject, "ALERT! revenue 8500.10/10000");
        payload.actual_value = Some("1\r\nBcc: everybody@example.com".into());
        payload.threshold = None;
        let subject = mail(Some(&template), None, &claim(), &payload).subject;
        assert_eq!(subject, "ALERT! revenue 1  Bcc: everybody@example.com/");
        Ok(())
    }

    #[test]
    fn a_body_is_the_text_and_its_html_shows_the_same_text() -> Result<(), Box<dyn std::error::Error>> {
        let subject = Template::subject("{{ alert_name }}\u{b}{{ context.region }}{{ '\\n' }}x")?;
        let body = Template::body("{{ kind }}:\n  {{ context.region }}\n")?;
        let claim = Claim { possible_duplicate: true, ..claim() };
        let mail = mail(Some(&subject), Some(&body), &claim, &payload());
        assert_eq!(mail.subject, "revenue <b>eu</b> & <!channel> x");
        assert_eq!(mail.text, format!("alert:\n  <b>eu</b> & <!channel>\n\n{POSSIBLE_DUPLICATE}\n"));
        assert!(
            mail.html.contains("<p>alert:<br>\n  &lt;b&gt;eu&lt;/b&gt; &amp; &lt;!channel&gt;</p>"),
            "{}",
            mail.html
        );
        Ok(())
    }

    #[test]
    fn templates_that_are_of_no_use_leave_the_standard_mail_with_remarks() -> Result<(), Box<dyn std::error::Error>> {
        let template = Template::body("{{ context.missing }}")?;
        let (plain, mail) =
            (mail(None, None, &claim(), &payload()), mail(Some(&template), Some(&template), &claim(), &payload()));
        assert_eq!(mail.subject, plain.subject);
        for part in [&mail.text, &mail.html] {
            for key in ["subject", "body"] {
                assert!(part.contains(&format!("The template in `{key}` cannot be used here")), "{part}");
            }
        }
        let facts = plain.text.split("\n\nDue").next().unwrap_or_default();
        assert!(mail.text.starts_with(facts), "{}", mail.text);
        Ok(())
    }

    #[test]
    fn a_possible_duplicate_and_a_cut_say_so_in_both_parts() {
        let claim = Claim { possible_duplicate: true, ..claim() };
        let payload = Payload { truncated: true, ..payload() };
        let mail = mail(None, None, &claim, &payload);
        for part in [&mail.text, &mail.html] {
            assert!(part.contains(POSSIBLE_DUPLICATE) && part.contains(TRUNCATED), "{part}");
        }
    }
}
