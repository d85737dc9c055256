//! A state database with a ledger for a notifier to judge by, and questions to ask of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlsentinel_common::alert::{
    About, AlertDefinition, ChannelKind, ConfigHash, JudgingRules, PlanningRules, QueryOptions, Route, SourceName,
};
use sqlsentinel_common::config::{
    AlertConfig, Channel, ChannelConfig, Config, Setting, WebhookConfig, normalise_database_url,
};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::messages::{MESSAGE_VERSION, OutcomeMessage};
use sqlsentinel_common::outcome::{ErrorKind, RunStatus, Verdict};
use sqlsentinel_common::schedule::Schedule;
use sqlsentinel_common::store::outbox::{Claim, ClaimRequest};
use sqlsentinel_common::store::{Dialect, Store, StoreRole};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_notifier::record::{Recorded, Recorder};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, AssertSqlSafe, Row};
use tempfile::TempDir;

use crate::stores::Fixture;

/// The nominal time of the first fire: 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// How long claims hold.
pub const LEASE: Duration = Duration::from_secs(30);

/// A state database, and a notifier's recorder on it.
pub struct Bench {
    /// A notifier's store.
    pub store: Store,
    /// A notifier's recorder.
    pub recorder: Recorder,
    pool: AnyPool,
    // Ends after the store and the pool: fields are dropped in order.
    _fixture: Option<Fixture>,
    _directory: Option<TempDir>,
}

impl Bench {
    /// On `fixture`'s database.
    pub async fn on(fixture: Fixture) -> Result<Self> {
        let store = fixture.another(StoreRole::Member)?;
        let url = fixture.url().to_owned();
        Ok(Self { _fixture: Some(fixture), ..Self::with(store, &url).await? })
    }

    /// Beside `fixture`, on its database.
    pub async fn on_same(fixture: &Fixture) -> Result<Self> {
        Self::with(fixture.another(StoreRole::Member)?, fixture.url()).await
    }

    /// On a SQLite database of its own.
    pub async fn sqlite() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let url = format!("sqlite:///{}", directory.path().join("state.db").display());
        let store = Store::connect(&normalise_database_url(&url)?, StoreRole::Member)?;
        store.migrate().await?;
        Ok(Self { _directory: Some(directory), ..Self::with(store, &url).await? })
    }

    async fn with(store: Store, url: &str) -> Result<Self> {
        let url = normalise_database_url(url)?;
        let pool = AnyPoolOptions::new().max_connections(2).connect(url.url.expose()).await?;
        Ok(Self { recorder: Recorder::new(store.clone()), store, pool, _fixture: None, _directory: None })
    }

    /// Which of the two it is.
    pub fn dialect(&self) -> Dialect {
        self.store.dialect()
    }

    /// Runs a statement; how many rows it has changed.
    pub async fn execute(&self, sql: &str) -> Result<u64> {
        Ok(sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await.context(sql.to_owned())?.rows_affected())
    }

    /// The first column of the first row, as text.
    pub async fn text(&self, sql: &str) -> Result<String> {
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&self.pool).await.context(sql.to_owned())?;
        Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_else(|| "NULL".to_owned()))
    }

    /// The first column of the first row, as a number.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&self.pool).await.context(sql.to_owned())?;
        Ok(row.try_get::<i64, _>(0)?)
    }

    /// How many rows `sqlsentinel_<table>` has.
    pub async fn count(&self, table: &str) -> Result<i64> {
        self.number(&format!("SELECT COUNT(*) FROM sqlsentinel_{table}")).await
    }

    /// The query that gives `each` of the rows of `from` as one text, in the order of `by`.
    pub fn aggregated(&self, each: &str, separator: &str, by: &str, from: &str) -> String {
        let aggregate = match self.dialect() {
            Dialect::Postgres => "string_agg",
            Dialect::Sqlite => "group_concat",
        };
        format!("SELECT {aggregate}({each}, {separator} ORDER BY {by}) FROM {from}")
    }

    /// Puts a definition into the ledger.
    pub async fn define(&self, definition: &AlertDefinition) -> Result<ConfigHash> {
        let json = definition.canonical_json()?;
        let hash = ConfigHash::of(&json);
        sqlx::query("INSERT INTO sqlsentinel_definitions (config_hash, alert_name, definition) VALUES ($1, $2, $3)")
            .bind(hash.as_str().to_owned())
            .bind(definition.name.clone())
            .bind(json)
            .execute(&self.pool)
            .await?;
        Ok(hash)
    }

    /// Puts a definition into the ledger, and in force.
    pub async fn adopt(&self, definition: &AlertDefinition) -> Result<ConfigHash> {
        let hash = self.define(definition).await?;
        sqlx::query(
            "INSERT INTO sqlsentinel_configs (id, alert_name, config_hash, config_yaml, loaded_at, active, valid_from, \
             epoch, seq) VALUES ($1, $2, $1, '', CURRENT_TIMESTAMP, TRUE, 1, 1, 1)",
        )
        .bind(hash.as_str().to_owned())
        .bind(definition.name.clone())
        .execute(&self.pool)
        .await?;
        Ok(hash)
    }

    /// A queued fire of the alert, due `minute` minutes after the first one; what its worker would send with `verdict`.
    pub async fn fire(&self, definition: &AlertDefinition, minute: u64, verdict: Verdict) -> Result<OutcomeMessage> {
        let outcome = outcome(definition, minute, verdict)?;
        sqlx::query(
            "INSERT INTO sqlsentinel_fires (execution_id, alert_name, scheduled_for, config_hash, source, status, \
             deadline, attempt, epoch, seq) VALUES ($1, $2, $3, $4, 'default', 'QUEUED', $3, 1, 1, 1)",
        )
        .bind(outcome.execution_id.to_string())
        .bind(definition.name.clone())
        .bind(outcome.scheduled_for.as_micros())
        .bind(outcome.config_hash.as_str().to_owned())
        .execute(&self.pool)
        .await?;
        Ok(outcome)
    }

    /// A fire with this outcome, recorded.
    pub async fn run(&self, definition: &AlertDefinition, minute: u64, status: RunStatus) -> Result<Recorded> {
        let outcome = self.fire(definition, minute, verdict(status)).await?;
        Ok(self.recorder.record(&[&outcome]).await)
    }

    /// Claims up to `limit` notifications.
    pub async fn claim(&self, limit: usize) -> Result<Vec<Claim>> {
        let request = ClaimRequest::new(limit, LEASE);
        Ok(self.store.claim_notifications(request).await?.claims)
    }

    /// As if the state database's clock had moved on: every pause and every lease is over.
    pub async fn let_time_pass(&self) -> Result<()> {
        self.execute(
            "UPDATE sqlsentinel_notifications SET next_attempt_at = 0, \
             claimed_until = CASE WHEN claimed_until IS NULL THEN NULL ELSE 0 END",
        )
        .await?;
        Ok(())
    }
}

