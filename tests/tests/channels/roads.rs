//! The road of one alert to each kind of channel, with several at once, and with one that is broken or away.

use anyhow::Result;
use sqlsentinel_common::settings::SmtpSecurity;
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Answer;
use sqlsentinel_tests::smtp::{Mail, MailServer, Step, Trouble};
use sqlsentinel_tests::target::Kind;

on_both_state_databases!(
    an_alert_is_mailed_once,
    an_alert_is_told_to_slack_once,
    a_broken_channel_keeps_nothing_from_the_others,
    a_mail_arrives_though_slack_is_broken,
    a_mail_server_that_recovers_gets_one_mail,
);

/// A scene whose notifier sends mails by `server` and logs in there.
async fn with_mail(state: State, server: &MailServer) -> Result<Scene> {
    let mut plan = Plan::new(state);
    for (name, value) in server.environment() {
        plan = plan.env(name, value);
    }
    Scene::set(plan, Kind::Sqlite).await
}

/// Writes a file with one alert, `orders`, whose entries of `notify` are in `entries`, in YAML's flow style.
fn configure(scene: &mut Scene, entries: &str) -> Result<()> {
    let yaml = format!(
        "database: {{url: '{}'}}\nalerts:\n  - name: orders\n    schedule: every 1s\n    query: \"{}\"\n    notify: [{entries}]\n",
        scene.target.url(),
        scene.target.query("orders"),
    );
    scene.cluster.configure(&yaml)
}

/// The same, and starts everything.
fn play(scene: &mut Scene, entries: &str) -> Result<()> {
    configure(scene, entries)?;
    scene.cluster.start()
}

async fn until_taken(server: &MailServer, count: usize) -> Result<Vec<Mail>> {
    let awaited = format!("{count} mails");
    eventually(&awaited, SOON, || async { Ok(server.taken()) }, |mails| mails.len() >= count).await
}

