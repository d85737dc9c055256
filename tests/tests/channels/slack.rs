//! Messages to Slack through the outbox, to an HTTP server that answers as Slack does.

use anyhow::{Context, Result};
use serde_json::json;
use sqlsentinel_common::config::{ChannelConfig, Setting, SlackConfig};
use sqlsentinel_common::outcome::{RunStatus, Verdict};
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings::ChannelSettings;
use sqlsentinel_common::store::outbox::Receipt;

use sqlsentinel_tests::sending::{Sending, error_of};
use sqlsentinel_tests::sink::{Answer, Sink};

const OK: Answer = Answer::Text(200, "ok");

async fn slack() -> Result<Sink> {
    let sink = Sink::start().await?;
    sink.answer(OK);
    Ok(sink)
}

fn to(url: &str) -> SlackConfig {
    SlackConfig { webhook_url: Some(Setting::literal(url)), ..SlackConfig::default() }
}

async fn posting(settings: SlackConfig) -> Result<Sending> {
    Sending::by(ChannelConfig::Slack(settings), &ChannelSettings::default()).await
}

#[tokio::test]
async fn a_message_has_slacks_blocks_and_mentions_nobody() -> Result<()> {
    let slack = slack().await?;
    let said = Verdict {
        actual_value: Some(json!("<!channel> & <@U1>")),
        threshold: Some(serde_json::from_str("10000.00")?),
        context: serde_json::from_str(r#"{"region": "@here"}"#)?,
        ..Verdict::bare(RunStatus::Alert)
    };
    let settings = SlackConfig {
        username: Some("Watch".to_owned()),
        slack_channel: Some("#ops".to_owned()),
        ..to(&slack.url("services/T0/B0/canary"))
    };
    let scene = Sending::saying(said, ChannelConfig::Slack(settings), &ChannelSettings::default()).await?;
    assert_eq!(scene.attempt().await?, Receipt::Sent);

    let request = slack.received().pop().context("no request")?;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/services/T0/B0/canary"));
    assert_eq!(request.header("content-type"), "application/json");
    let message = request.json;
    assert_eq!((message["username"].as_str(), message["channel"].as_str()), (Some("Watch"), Some("#ops")));
    assert_eq!(message["attachments"][0]["color"], "#d00000");
    assert_eq!(message["attachments"][0]["fallback"], "Alert: revenue - Status: ALERT");
    assert_eq!(message["blocks"][0], json!({"type": "header", "text": {"type": "plain_text", "text": "revenue"}}));
    let fields = message["blocks"][1]["fields"].as_array().context("no fields")?;
    let texts: Vec<&str> = fields.iter().filter_map(|field| field["text"].as_str()).collect();
    let expected = [
        "*Status:*\n:red_circle: ALERT",
        "*Description:*\nRevenue below the floor",
        "*Actual Value:*\n&lt;!channel&gt; &amp; &lt;@U1&gt;",
        "*Threshold:*\n10000.00",
    ];
    assert_eq!(texts, expected);
    assert!(fields.iter().all(|field| field["verbatim"] == json!(true)), "names are not looked for in texts");
    Ok(())
}

#[tokio::test]
async fn an_entry_without_url_uses_the_environments() -> Result<()> {
    let slack = slack().await?;
    let settings = SlackConfig { webhook_url: None, ..to("") };
    let environment = ChannelSettings {
        slack_webhook_url: Some(Secret::new(slack.url("from-the-environment"))),
        ..ChannelSettings::default()
    };
    let scene = Sending::by(ChannelConfig::Slack(settings.clone()), &environment).await?;
    assert_eq!(scene.attempt().await?, Receipt::Sent);
    assert_eq!(slack.received()[0].path, "/from-the-environment");
    let receipt = posting(settings).await?.attempt().await?;
    assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{receipt:?}");
    assert!(error_of(&receipt).contains("SLACK_WEBHOOK_URL is not set"), "{receipt:?}");
    Ok(())
}

#[tokio::test]
async fn slack_has_taken_only_what_it_says_ok_to() -> Result<()> {
    let slack = slack().await?;
    for answer in [
        Answer::Text(200, "<html>please log in</html>"),
        Answer::Text(500, "rollup_error"),
        Answer::StatusWithHeader(429, "retry-after", "30".to_owned()),
    ] {
        slack.answer_once(answer.clone());
        let receipt = posting(to(&slack.url("canary"))).await?.attempt().await?;
        let Receipt::Retry { after, error, may_have_arrived: false } = receipt else {
            anyhow::bail!("{answer:?}: {receipt:?}")
        };
        assert!(!error.contains("log in") && !error.contains("canary"), "{error}");
        assert_eq!(after.as_secs() >= 30, matches!(answer, Answer::StatusWithHeader(..)), "{after:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_slack_refuses_for_good_is_given_up_with_its_word() -> Result<()> {
    let slack = slack().await?;
    for (code, word) in
        [(400, "invalid_payload"), (404, "no_service"), (404, "channel_not_found"), (403, "invalid_token")]
    {
        slack.answer_once(Answer::Text(code, word));
        let scene = posting(to(&slack.url("canary"))).await?;
        let receipt = scene.attempt().await?;
        assert!(matches!(receipt, Receipt::Dead { may_have_arrived: false, .. }), "{word}: {receipt:?}");
        assert!(error_of(&receipt).ends_with(word) && !scene.stored_errors().await?.contains("canary"), "{receipt:?}");
        assert_eq!(scene.status().await?, "DEAD");
    }
    Ok(())
}

#[tokio::test]
async fn a_broken_answer_makes_the_next_message_say_that_it_may_be_a_duplicate() -> Result<()> {
    let slack = slack().await?;
    slack.answer_once(Answer::Reset);
    let scene = posting(to(&slack.url("hook"))).await?;
    let receipt = scene.attempt().await?;
    assert!(matches!(receipt, Receipt::Retry { may_have_arrived: true, .. }), "{receipt:?}");
    assert_eq!(scene.attempt().await?, Receipt::Sent);
    let said: Vec<bool> =
        slack.received().iter().map(|request| request.json.to_string().contains("may be a duplicate")).collect();
    assert_eq!(said, [false, true]);
    Ok(())
}

#[tokio::test]
async fn a_url_that_can_never_work_gives_up_without_showing_it() -> Result<()> {
    for (url, said) in [("canary", "is not a URL"), ("http://169.254.169.254/canary", "link-local or metadata")] {
        let receipt = posting(to(url)).await?.attempt().await?;
        assert!(matches!(receipt, Receipt::Dead { .. }), "{receipt:?}");
        assert!(error_of(&receipt).contains(said) && !error_of(&receipt).contains("canary"), "{receipt:?}");
    }
    Ok(())
}
