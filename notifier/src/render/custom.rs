//! Texts of the configuration's templates, in the place of the standard ones.
//!
//! Input: a template, the attempt and the payload. Output: the text; or, where the template gives none for this
//! notification, a remark for whoever gets the standard text instead, and a warning in the log. Nobody is left without
//! a message because of a template.

use sqlsentinel_common::alert::Severity;
use sqlsentinel_common::config::{Escape, Notice, Template};
use sqlsentinel_common::store::outbox::Claim;

use super::Payload;

/// The text that `template`, which the key `key` holds, gives.
pub(super) fn text(
    template: &Template,
    key: &str,
    escape: Escape,
    claim: &Claim,
    payload: &Payload,
) -> Result<String, String> {
    let reason = match template.render(&notice(claim, payload), escape) {
        // An empty body is a body; nobody reads an empty mail.
        Ok(text) if !text.trim().is_empty() => return Ok(text),
        Ok(_) => "its text is empty".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(
        alert_name = claim.alert_name,
        notification_id = %claim.notification_id,
        channel = claim.channel,
        route_key = claim.route_key,
        error = reason,
        "template of `{key}` not used"
    );
    Err(format!("The template in `{key}` cannot be used here: {reason}."))
}

fn notice<'a>(claim: &'a Claim, payload: &'a Payload) -> Notice<'a> {
    Notice {
        alert_name: &claim.alert_name,
        status: payload.status.as_str(),
        kind: claim.kind.as_str(),
        actual_value: payload.actual_value.as_ref(),
        threshold: payload.threshold.as_ref(),
        description: &payload.description,
        context: &payload.context,
        labels: &payload.labels,
        severity: payload.severity.map(Severity::as_str),
        runbook: payload.runbook.as_deref(),
        instance: Some(claim.instance.as_str()).filter(|instance| !instance.is_empty()),
        source: payload.source.as_str(),
        scheduled_for: claim.scheduled_for,
        notification_id: claim.notification_id.to_string(),
        execution_id: claim.execution_id.to_string(),
        error: payload.error.as_ref(),
        consecutive_errors: payload.consecutive_errors,
        attempt: claim.attempt,
        possible_duplicate: claim.possible_duplicate,
        truncated: payload.truncated,
        fallback_for: claim.fallback_for.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{claim, payload};
    use super::*;

    #[test]
    fn a_template_that_gives_nothing_says_why() {
        for (template, said) in [
            ("{{ context.missing }}", "`context.missing` is undefined"),
            ("{% if threshold == 1 %}x{% endif %}", "its text is empty"),
        ] {
            let template = Template::body(template).unwrap();
            let remark = text(&template, "body", Escape::Nothing, &claim(), &payload()).unwrap_err();
            assert!(remark.starts_with("The template in `body` cannot be used here: ") && remark.contains(said));
        }
    }
}
