//! A notification as a mail: subject, text and HTML. Pure.
//!
//! Everything that comes from a query's row is data: in the subject it cannot begin a new header, in the HTML part it
//! cannot be markup.

use std::fmt::Write;

use sqlsentinel_common::config::{Field, Template};
use sqlsentinel_common::store::outbox::Claim;

use super::Payload;
use super::words::{POSSIBLE_DUPLICATE, TRUNCATED, facts, news, one_line, origin, value};

/// How much of one value a subject shows, in characters.
const LONGEST_IN_SUBJECT: usize = 200;

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

/// The mail for this attempt.
pub fn mail(subject: Option<&Template>, claim: &Claim, payload: &Payload) -> Mail {
    Mail { subject: line(subject, claim, payload), text: text(claim, payload), html: html(claim, payload) }
}

fn line(template: Option<&Template>, claim: &Claim, payload: &Payload) -> String {
    let Some(template) = template else {
        return format!("[SQL Sentinel] {}: {}", news(claim), one_line(&claim.alert_name, LONGEST_IN_SUBJECT));
    };
    let of_row = |column: &Option<serde_json::Value>| column.as_ref().map(value).unwrap_or_default();
    template.fill(|field| {
        let text = match field {
            Field::AlertName => claim.alert_name.clone(),
            Field::Status => payload.status.as_str().to_owned(),
            Field::ActualValue => of_row(&payload.actual_value),
            Field::Threshold => of_row(&payload.threshold),
        };
        one_line(&text, LONGEST_IN_SUBJECT)
    })
}

fn text(claim: &Claim, payload: &Payload) -> String {
    let mut text = format!("{}: {}\n", news(claim), claim.alert_name);
    for (name, value) in facts(payload) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    }
    if !payload.context.is_empty() {
        text.push_str("\nAdditional Context:\n");
        for (name, column) in &payload.context {
            let _ = writeln!(text, "  {name}: {}", value(column));
        }
    }
    for remark in remarks(claim, payload) {
        let _ = write!(text, "\n{remark}\n");
    }
    text
}

fn html(claim: &Claim, payload: &Payload) -> String {
    let row = |name: &str, value: &str| {
        format!("<tr><th align=\"left\" valign=\"top\">{}</th><td>{}</td></tr>\n", escaped(name), escaped(value))
    };
    let facts: String = facts(payload).iter().map(|(name, value)| row(name, value)).collect();
    let mut html = format!(
        "<!DOCTYPE html>\n<html><body>\n<h2>{}: {}</h2>\n<table cellpadding=\"4\">\n{facts}</table>\n",
        escaped(&news(claim)),
        escaped(&claim.alert_name)
    );
    if !payload.context.is_empty() {
        let context: String = payload.context.iter().map(|(name, column)| row(name, &value(column))).collect();
        let _ = write!(html, "<h3>Additional Context</h3>\n<table cellpadding=\"4\">\n{context}</table>\n");
    }
    for remark in remarks(claim, payload) {
        let _ = writeln!(html, "<p>{}</p>", escaped(&remark));
    }
    html.push_str("</body></html>\n");
    html
}

fn remarks(claim: &Claim, payload: &Payload) -> Vec<String> {
    let mut remarks = Vec::new();
    if payload.truncated {
        remarks.push(TRUNCATED.to_owned());
    }
    if claim.possible_duplicate {
        remarks.push(POSSIBLE_DUPLICATE.to_owned());
    }
    remarks.push(origin(claim, payload));
    remarks
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
        let mail = mail(None, &claim(), &payload());
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
        let html = mail(None, &claim(), &payload()).html;
        assert!(html.contains("<td>&lt;b&gt;eu&lt;/b&gt; &amp; &lt;!channel&gt;</td>"), "{html}");
        assert!(!html.contains("<b>") && !html.contains("<!channel"), "{html}");
        assert_eq!(escaped("\"'\u{7}\n"), "&quot;&#39; <br>\n");
    }

    #[test]
    fn a_subject_is_filled_in_and_stays_one_line() -> Result<(), Box<dyn std::error::Error>> {
        let template = Template::parse("{status}! {alert_name} {actual_value}/{threshold}")?;
        let mut payload = payload();
        assert_eq!(mail(Some(&template), &claim(), &payload).subject, "ALERT! revenue 8500.10/10000");
        payload.actual_value = Some("1\r\nBcc: everybody@example.com".into());
        payload.threshold = None;
        let subject = mail(Some(&template), &claim(), &payload).subject;
        assert_eq!(subject, "ALERT! revenue 1  Bcc: everybody@example.com/");
        Ok(())
    }

    #[test]
    fn a_possible_duplicate_and_a_cut_say_so_in_both_parts() {
        let claim = Claim { possible_duplicate: true, ..claim() };
        let payload = Payload { truncated: true, ..payload() };
        let mail = mail(None, &claim, &payload);
        for part in [&mail.text, &mail.html] {
            assert!(part.contains(POSSIBLE_DUPLICATE) && part.contains(TRUNCATED), "{part}");
        }
    }
}
