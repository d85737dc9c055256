//! Channels that have names: what is told in the place of one that fails, how often one that fails is tried, and how
//! many messages one with a rate gets, however many notifiers there are.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use sqlsentinel_common::alert::AlertDefinition;
use sqlsentinel_common::config::{Config, load_str};
use sqlsentinel_common::outcome::RunStatus::{Alert, Ok as AllOk};
use sqlsentinel_common::settings::ChannelSettings;
use sqlsentinel_common::store::outbox::{NotificationFilter, NotificationStatus, Replay};
use sqlsentinel_notifier::channel::Channels;
use sqlsentinel_notifier::deliver::{Attempt, Deliverer};
use sqlsentinel_notifier::outbox::deliver_due;
use sqlsentinel_tests::bench::{Bench, LEASE};
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::sink::{Answer, Received, Sink};
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    a_flood_comes_as_a_few_messages_and_a_digest_however_many_notifiers_there_are,
    a_digest_that_fails_puts_each_of_its_notifications_back,
    what_a_channel_refuses_is_told_by_its_fallback_which_says_so,
    the_end_is_told_where_the_beginning_was,
    a_fallback_that_the_alert_names_itself_is_told_once,
    a_receiver_that_fails_is_left_alone_and_holds_up_nobody_else,
    a_new_address_is_tried_as_if_it_had_never_failed,
    what_was_given_up_is_listed_and_sent_after_all,
);

/// A state database, and alerts that are told through the channels of one configuration.
struct Scene {
    bench: Bench,
    config: Config,
    /// In the place of a new minute for each run.
    minute: u64,
}

impl Scene {
    /// `channels` in YAML's flow style; alerts `a0`, `a1`, … that notify `notify`.
    async fn of(fixture: Fixture, channels: &str, alerts: usize, notify: &str) -> Result<Self> {
        // An error says that another test has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scene = Self { bench: Bench::on(fixture).await?, config: config(channels, alerts, notify)?, minute: 0 };
        for definition in scene.definitions() {
            scene.bench.define(definition).await?;
        }
        Ok(scene)
    }

    fn definitions(&self) -> impl Iterator<Item = &AlertDefinition> {
        self.config.alerts.iter().map(|alert| &alert.definition)
    }

    /// A notifier's sender, as another process would have it.
    fn deliverer(&self) -> Result<Deliverer> {
        let channels = Channels::new(&self.config, &ChannelSettings::default())?;
        Ok(Deliverer { store: self.bench.store.clone(), channels, metrics: None })
    }

    /// One run of every alert.
    async fn run(&mut self, status: sqlsentinel_common::outcome::RunStatus) -> Result<()> {
        self.minute += 1;
        for definition in self.definitions() {
            let recorded = self.bench.run(definition, self.minute, status).await?;
            ensure!(recorded.failure.is_none(), "{:?}", recorded.failure);
        }
        Ok(())
    }

    async fn deliver(&self, deliverer: &Deliverer) -> Result<Vec<Attempt>> {
        let alerts: Vec<String> = self.definitions().map(|definition| definition.name.clone()).collect();
        Ok(deliver_due(deliverer, &alerts, LEASE).await?)
    }

    /// `alert route kind STATUS`, and for whom it stands in, of every notification.
    async fn outbox(&self) -> Result<Vec<String>> {
        let filter = NotificationFilter { status: None, alert: None, limit: 1_000 };
        let line = |row: sqlsentinel_common::store::outbox::NotificationRecord| {
            let stands_in = row.fallback_for.map(|route| format!(" for {route}")).unwrap_or_default();
            format!("{} {} {} {}{stands_in}", row.alert_name, row.route_key, row.kind, row.status)
        };
        let mut lines: Vec<String> = self.bench.store.notifications(filter).await?.into_iter().map(line).collect();
        lines.sort();
        Ok(lines)
    }
}

fn config(channels: &str, alerts: usize, notify: &str) -> Result<Config> {
    let alert = |n| format!("- {{name: a{n}, query: q, schedule: '@daily', send_resolved: true, notify: {notify}}}\n");
    let alerts: String = (0..alerts).map(alert).collect();
    let text = format!("database: {{url: 'sqlite:///t.db'}}\nchannels: {channels}\nalerts:\n{alerts}");
    Ok(load_str(&text, "alerts.yaml", &|_| None)?)
}

/// The ids of the notifications that a request tells.
fn told(request: &Received) -> Vec<String> {
    let id = |entry: &serde_json::Value| entry["notification_id"].as_str().unwrap_or_default().to_owned();
    match request.json["notifications"].as_array() {
        Some(entries) => entries.iter().map(id).collect(),
        None => vec![id(&request.json)],
    }
}

