//! Invariant 9: a secret of each kind, in each position, reaches whom it is for, and is in no message, row, log line,
//! figure, health report or output of a command.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use async_nats::Subscriber;
use futures::StreamExt;
use sqlsentinel_common::settings::SmtpSecurity;
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::smtp::MailServer;
use sqlsentinel_tests::target::Kind;

on_both_state_databases!(no_secret_travels);

/// Where something was found or not: a name for people, and what lies there.
type Place = (String, Vec<u8>);

/// What every secret contains, so that one search finds them all.
const CANARY: &str = "canary";

const COMMANDS: &[&[&str]] = &[
    &["validate"],
    &["validate", "--output", "json"],
    &["status"],
    &["status", "--output", "json"],
    &["history"],
    &["history", "--output", "json", "--limit", "1000"],
    &["silence", "--alert", "orders", "--duration", "1m"],
    &["silences"],
    &["silences", "--output", "json"],
    &["unsilence", "--alert", "orders"],
    &["healthcheck"],
    &["healthcheck", "--output", "json"],
    &["healthcheck", "--cluster"],
    &["run", "--dry-run"],
    &["run", "--alert", "orders"],
    &["run", "--alert", "by-mysql"],
    &["run", "--alert", "by-query"],
    &["notifications"],
    &["init"],
];