async fn an_alert_is_mailed_once(state: State) -> Result<()> {
    let server = MailServer::wanting(SmtpSecurity::StartTls, Some(("sentinel", "secret"))).await?;
    let mut scene = with_mail(state, &server).await?;
    scene.target.set("orders", "ALERT", 120).await?;
    play(
        &mut scene,
        "{channel: email, recipients: [ops@example.com, boss@example.com], subject: '{alert_name}: {actual_value}'}",
    )?;

    let mail = until_taken(&server, 1).await?.remove(0);
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(server.taken().len(), 1, "ALERT after ALERT is no news");
    assert_eq!(mail.to, ["ops@example.com", "boss@example.com"]);
    assert_eq!((mail.encrypted, mail.user.as_deref()), (true, Some("sentinel")));
    assert_eq!(mail.header("Subject"), "orders: 120");
    assert!(mail.data.contains("Actual Value: 120\r\nThreshold: 100\r\n"), "{}", mail.data);

    let told = scene.cluster.ledger.notifications(Some("orders")).await?;
    assert_eq!((told.len(), told[0].status.as_str(), told[0].attempt), (1, "SENT", 1));
    assert_eq!(mail.header("Message-ID"), format!("<{}@example.com>", told[0].id));
    let (_, metrics) = scene.cluster.page("notifier-1", "/metrics").await?;
    assert!(metrics.contains(r#"sqlsentinel_notifications_total{channel="email",status="sent"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"sqlsentinel_notifications_total{channel="slack",status="sent"} 0"#), "{metrics}");
    let channels = scene.cluster.health("notifier-1").await?["checks"]["notifications"]["channels"].clone();
    assert_eq!(channels["email"]["status"], "healthy", "{channels}");
    assert_eq!(channels["slack"]["status"], "not_configured", "{channels}");
    Ok(())
}

async fn an_alert_is_told_to_slack_once(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.sink.answer(Answer::Text(200, "ok"));
    scene.target.set("orders", "ALERT", 120).await?;
    let entry =
        format!("{{channel: slack, webhook_url: '{}', slack_channel: '#ops'}}", scene.sink.url("services/T/B/x"));
    play(&mut scene, &entry)?;

    let received = || async { Ok(scene.sink.received()) };
    let message = eventually("a message", SOON, received, |seen| !seen.is_empty()).await?.remove(0);
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(scene.sink.received().len(), 1, "ALERT after ALERT is no news");
    assert_eq!((message.path.as_str(), message.text("channel")), ("/services/T/B/x", "#ops"));
    assert_eq!(message.text("text"), "Alert: orders - Status: ALERT");
    let told = scene.cluster.ledger.notifications(Some("orders")).await?;
    assert_eq!((told.len(), told[0].status.as_str()), (1, "SENT"));
    Ok(())
}

async fn a_broken_channel_keeps_nothing_from_the_others(state: State) -> Result<()> {
    let server = MailServer::start(SmtpSecurity::StartTls).await?;
    server.trouble(Step::Connect, Trouble::Silence);
    let mut scene = with_mail(state, &server).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let entries = format!(
        "{{channel: email, recipients: [ops@example.com]}}, {{channel: slack}}, {{channel: webhook, url: '{}'}}",
        scene.sink.url("hook")
    );
    play(&mut scene, &entries)?;
    scene.until_received("orders", 1).await?;
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(scene.sink.received().len(), 1);
    assert_eq!(server.taken(), []);

    // The slack entry lacks its URL; the mail is under way, or its first attempt has failed.
    let health = || async { scene.cluster.health("notifier-1").await };
    let told = |health: &serde_json::Value| {
        health["checks"]["notifications"]["channels"]["slack"]["message"].to_string().contains("SLACK_WEBHOOK_URL")
    };
    let health = eventually("health names what is missing", SOON, health, told).await?;
    assert_eq!(health["checks"]["notifications"]["channels"]["webhook"]["status"], "healthy", "{health}");
    server.behave();
    assert_eq!(until_taken(&server, 1).await?.len(), 1);
    Ok(())
}

async fn a_mail_arrives_though_slack_is_broken(state: State) -> Result<()> {
    let server = MailServer::start(SmtpSecurity::StartTls).await?;
    let mut scene = with_mail(state, &server).await?;
    scene.sink.answer(Answer::Status(500));
    scene.target.set("orders", "ALERT", 7).await?;
    let slack = format!("{{channel: slack, webhook_url: '{}'}}", scene.sink.url("services/T/B/x"));
    play(&mut scene, &format!("{slack}, {{channel: email, recipients: [ops@example.com]}}"))?;
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    let both = |rows: &Vec<sqlsentinel_tests::ledger::Notification>| {
        rows.iter().any(|row| row.status == "SENT") && rows.iter().any(|row| row.status != "SENT" && row.attempt >= 2)
    };
    let tried = eventually("the mail is sent, and Slack is tried again", SOON, rows, both).await?;
    assert_eq!(tried.len(), 2);
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(server.taken().len(), 1, "the mail is not repeated because something else failed");
    scene.cluster.all_alive()?;

    // Slack recovers, and hears it once.
    let attempts = scene.sink.received().len();
    scene.sink.answer(Answer::Text(200, "ok"));
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    eventually("both are sent", SOON, rows, |rows| rows.iter().all(|row| row.status == "SENT")).await?;
    scene.until_more("orders", "ALERT", 2).await?;
    let after = scene.sink.received().len() - attempts;
    // An attempt may have been under way when the answer changed.
    assert!((1..=2).contains(&after), "{after} requests after the recovery");
    assert_eq!(server.taken().len(), 1);
    Ok(())
}

async fn a_mail_server_that_recovers_gets_one_mail(state: State) -> Result<()> {
    let server = MailServer::start(SmtpSecurity::None).await?;
    server.trouble(Step::From, Trouble::Say("451 4.3.0 try again later"));
    let mut scene = with_mail(state, &server).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    play(&mut scene, "{channel: email, recipients: [ops@example.com]}")?;
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    eventually("two attempts", SOON, rows, |rows| rows.iter().any(|row| row.attempt >= 2)).await?;
    assert_eq!(server.taken(), []);
    server.behave();

    let sent = eventually("it is sent", SOON, rows, |rows| rows.iter().all(|row| row.status == "SENT")).await?;
    assert_eq!((sent.len(), sent[0].possible_duplicate), (1, false));
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(server.taken().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_and_healthcheck_use_the_channels_of_the_environment() -> Result<()> {
    let server = MailServer::start(SmtpSecurity::StartTls).await?;
    let mut scene = with_mail(State::Sqlite, &server).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    configure(&mut scene, "{channel: email, recipients: [ops@example.com]}, {channel: slack}")?;
    let ran = scene.cluster.ctl(&["run", "--alert", "orders"]).await?;
    assert!(ran.output.contains("email notification (alert) sent"), "{ran:?}");
    assert!(ran.output.contains("slack notification (alert) retry"), "{ran:?}");
    assert_eq!(server.taken().len(), 1);
    let health = scene.cluster.ctl(&["healthcheck"]).await?;
    assert!(health.output.contains("email: healthy"), "{health:?}");
    assert!(health.output.contains("slack: degraded"), "{health:?}");
    Ok(())
}

/// A proxy would learn what is secret in URLs, and reach addresses that are refused here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_of_the_environment_are_not_used() -> Result<()> {
    let mut plan = Plan::new(State::Sqlite);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        plan = plan.env(name, "http://127.0.0.1:1");
    }
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    let tried =
        eventually("an attempt", SOON, rows, |rows| rows.iter().any(|row| row.status == "SENT" || row.attempt > 1));
    assert_eq!(tried.await?[0].status, "SENT");
    Ok(())
}