async fn a_flood_comes_as_a_few_messages_and_a_digest_however_many_notifiers_there_are(fixture: Fixture) -> Result<()> {
    let sink = Sink::start().await?;
    let channels = format!("{{ops: {{channel: webhook, url: '{}', rate: 4/1h}}}}", sink.url("ops"));
    let mut scene = Scene::of(fixture, &channels, 20, "[ops]").await?;
    scene.run(Alert).await?;
    let (one, other) = (scene.deliverer()?, scene.deliverer()?);
    let (one_sent, other_sent) = tokio::join!(scene.deliver(&one), scene.deliver(&other));
    assert_eq!(one_sent?.len() + other_sent?.len(), 20);

    let requests = sink.received();
    assert_eq!(requests.len(), 4);
    let digests: Vec<_> = requests.iter().filter(|request| request.json["digest"] == true).collect();
    assert_eq!(digests.len(), 1);
    assert_eq!(digests[0].header("idempotency-key"), digests[0].text("digest_id"));
    let ids: Vec<String> = requests.iter().flat_map(told).collect();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (20, 20), "each is told once");
    assert!(scene.outbox().await?.iter().all(|line| line.ends_with(" SENT")));

    // The window is used up: what comes now waits, and waiting is no attempt.
    scene.run(AllOk).await?;
    assert!(scene.deliver(&one).await?.is_empty() && scene.deliver(&other).await?.is_empty());
    assert_eq!(
        scene
            .bench
            .number("SELECT CAST(MAX(attempt) AS BIGINT) FROM sqlsentinel_notifications WHERE kind = 'resolved'")
            .await?,
        0
    );
    scene.bench.execute("UPDATE sqlsentinel_channel_rates SET window_began_at = 0").await?;
    assert_eq!(scene.deliver(&scene.deliverer()?).await?.len(), 20);
    assert_eq!(sink.received().len(), 8);
    Ok(())
}

async fn a_digest_that_fails_puts_each_of_its_notifications_back(fixture: Fixture) -> Result<()> {
    let sink = Sink::start().await?;
    let channels = format!("{{ops: {{channel: webhook, url: '{}', rate: 1/1h}}}}", sink.url("ops"));
    let mut scene = Scene::of(fixture, &channels, 3, "[ops]").await?;
    scene.run(Alert).await?;
    // For good, but of the digest: no one of its notifications was refused.
    sink.answer_once(Answer::Status(400));
    let deliverer = scene.deliverer()?;
    assert_eq!(scene.deliver(&deliverer).await?.len(), 3);
    assert!(scene.outbox().await?.iter().all(|line| line.ends_with(" PENDING")), "{:?}", scene.outbox().await?);

    scene.bench.let_time_pass().await?;
    scene.bench.execute("UPDATE sqlsentinel_channel_rates SET window_began_at = 0").await?;
    assert_eq!(scene.deliver(&deliverer).await?.len(), 3);
    assert!(scene.outbox().await?.iter().all(|line| line.ends_with(" SENT")));
    assert_eq!(sink.received().len(), 2);
    Ok(())
}

async fn what_a_channel_refuses_is_told_by_its_fallback_which_says_so(fixture: Fixture) -> Result<()> {
    let (first, second) = (Sink::start().await?, Sink::start().await?);
    first.answer(Answer::Status(410));
    let mut scene = Scene::of(fixture, &standing_in(&first, &second), 1, "[on-call]").await?;
    scene.run(Alert).await?;
    scene.deliver(&scene.deliverer()?).await?;

    assert_eq!(scene.outbox().await?, ["a0 boss alert SENT for on-call", "a0 on-call alert DEAD"]);
    let received = second.received();
    let [request] = received.as_slice() else { anyhow::bail!("{received:?}") };
    assert_eq!(
        (request.text("fallback_for"), request.text("kind"), request.text("status")),
        ("on-call", "alert", "ALERT")
    );
    assert_ne!(told(request), told(&first.received()[0]), "a notification of its own");
    Ok(())
}

async fn the_end_is_told_where_the_beginning_was(fixture: Fixture) -> Result<()> {
    let (first, second) = (Sink::start().await?, Sink::start().await?);
    first.answer(Answer::Status(410));
    let mut scene = Scene::of(fixture, &standing_in(&first, &second), 1, "[on-call]").await?;
    let deliverer = scene.deliverer()?;
    for status in [Alert, AllOk] {
        scene.run(status).await?;
        scene.deliver(&deliverer).await?;
    }
    let kinds: Vec<String> = second.received().iter().map(|request| request.text("kind").to_owned()).collect();
    assert_eq!(kinds, ["alert", "resolved"]);
    assert_eq!(first.received().len(), 1, "who never heard of it hears nothing of its end");
    Ok(())
}

async fn a_fallback_that_the_alert_names_itself_is_told_once(fixture: Fixture) -> Result<()> {
    let (first, second) = (Sink::start().await?, Sink::start().await?);
    first.answer(Answer::Status(410));
    let mut scene = Scene::of(fixture, &standing_in(&first, &second), 1, "[on-call, boss]").await?;
    scene.run(Alert).await?;
    scene.deliver(&scene.deliverer()?).await?;
    assert_eq!(scene.outbox().await?, ["a0 boss alert SENT", "a0 on-call alert DEAD"]);
    assert_eq!(second.received().len(), 1);
    Ok(())
}

