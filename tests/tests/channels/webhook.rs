//! Webhooks to a real HTTP server, through the outbox: what is sent, and what each answer leads to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ring::hmac;
use serde_json::{Value, json};
use sqlsentinel_common::config::{ChannelConfig, Setting, WebhookConfig, WebhookMethod};
use sqlsentinel_common::outcome::{RunStatus, Verdict};
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings::ChannelSettings;
use sqlsentinel_common::store::outbox::Receipt;
use sqlsentinel_notifier::channel::Channels;
use sqlsentinel_notifier::deliver::{Attempt, Deliverer};
use sqlsentinel_notifier::outbox::deliver_due;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use sqlsentinel_tests::bench::{Bench, LEASE, alert, posting_to, verdict};
use sqlsentinel_tests::sending::{Sending, error_of};

#[derive(Clone, Debug)]
struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

#[derive(Default)]
struct Script {
    requests: Vec<Request>,
    answers: VecDeque<Answer>,
}

#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    RetryAfter(u16, &'static str),
    RedirectTo(&'static str),
    Never,
}

/// A receiver that answers by script, and 200 when that has ended.
struct Receiver {
    url: String,
    script: Arc<Mutex<Script>>,
    /// Told at each request.
    arrived: Arc<Notify>,
    _server: JoinSet<()>,
}

impl Receiver {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Result<Self> {
        // An error says that another test has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let script = Script { answers: answers.into_iter().collect(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let arrived = Arc::new(Notify::new());
        let router = Router::new().fallback(receive).with_state((script.clone(), arrived.clone()));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, script, arrived, _server: server })
    }

    fn requests(&self) -> Vec<Request> {
        locked(&self.script).requests.clone()
    }
}

fn locked(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(
    State((script, arrived)): State<(Arc<Mutex<Script>>, Arc<Notify>)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut script = locked(&script);
        script.requests.push(Request { method, path: uri.path().to_owned(), headers, body });
        script.answers.pop_front().unwrap_or(Answer::Status(200))
    };
    arrived.notify_one();
    let status = |code| StatusCode::from_u16(code).unwrap_or_default();
    match answer {
        Answer::Status(code) => status(code).into_response(),
        Answer::RetryAfter(code, after) => (status(code), [("retry-after", after)]).into_response(),
        Answer::RedirectTo(location) => (status(307), [("location", location)]).into_response(),
        Answer::Never => std::future::pending().await,
    }
}

async fn posting(url: &str) -> Result<Sending> {
    by(WebhookConfig { url: Some(Setting::literal(url)), ..WebhookConfig::default() }).await
}

async fn by(webhook: WebhookConfig) -> Result<Sending> {
    Sending::by(ChannelConfig::Webhook(webhook), &ChannelSettings::default()).await
}

#[tokio::test]
async fn the_body_has_the_keys_that_receivers_know_and_ours() -> Result<()> {
    let receiver = Receiver::start([]).await?;
    let definition = alert("revenue", &["ops"])?;
    let said = Verdict {
        actual_value: Some(serde_json::from_str("8500.10")?),
        threshold: Some(json!(10000)),
        context: serde_json::from_str("{\"region\": \"eu\"}")?,
        ..Verdict::bare(RunStatus::Alert)
    };
    let config = posting_to(&definition, &receiver.url);
    let scene = Sending::set(definition, &config, &ChannelSettings::default(), said).await?;
    assert_eq!(scene.attempt().await?, Receipt::Sent);
    assert_eq!(scene.status().await?, "SENT");

    let request = receiver.requests().pop().context("no request")?;
    let id = scene.notification_id().await?;
    let execution = scene.bench.text("SELECT execution_id FROM sqlsentinel_notifications").await?;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("idempotency-key"), Some(id.as_str()));
    assert_eq!(request.header("x-sqlsentinel-possible-duplicate"), None);
    let expected = json!({
        "alert_name": "revenue", "status": "ALERT", "description": "Revenue below the floor",
        "actual_value": serde_json::from_str::<Value>("8500.10")?, "threshold": 10000, "context": {"region": "eu"},
        "kind": "alert", "notification_id": id, "execution_id": execution,
        "scheduled_for": "2026-01-01T00:01:00.000000Z", "source": "default", "consecutive_errors": 0,
        "truncated": false, "attempt": 1, "possible_duplicate": false,
    });
    assert_eq!(request.json()?, expected);
    Ok(())
}

