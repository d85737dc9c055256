//! A notification as the body of an HTTP request. Pure, but for the warning about a template that is of no use.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use sqlsentinel_common::alert::{Severity, SourceName};
use sqlsentinel_common::config::{Escape, WebhookConfig};
use sqlsentinel_common::ids::{ExecutionId, NotificationId};
use sqlsentinel_common::outcome::{RunError, RunStatus};
use sqlsentinel_common::store::outbox::Claim;
use sqlsentinel_common::timestamp::Timestamp;

use super::{Payload, custom};

/// The webhook's body. The first keys are the Python system's, in its order; the others were added here.
#[derive(Serialize)]
struct WebhookBody<'a> {
    alert_name: &'a str,
    status: RunStatus,
    description: &'a str,
    actual_value: &'a Option<Value>,
    threshold: &'a Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    context: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance: &'a str,
    kind: &'a str,
    notification_id: NotificationId,
    execution_id: ExecutionId,
    scheduled_for: Timestamp,
    source: &'a SourceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: &'a Option<RunError>,
    consecutive_errors: i64,
    truncated: bool,
    attempt: u32,
    possible_duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_for: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runbook: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template_error: Option<&'a str>,
}

/// What a webhook sends for this attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The whole of it.
    pub text: String,
    /// Whether it is JSON; else it is plain text.
    pub is_json: bool,
}

/// The body for this attempt: what the settings' template gives, or the standard JSON.
pub fn body(settings: &WebhookConfig, claim: &Claim, payload: &Payload) -> Result<Body, serde_json::Error> {
    let remark = match &settings.body {
        None => None,
        Some(template) => match custom::text(template, "body", Escape::Nothing, claim, payload) {
            Ok(text) => {
                let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
                return Ok(Body { text, is_json });
            }
            Err(remark) => Some(remark),
        },
    };
    Ok(Body { text: standard(claim, payload, remark.as_deref())?, is_json: true })
}

/// The standard JSON.
pub fn webhook_body(claim: &Claim, payload: &Payload) -> Result<String, serde_json::Error> {
    standard(claim, payload, None)
}

fn standard(claim: &Claim, payload: &Payload, template_error: Option<&str>) -> Result<String, serde_json::Error> {
    serde_json::to_string(&WebhookBody {
        alert_name: &claim.alert_name,
        status: payload.status,
        description: &payload.description,
        actual_value: &payload.actual_value,
        threshold: &payload.threshold,
        context: &payload.context,
        instance: &claim.instance,
        kind: claim.kind.as_str(),
        notification_id: claim.notification_id,
        execution_id: claim.execution_id,
        scheduled_for: claim.scheduled_for,
        source: &payload.source,
        error: &payload.error,
        consecutive_errors: payload.consecutive_errors,
        truncated: payload.truncated,
        attempt: claim.attempt,
        possible_duplicate: claim.possible_duplicate,
        fallback_for: claim.fallback_for.as_deref(),
        labels: &payload.labels,
        severity: payload.severity,
        runbook: payload.runbook.as_deref(),
        template_error,
    })
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::Template;

    use super::super::samples::{claim, payload};
    use super::*;

    fn with(template: &str) -> WebhookConfig {
        WebhookConfig { body: Template::body(template).ok(), ..WebhookConfig::default() }
    }

    #[test]
    fn a_template_is_the_whole_body_and_says_by_itself_what_type_it_has() -> serde_json::Result<()> {
        for (template, text, is_json) in [
            (
                r#"{"v": {{ actual_value }}, "c": {{ context|tojson }}}"#,
                r#"{"v": 8500.10, "c": {"region":"<b>eu</b> & <!channel>"}}"#,
                true,
            ),
            ("{{ alert_name }}: {{ context.region }}", "revenue: <b>eu</b> & <!channel>", false),
        ] {
            assert_eq!(body(&with(template), &claim(), &payload())?, Body { text: text.to_owned(), is_json });
        }
        Ok(())
    }

    #[test]
    fn a_template_that_is_of_no_use_leaves_the_standard_body_with_a_remark() -> serde_json::Result<()> {
        let sent = body(&with("{{ context.missing }}"), &claim(), &payload())?;
        let mut sent_json: Value = serde_json::from_str(&sent.text)?;
        let remark = sent_json.as_object_mut().and_then(|sent| sent.remove("template_error")).unwrap_or_default();
        assert!(remark.as_str().is_some_and(|remark| remark.contains("`context.missing` is undefined")), "{remark}");
        assert_eq!(sent_json, serde_json::from_str::<Value>(&webhook_body(&claim(), &payload())?)?);
        assert!(sent.is_json);
        Ok(())
    }
}
