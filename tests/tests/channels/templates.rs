//! Messages by templates of the configuration, from the file to the receiver: what arrives is what the file says, and
//! where its template is of no use, the standard message arrives.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlsentinel_common::config::load_str;
use sqlsentinel_common::outcome::{RunStatus, Verdict};
use sqlsentinel_common::settings::{ChannelSettings, SmtpSecurity};
use sqlsentinel_common::store::outbox::Receipt;

use sqlsentinel_tests::sending::Sending;
use sqlsentinel_tests::sink::{Answer, Received, Sink};
use sqlsentinel_tests::smtp::{Mail, MailServer};

/// More digits than a float has.
const LONG: &str = "1234567890123456789012345678901234567890.10";

/// What the query has returned, with what some receiver takes for markup.
fn said() -> Result<Verdict> {
    Ok(Verdict {
        actual_value: serde_json::from_str(LONG)?,
        context: serde_json::from_str(r#"{"region": "<!channel> \"north\"\r\nBcc: all@example.com"}"#)?,
        ..Verdict::bare(RunStatus::Alert)
    })
}

/// Sends it as `entry` of a file says.
async fn send(entry: &str, settings: &ChannelSettings) -> Result<()> {
    let file = format!(
        "database: {{url: 'sqlite:///t.db'}}\nalerts:\n- name: revenue\n  query: q\n  schedule: every 1m\n  severity: critical\n  \
         labels: {{team: data}}\n  runbook: https://wiki/a\n  notify:\n  - {entry}\n"
    );
    let config = load_str(&file, "alerts.yaml", &|_| None)?;
    let definition = config.alerts.first().context("no alert")?.definition.clone();
    let scene = Sending::set(definition, &config, settings, said()?).await?;
    assert_eq!(scene.attempt().await?, Receipt::Sent);
    Ok(())
}

async fn posted(kind: &str, url_key: &str, keys: &str) -> Result<Received> {
    let sink = Sink::start().await?;
    sink.answer(Answer::Text(200, "ok"));
    let url = sink.url("hook");
    send(&format!("{{channel: {kind}, {url_key}: '{url}', {keys}}}"), &ChannelSettings::default()).await?;
    sink.received().pop().context("nothing was posted")
}

async fn mailed(keys: &str) -> Result<Mail> {
    let server = MailServer::start(SmtpSecurity::None).await?;
    let settings = ChannelSettings { smtp: Some(server.settings()), ..ChannelSettings::default() };
    send(&format!("{{channel: email, recipients: [ops@example.com], {keys}}}"), &settings).await?;
    server.taken().pop().context("no mail")
}

#[tokio::test]
async fn a_request_is_the_templates_text() -> Result<()> {
    let keys = "body: '{\"v\": {{ actual_value }}, \"r\": {{ context.region|default(none)|tojson }}, \"t\": \"{{ labels.team }}\"}'";
    let received = posted("webhook", "url", keys).await?;
    assert_eq!(received.header("content-type"), "application/json");
    let region = "<!channel> \"north\"\r\nBcc: all@example.com";
    assert_eq!(received.json, json!({"v": serde_json::from_str::<Value>(LONG)?, "r": region, "t": "data"}));

    let received = posted("webhook", "url", "body: 'revenue is {{ status }}'").await?;
    assert_eq!(received.header("content-type"), "text/plain; charset=utf-8");
    Ok(())
}

#[tokio::test]
async fn a_message_to_slack_has_the_templates_text_and_mentions_whom_the_template_mentions() -> Result<()> {
    let keys = "body: '<!here> {{ actual_value }} {{ context.region|default(1) }}'";
    let message = posted("slack", "webhook_url", keys).await?.json;
    let text = format!("<!here> {LONG} &lt;!channel&gt; \"north\"\r\nBcc: all@example.com");
    assert_eq!(message["blocks"][1]["text"]["text"], text);
    assert_eq!(message.to_string().matches('<').count(), 1, "{message}");
    Ok(())
}

#[tokio::test]
async fn a_mail_has_the_templates_subject_and_text_and_no_header_of_the_data() -> Result<()> {
    let keys =
        "subject: '{{ severity }} {{ context.region|default(0) }}', body: 'See {{ runbook }} for {{ alert_name }}.'";
    let mail = mailed(keys).await?;
    assert_eq!(mail.header("Bcc"), "");
    assert!(mail.header("Subject").starts_with("critical <!channel> \"north\"  Bcc:"), "{}", mail.data);
    assert!(mail.data.contains("See https://wiki/a for revenue.\r\n"), "{}", mail.data);
    assert!(mail.data.contains("<p>See https://wiki/a for revenue.</p>"), "{}", mail.data);
    assert!(!mail.data.contains("Status: ALERT"), "{}", mail.data);
    Ok(())
}

/// The column is not there, which nobody knew before the query ran.
#[tokio::test]
async fn a_template_that_is_of_no_use_costs_no_message() -> Result<()> {
    let broken = "body: '{% if kind == \"alert\" %}{{ context.regoin }}{% endif %}x'";
    let remark = "`context.regoin` is undefined";
    let received = posted("webhook", "url", broken).await?;
    assert!(received.text("template_error").contains(remark), "{}", received.json);
    assert_eq!((received.text("status"), received.text("severity")), ("ALERT", "critical"));
    let message = posted("slack", "webhook_url", broken).await?.json;
    assert!(
        message["blocks"][3].to_string().contains(remark) && message["blocks"][1]["fields"].is_array(),
        "{message}"
    );
    let mail = mailed(broken).await?;
    for part in ["Status: ALERT\r\n", "Labels: team=3Ddata\r\n", remark] {
        assert!(mail.data.contains(part), "{part}: {}", mail.data);
    }
    Ok(())
}