#[tokio::test]
async fn absent_values_are_null_and_absent_context_is_absent() -> Result<()> {
    let receiver = Receiver::start([]).await?;
    let scene = posting(&receiver.url).await?;
    scene.attempt().await?;
    let body = receiver.requests().pop().context("no request")?.json()?;
    assert_eq!((&body["actual_value"], &body["threshold"]), (&Value::Null, &Value::Null));
    assert!(body.as_object().is_some_and(|keys| keys.contains_key("actual_value") && !keys.contains_key("context")));
    Ok(())
}

#[tokio::test]
async fn a_failure_is_tried_again_under_the_same_key_and_is_no_duplicate() -> Result<()> {
    let receiver = Receiver::start([Answer::Status(500)]).await?;
    let scene = posting(&receiver.url).await?;
    let first = scene.attempt().await?;
    assert!(matches!(first, Receipt::Retry { may_have_arrived: false, .. }), "{first:?}");
    assert_eq!(scene.status().await?, "PENDING");
    assert_eq!(scene.attempt().await?, Receipt::Sent);

    let requests = receiver.requests();
    let keys: Vec<_> = requests.iter().map(|request| request.header("idempotency-key")).collect();
    assert_eq!((keys.len(), keys[0]), (2, keys[1]));
    assert_eq!(
        (&requests[1].json()?["attempt"], &requests[1].json()?["possible_duplicate"]),
        (&json!(2), &json!(false))
    );
    Ok(())
}