async fn a_receiver_that_fails_is_left_alone_and_holds_up_nobody_else(fixture: Fixture) -> Result<()> {
    let (broken, good) = (Sink::start().await?, Sink::start().await?);
    broken.answer(Answer::Status(503));
    let channels = format!(
        "{{broken: {{channel: webhook, url: '{}'}}, good: {{channel: webhook, url: '{}'}}}}",
        broken.url("x"),
        good.url("x")
    );
    let mut scene = Scene::of(fixture, &channels, 40, "[broken, good]").await?;
    scene.run(Alert).await?;
    let deliverer = scene.deliverer()?;
    scene.deliver(&deliverer).await?;
    // Five in a row open the circuit; what was under way beside them had begun before.
    let tried = broken.received().len();
    assert!((5..40).contains(&tried), "{tried} attempts");
    assert_eq!(good.received().len(), 40);
    assert_eq!(deliverer.channels.open_circuits().get("broken"), Some(&1));
    assert_eq!(deliverer.channels.open_circuits().get("good"), Some(&0));

    // However often what failed becomes due, it waits, and waiting is no attempt.
    for _ in 0..3 {
        // Due, and not for so long that it would be given up.
        scene.bench.execute("UPDATE sqlsentinel_notifications SET next_attempt_at = created_at").await?;
        scene.deliver(&deliverer).await?;
    }
    assert_eq!(broken.received().len(), tried);
    let attempts = "SELECT CAST(SUM(attempt) AS BIGINT) FROM sqlsentinel_notifications WHERE route_key = 'broken'";
    assert_eq!(usize::try_from(scene.bench.number(attempts).await?)?, tried);
    let health = deliverer.channels.check();
    let check = health.channels.get("broken").context("no check of the channel")?;
    assert_eq!(check.status, sqlsentinel_common::health::Status::Degraded);
    Ok(())
}

async fn a_new_address_is_tried_as_if_it_had_never_failed(fixture: Fixture) -> Result<()> {
    let (broken, good) = (Sink::start().await?, Sink::start().await?);
    broken.answer(Answer::Status(503));
    let ops = |sink: &Sink| format!("{{ops: {{channel: webhook, url: '{}'}}}}", sink.url("x"));
    let mut scene = Scene::of(fixture, &ops(&broken), 10, "[ops]").await?;
    scene.run(Alert).await?;
    let deliverer = scene.deliverer()?;
    scene.deliver(&deliverer).await?;
    assert_eq!(deliverer.channels.open_circuits().get("ops"), Some(&1));

    deliverer.channels.replace(&config(&ops(&good), 10, "[ops]")?);
    assert_eq!(deliverer.channels.open_circuits().get("ops"), Some(&0));
    scene.bench.let_time_pass().await?;
    scene.deliver(&deliverer).await?;
    assert_eq!(good.received().len(), 10);
    Ok(())
}

async fn what_was_given_up_is_listed_and_sent_after_all(fixture: Fixture) -> Result<()> {
    let sink = Sink::start().await?;
    sink.answer_once(Answer::Status(410));
    let channels = format!("{{ops: {{channel: webhook, url: '{}'}}}}", sink.url("x"));
    let mut scene = Scene::of(fixture, &channels, 1, "[ops]").await?;
    scene.run(Alert).await?;
    let deliverer = scene.deliverer()?;
    scene.deliver(&deliverer).await?;
    let store = &scene.bench.store;
    let filter = NotificationFilter { status: Some(NotificationStatus::Dead), alert: Some("a0"), limit: 10 };
    let dead = store.notifications(filter).await?;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].last_error.as_deref().is_some_and(|error| error.contains("410")), "{dead:?}");

    let put_back = store.replay(Replay::All { alert: Some("another") }, "eve").await?;
    assert!(put_back.is_empty());
    let put_back = store.replay(Replay::One(dead[0].notification_id.parse()?), "eve").await?;
    assert_eq!(put_back.iter().map(|row| row.replayed_by.as_deref()).collect::<Vec<_>>(), [Some("eve")]);
    scene.deliver(&deliverer).await?;
    assert_eq!(scene.outbox().await?, ["a0 ops alert SENT"]);
    assert!(store.replay(Replay::All { alert: None }, "eve").await?.is_empty(), "what was sent is not sent again");
    Ok(())
}

fn standing_in(first: &Sink, second: &Sink) -> String {
    format!(
        "{{on-call: {{channel: webhook, url: '{}', fallback: boss}}, boss: {{channel: webhook, url: '{}'}}}}",
        first.url("x"),
        second.url("x")
    )
}