/// An alert with a webhook for each of `routes`.
pub fn alert(name: &str, routes: &[&str]) -> Result<AlertDefinition> {
    let route = |key: &&str| Route { key: (*key).to_owned(), channel: ChannelKind::Webhook };
    Ok(AlertDefinition {
        name: name.to_owned(),
        description: "Revenue below the floor".to_owned(),
        query: "SELECT 'ALERT' AS status".to_owned(),
        source: SourceName::default_source(),
        schedule: Schedule::parse("* * * * *", chrono_tz::UTC)?,
        timeout_ms: 1_000,
        enabled: true,
        notify: routes.iter().map(route).collect(),
        error_after: 3,
        rules: JudgingRules::default(),
        options: QueryOptions::default(),
        planning: PlanningRules::default(),
        about: About::default(),
    })
}

/// What a worker would send for the alert's fire of that minute.
pub fn outcome(definition: &AlertDefinition, minute: u64, verdict: Verdict) -> Result<OutcomeMessage> {
    let scheduled_for = START.plus(Duration::from_secs(60 * minute));
    Ok(OutcomeMessage {
        version: MESSAGE_VERSION,
        execution_id: ExecutionId::manual(),
        alert_name: definition.name.clone(),
        scheduled_for,
        attempt: 1,
        delivery: 1,
        config_hash: ConfigHash::of(&definition.canonical_json()?),
        source: definition.source.clone(),
        worker: "worker-1".to_owned(),
        started_at: scheduled_for.plus(Duration::from_millis(250)),
        duration_ms: 12.5,
        verdict,
    })
}

/// A verdict with this status and no more than that needs.
pub fn verdict(status: RunStatus) -> Verdict {
    match status {
        RunStatus::Error => Verdict::error(ErrorKind::Query, "relation \"orders\" does not exist"),
        _ => Verdict::bare(status),
    }
}

/// A configuration in which each route of `definition` posts to `url`.
pub fn posting_to(definition: &AlertDefinition, url: &str) -> Config {
    let webhook = WebhookConfig { url: Some(Setting::literal(url)), ..WebhookConfig::default() };
    configured(definition, webhook)
}

/// A configuration in which `webhook` is behind each route of `definition`.
pub fn configured(definition: &AlertDefinition, webhook: WebhookConfig) -> Config {
    sending_by(definition, ChannelConfig::Webhook(webhook))
}

/// A configuration in which `channel` is behind each route of `definition`.
pub fn sending_by(definition: &AlertDefinition, channel: ChannelConfig) -> Config {
    let channel = Arc::new(Channel::from(channel));
    let channels = definition.notify.iter().map(|route| (route.clone(), channel.clone()));
    Config {
        sources: BTreeMap::new(),
        channels: BTreeMap::new(),
        alerts: vec![AlertConfig { definition: definition.clone(), channels: channels.collect() }],
        warnings: Vec::new(),
    }
}