#[tokio::test]
async fn a_channel_that_asks_for_time_gets_it() -> Result<()> {
    let receiver = Receiver::start([Answer::RetryAfter(429, "120")]).await?;
    let scene = posting(&receiver.url).await?;
    let Receipt::Retry { after, .. } = scene.attempt().await? else { anyhow::bail!("not to be tried again") };
    assert_eq!(after.as_secs(), 120);
    assert_eq!(scene.deliver().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_refused_for_good_is_given_up() -> Result<()> {
    let receiver = Receiver::start([Answer::Status(400)]).await?;
    let scene = posting(&receiver.url).await?;
    assert!(matches!(scene.attempt().await?, Receipt::Dead { may_have_arrived: false, .. }));
    assert_eq!(scene.status().await?, "DEAD");
    Ok(())
}

#[tokio::test]
async fn silence_after_the_request_makes_the_next_attempt_a_possible_duplicate() -> Result<()> {
    let receiver = Receiver::start([Answer::Never]).await?;
    let scene = posting(&receiver.url).await?;
    let silence = scene.attempt_until_it_is_late(&receiver.arrived).await?;
    assert!(matches!(silence, Receipt::Retry { may_have_arrived: true, .. }), "{silence:?}");
    assert!(error_of(&silence).contains("no answer"), "{silence:?}");
    assert_eq!(scene.attempt().await?, Receipt::Sent);

    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("x-sqlsentinel-possible-duplicate"), Some("true"));
    assert_eq!(requests[1].json()?["possible_duplicate"], json!(true));
    assert_eq!(requests[0].header("idempotency-key"), requests[1].header("idempotency-key"));
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_may_have_carried_it() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let scene = posting(&format!("http://{}/", listener.local_addr()?)).await?;
    let breaking = async {
        let (mut stream, _) = listener.accept().await?;
        let mut bytes = [0; 64];
        tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await?;
        anyhow::Ok(())
    };
    let (receipt, broken) = tokio::join!(scene.attempt(), breaking);
    broken?;
    assert!(matches!(receipt?, Receipt::Retry { may_have_arrived: true, .. }));
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_not_there_has_received_nothing() -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let scene = posting(&format!("http://{address}/canary")).await?;
    let receipt = scene.attempt().await?;
    assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{receipt:?}");
    assert!(error_of(&receipt).contains("no connection") && !error_of(&receipt).contains("canary"), "{receipt:?}");
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> Result<()> {
    let receiver = Receiver::start([Answer::RedirectTo("/elsewhere")]).await?;
    let scene = posting(&receiver.url).await?;
    let receipt = scene.attempt().await?;
    assert!(error_of(&receipt).contains("redirects are not followed"), "{receipt:?}");
    assert_eq!(receiver.requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn settings_decide_method_and_headers_and_get_sends_no_body() -> Result<()> {
    let receiver = Receiver::start([]).await?;
    let headers = [("x-team", "ops"), ("idempotency-key", "ours stands"), ("content-type", "application/vnd.x+json")];
    for (method, has_body) in [(WebhookMethod::Get, false), (WebhookMethod::Put, true), (WebhookMethod::Patch, true)] {
        let headers = headers.map(|(name, value)| (name.to_owned(), Setting::literal(value)));
        let url = Some(Setting::literal(receiver.url.clone()));
        let headers = BTreeMap::from(headers);
        let scene = by(WebhookConfig { url, method, headers, ..WebhookConfig::default() }).await?;
        assert_eq!(scene.attempt().await?, Receipt::Sent);
        let request = receiver.requests().pop().context("no request")?;
        assert_eq!((request.method.as_str(), request.body.is_empty()), (method.as_str(), !has_body));
        assert_eq!(request.header("x-team"), Some("ops"));
        assert_eq!(request.header("content-type"), Some("application/vnd.x+json"));
        assert_ne!(request.header("idempotency-key"), Some("ours stands"));
    }
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_shares_a_secret_can_tell_who_wrote() -> Result<()> {
    let receiver = Receiver::start([]).await?;
    for method in [WebhookMethod::Post, WebhookMethod::Get] {
        let (url, secret) = (Some(Setting::literal(receiver.url.clone())), Some(Setting::literal("canary")));
        let scene = by(WebhookConfig { url, method, secret, ..WebhookConfig::default() }).await?;
        assert_eq!(scene.attempt().await?, Receipt::Sent);
        let request = receiver.requests().pop().context("no request")?;
        let timestamp = request.header("x-sqlsentinel-timestamp").context("no timestamp")?;
        let age =
            sqlsentinel_tests::wall_clock::now() / sqlsentinel_tests::wall_clock::SECOND - timestamp.parse::<i64>()?;
        assert!((-1..60).contains(&age), "{age}");
        let signature = request.header("x-sqlsentinel-signature").context("no signature")?;
        let hex = signature.strip_prefix("sha256=").context("another kind of signature")?;
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        let bytes = bytes.collect::<Result<Vec<u8>, _>>()?;
        let signed = [timestamp.as_bytes(), b".", &request.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"canary");
        assert!(hmac::verify(&key, &signed, &bytes).is_ok(), "{method:?}");
    }
    assert_eq!(receiver.requests().iter().filter(|request| format!("{request:?}").contains("canary")).count(), 0);
    Ok(())
}

#[tokio::test]
async fn an_entry_without_url_uses_the_environments_and_only_that_gets_its_login() -> Result<()> {
    let (ours, other) = (Receiver::start([]).await?, Receiver::start([]).await?);
    let settings = ChannelSettings {
        webhook_url: Some(Secret::new(ours.url.clone())),
        webhook_auth_header: Some(Secret::new("Bearer canary")),
        ..ChannelSettings::default()
    };
    let named = |url: &str| WebhookConfig { url: Some(Setting::literal(url)), ..WebhookConfig::default() };
    let own = [("Authorization".to_owned(), Setting::literal("Bearer own"))];
    let own = WebhookConfig { headers: BTreeMap::from(own), ..WebhookConfig::default() };
    for (webhook, receiver, login) in [
        (WebhookConfig::default(), &ours, Some("Bearer canary")),
        (named(&ours.url), &ours, Some("Bearer canary")),
        (own, &ours, Some("Bearer own")),
        (named(&other.url), &other, None),
    ] {
        let scene = Sending::by(ChannelConfig::Webhook(webhook), &settings).await?;
        assert_eq!(scene.attempt().await?, Receipt::Sent);
        let request = receiver.requests().pop().context("no request")?;
        assert_eq!(request.header("authorization"), login);
    }
    let receipt = by(WebhookConfig::default()).await?.attempt().await?;
    assert!(matches!(&receipt, Receipt::Retry { may_have_arrived: false, .. }), "{receipt:?}");
    assert!(error_of(&receipt).contains("WEBHOOK_URL is not set"), "{receipt:?}");
    Ok(())
}

#[tokio::test]
async fn settings_that_can_never_work_give_up_without_showing_them() -> Result<()> {
    let with = |url: &str, header: &str| WebhookConfig {
        url: Some(Setting::literal(url)),
        headers: BTreeMap::from([("x-token".to_owned(), Setting::literal(header))]),
        ..WebhookConfig::default()
    };
    for (webhook, said) in [
        (with("http://127.0.0.1:1/", "canary\r\nx-evil: 1"), "x-token"),
        (with("canary", ""), "not a URL"),
        (with("ftp://canary/", ""), "neither http nor https"),
        (with("http://169.254.169.254/canary", ""), "link-local or metadata"),
        (with("http://[::ffff:a9fe:a9fe]/canary", ""), "link-local or metadata"),
        (with("http://2852039166/canary", ""), "link-local or metadata"),
    ] {
        let receipt = by(webhook).await?.attempt().await?;
        assert!(matches!(receipt, Receipt::Dead { may_have_arrived: false, .. }), "{receipt:?}");
        let error = error_of(&receipt);
        assert!(error.contains(said) && !error.contains("canary"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn what_somebody_can_still_mend_is_tried_again() -> Result<()> {
    let unset = WebhookConfig {
        url: Some(Setting::parse("https://hooks.example/canary/${SQLSENTINEL_TEST_UNSET}")?),
        ..WebhookConfig::default()
    };
    let receipt = by(unset).await?.attempt().await?;
    assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{receipt:?}");
    assert!(error_of(&receipt).contains("SQLSENTINEL_TEST_UNSET") && !error_of(&receipt).contains("canary"));

    let definition = alert("revenue", &["ops"])?;
    let elsewhere = posting_to(&alert("revenue", &["renamed"])?, "http://127.0.0.1:1/");
    let receipt = Sending::set(definition, &elsewhere, &ChannelSettings::default(), verdict(RunStatus::Alert)).await?;
    let receipt = receipt.attempt().await?;
    assert!(matches!(&receipt, Receipt::Retry { error, .. } if error.contains("`ops`")), "{receipt:?}");
    Ok(())
}

#[tokio::test]
async fn the_end_of_errors_that_were_never_told_is_skipped_and_frees_the_queue() -> Result<()> {
    let receiver = Receiver::start([Answer::Status(400)]).await?;
    let definition = alert("revenue", &["ops"])?;
    let config = posting_to(&definition, &receiver.url);
    let bench = Bench::sqlite().await?;
    let deliverer = Deliverer {
        store: bench.store.clone(),
        channels: Channels::new(&config, &ChannelSettings::default())?,
        metrics: None,
    };
    bench.define(&definition).await?;
    for minute in 1..=3 {
        bench.run(&definition, minute, RunStatus::Error).await?;
    }
    let told = deliver_due(&deliverer, std::slice::from_ref(&definition.name), LEASE).await?;
    assert!(matches!(told.as_slice(), [Attempt { receipt: Some(Receipt::Dead { .. }), .. }]), "{told:?}");
    bench.run(&definition, 4, RunStatus::Alert).await?;
    let told = deliver_due(&deliverer, std::slice::from_ref(&definition.name), LEASE).await?;
    let receipts: Vec<_> = told.iter().filter_map(|attempt| attempt.receipt.clone()).collect();
    assert!(matches!(receipts.as_slice(), [Receipt::Skipped { .. }, Receipt::Sent]), "{receipts:?}");
    assert_eq!(receiver.requests().len(), 2);
    Ok(())
}