async fn no_secret_travels(state: State) -> Result<()> {
    let server = MailServer::wanting(SmtpSecurity::StartTls, Some(("sentinel", "canary-smtp"))).await?;
    let mut plan = Plan::new(state)
        .env("PG_PASSWORD", "canary-postgres")
        .env("MY_URL", "mysql://nobody:canary-mysql@127.0.0.1:1/none")
        .env("QUERY_PART", "canary_of_query")
        .env("HOOK_TOKEN", "canary-token")
        .env("HOOK_AUTHORIZATION", "canary-header")
        .env("HOOK_SECRET", "canary-hmac")
        .env("WEBHOOK_URL", "http://127.0.0.1:1/canary-webhook-url")
        .env("WEBHOOK_AUTH_HEADER", "Bearer canary-webhook-header")
        .env("SLACK_WEBHOOK_URL", "http://127.0.0.1:1/services/canary-slack-env");
    for (name, value) in server.environment() {
        plan = plan.env(name, value);
    }
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let yaml = format!(
        r##"
databases:
  default: {{ url: "{target}" }}
  pg: {{ url: "postgresql://nobody:${{PG_PASSWORD}}@127.0.0.1:1/none" }}
  my: {{ url: "${{MY_URL}}" }}
  literal: {{ url: "mysql://nobody:canary-literal-password@127.0.0.1:1/none?ssl-mode=canary-parameter" }}
alerts:
  - name: orders
    schedule: every 1s
    query: "{query}"
    notify:
      - {{ channel: webhook, url: "{hook}", headers: {{ Authorization: "${{HOOK_AUTHORIZATION}}" }}, secret: "${{HOOK_SECRET}}" }}
      - {{ channel: webhook, url: "http://user:canary-literal-login@127.0.0.1:1/canary-literal-path", headers: {{ X-Key: canary-literal-header }}, secret: canary-literal-secret }}
      - {{ channel: webhook }}
      - {{ channel: slack }}
      - {{ channel: slack, webhook_url: "http://127.0.0.1:1/services/canary-slack-literal" }}
      - {{ channel: email, recipients: [ops@example.com] }}
  - {{ name: by-postgres, database: pg, schedule: every 1s, query: "SELECT 'OK' AS status", notify: [] }}
  - {{ name: by-mysql, database: my, schedule: every 1s, query: "SELECT 'OK' AS status", notify: [] }}
  - {{ name: by-literal, database: literal, schedule: every 1s, query: "SELECT 'OK' AS status", notify: [] }}
  - {{ name: by-query, schedule: every 1s, query: "SELECT ${{QUERY_PART}} AS status", query_env: [QUERY_PART], notify: [] }}
"##,
        target = scene.target.url(),
        query = scene.target.query("orders"),
        hook = scene.sink.url("hook?token=${HOOK_TOKEN}"),
    );
    scene.cluster.configure(&yaml)?;
    let listener = async_nats::connect(scene.cluster.nats.url()).await?;
    let bus = listener.subscribe(">").await?;
    listener.flush().await?;
    scene.cluster.start()?;

    // Whom they are for has them.
    let told = scene.until_received("orders", 1).await?.remove(0);
    assert_eq!((told.path.as_str(), told.header("authorization")), ("/hook?token=canary-token", "canary-header"));
    assert!(!told.json.to_string().contains(CANARY), "{}", told.json);
    let mails = || async { Ok(server.taken()) };
    let mail = eventually("the mail is taken", SOON, mails, |mails| !mails.is_empty()).await?.remove(0);
    assert!(mail.user.as_deref() == Some("sentinel") && !mail.data.contains(CANARY), "{mail:?}");
    for alert in ["by-postgres", "by-mysql", "by-literal", "by-query"] {
        scene.until_more(alert, "ERROR", 1).await?;
    }
    // It did stand in the text: the database knows no such column.
    let errors = scene.cluster.ledger.executions(Some("by-query")).await?;
    assert!(errors[0].error.contains("no such column"), "{errors:?}");
    let tried = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    let all = |rows: &Vec<sqlsentinel_tests::ledger::Notification>| {
        rows.len() == 6 && rows.iter().all(|row| row.status == "SENT" || row.attempt >= 2)
    };
    eventually("every route was tried, and those that fail again", SOON, tried, all).await?;

    let mut places = Vec::new();
    for arguments in COMMANDS {
        let ran = scene.cluster.ctl(arguments).await?;
        ensure!(ran.code.is_some_and(|code| code < 2), "{arguments:?}: {ran:?}");
        ensure!(!ran.output.is_empty(), "{arguments:?} said nothing");
        places.push((format!("output of {arguments:?}"), ran.output.into_bytes()));
    }
    for name in scene.cluster.names(None) {
        for page in ["/health", "/ready", "/metrics"] {
            places.push((format!("{page} of {name}"), scene.cluster.page(&name, page).await?.1.into_bytes()));
        }
        let asked = scene.cluster.run(&name, &["healthcheck", "--output", "json"]).await?;
        places.push((format!("healthcheck of {name}"), asked.output.into_bytes()));
        scene.cluster.terminate(&name).await?;
        places.push((format!("log of {name}"), scene.cluster.log(&name)?.into_bytes()));
    }
    let heard = heard(bus).await?;
    assert!(heard.iter().any(|(subject, _)| subject.starts_with("jobs.")), "no job was heard");
    assert!(heard.iter().any(|(subject, _)| subject.starts_with("results.")), "no outcome was heard");
    places.extend(heard);
    if let Some(postgres) = &scene.cluster.postgres {
        let dump = postgres.dump("state").await?;
        assert!(dump.contains("sqlsentinel_configs") && dump.contains("by-literal"), "an empty dump");
        places.push(("dump of the state database".to_owned(), dump.into_bytes()));
    }
    // The files of a SQLite state, and those of the streams: what has been there has travelled.
    scene.cluster.nats.kill().await?;
    for folder in [scene.cluster.directory(), &scene.cluster.nats.store()] {
        collect(folder, &mut places)?;
    }
    places.retain(|(place, _)| !place.ends_with("alerts.yaml"));
    assert!(state == State::Postgres || places.iter().any(|(place, _)| place.ends_with("state.db")));

    for (place, bytes) in &places {
        let found = bytes.windows(CANARY.len()).position(|window| window == CANARY.as_bytes());
        if let Some(at) = found {
            let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 60)];
            anyhow::bail!("a secret is in {place}: …{}…", String::from_utf8_lossy(around));
        }
    }
    Ok(())
}

/// Every message that has passed by, with its headers.
async fn heard(mut bus: Subscriber) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    // What has arrived is kept, and then comes the end.
    bus.unsubscribe().await?;
    while let Some(message) = bus.next().await {
        let headers = message.headers.map(|headers| format!("{headers:?}")).unwrap_or_default();
        places.push((message.subject.to_string(), [headers.as_bytes(), &message.payload].concat()));
    }
    Ok(places)
}

fn collect(folder: &Path, places: &mut Vec<Place>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, places)?;
        } else {
            places.push((path.display().to_string(), std::fs::read(&path)?));
        }
    }
    Ok(())
}
