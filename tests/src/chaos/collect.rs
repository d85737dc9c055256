//! Reads what happened into a [`History`](history::History): the ledger, what leaders wrote, what ran at the target, what
//! arrived at the receiver. Plain SQL, sharing no code with what is judged.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{Executor, PgPool, Row};

use super::history::{self, ATTEMPT, Alert, Answer, Definition, Delivery, Execution, Ledger, Run, Version, Write};
use super::installation::Installation;
use crate::sink::{self, Received};
use crate::wall_clock::now;

/// What a worker's own query is tagged with.
const ROLE_CHECK: &str = "role-check";

/// Notes every row that is stamped by a leader, in the order in which leaders wrote: their transactions come one after
/// another, since each begins by updating the same row.
const NOTE_WRITES: &str = "
CREATE TABLE chaos_writes (
    id BIGSERIAL PRIMARY KEY, at BIGINT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, epoch BIGINT, seq BIGINT
);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    row JSONB := to_jsonb(NEW);
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.epoch, NEW.seq) IS NOT DISTINCT FROM (OLD.epoch, OLD.seq) THEN
        RETURN NULL;
    END IF;
    INSERT INTO chaos_writes (at, name, key, epoch, seq) VALUES (
        CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT), TG_TABLE_NAME,
        COALESCE(row ->> 'execution_id', row ->> 'id', row ->> 'set_hash',
            concat(row ->> 'alert_name', ' ', row ->> 'first_scheduled_for')),
        NEW.epoch, NEW.seq
    );
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE ON sqlsentinel_fires FOR EACH ROW EXECUTE FUNCTION chaos_note();
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE ON sqlsentinel_gaps FOR EACH ROW EXECUTE FUNCTION chaos_note();
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE ON sqlsentinel_configs FOR EACH ROW EXECUTE FUNCTION chaos_note();
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE ON sqlsentinel_config_sets FOR EACH ROW EXECUTE FUNCTION chaos_note();
";

/// Begins to note what leaders write, in a database that a coordinator has prepared.
pub async fn note_writes(pool: &PgPool) -> Result<()> {
    // All of it or nothing: several statements without parameters are one transaction.
    pool.execute(NOTE_WRITES).await.context("cannot watch what leaders write")?;
    Ok(())
}

/// What the state database says at the end.
async fn ledger(installation: &Installation) -> Result<Ledger> {
    Ok(Ledger {
        fires: installation.ledger.fires(None).await?,
        gaps: installation.ledger.gaps(None).await?,
        executions: executions(&installation.pool).await?,
        notifications: installation.ledger.notifications(None).await?,
    })
}

async fn executions(pool: &PgPool) -> Result<Vec<Execution>> {
    let select = "SELECT id, alert_name, COALESCE(scheduled_for, 0), \
                  CAST(EXTRACT(EPOCH FROM executed_at) * 1000000 AS BIGINT), status, COALESCE(actual_value_json, ''), \
                  CAST(COALESCE(attempt, 0) AS BIGINT), CAST(COALESCE(delivery, 0) AS BIGINT) \
                  FROM sqlsentinel_executions ORDER BY scheduled_for, alert_name";
    rows(pool, select, |row| {
        Ok(Execution {
            id: row.try_get(0)?,
            alert: row.try_get(1)?,
            scheduled_for: row.try_get(2)?,
            executed_at: row.try_get(3)?,
            status: row.try_get(4)?,
            value: row.try_get::<String, _>(5)?.parse().ok(),
            attempt: row.try_get(6)?,
            delivery: row.try_get(7)?,
        })
    })
    .await
}

/// What leaders wrote.
async fn writes(pool: &PgPool) -> Result<Vec<Write>> {
    let select = "SELECT at, name, key, COALESCE(epoch, 0), COALESCE(seq, 0) FROM chaos_writes ORDER BY id";
    rows(pool, select, |row| {
        Ok(Write {
            at: row.try_get(0)?,
            table: row.try_get(1)?,
            key: row.try_get(2)?,
            epoch: row.try_get(3)?,
            seq: row.try_get(4)?,
        })
    })
    .await
}

/// Adds to each alert the versions that the ledger had in force.
async fn versions(pool: &PgPool, alerts: &mut [Alert]) -> Result<()> {
    let select = "SELECT c.alert_name, c.valid_from, c.valid_until, d.definition FROM sqlsentinel_configs c \
                  JOIN sqlsentinel_definitions d USING (config_hash) WHERE c.valid_from IS NOT NULL \
                  ORDER BY c.valid_from";
    let found = rows(pool, select, |row| {
        let version = Version {
            valid_from: row.try_get(1)?,
            valid_until: row.try_get(2)?,
            definition: definition(&serde_json::from_str(&row.try_get::<String, _>(3)?)?),
        };
        Ok((row.try_get::<String, _>(0)?, version))
    })
    .await?;
    for (name, version) in found {
        let alert = alerts.iter_mut().find(|alert| alert.name == name).context("a version of an unknown alert")?;
        alert.versions.push(version);
    }
    Ok(())
}

/// A stored definition, as far as it is judged. What it does not say is as it is by default.
fn definition(json: &Value) -> Definition {
    let default = Definition::default();
    let (rules, planning) = (&json["rules"], &json["planning"]);
    let microseconds = |value: &Value| value.as_i64().map(|milliseconds| milliseconds * 1_000);
    let word = |value: &Value| value.as_str().map(str::to_owned);
    Definition {
        schedule: word(&json["schedule"]["text"]).unwrap_or_default(),
        timezone: word(&json["schedule"]["timezone"]).unwrap_or_default(),
        enabled: json["enabled"].as_bool().unwrap_or_default(),
        misfire: serde_json::from_value(planning["misfire"].clone()).unwrap_or(default.misfire),
        catchup_us: microseconds(&planning["catchup_window_ms"]),
        overlap: serde_json::from_value(planning["overlap"].clone()).unwrap_or(default.overlap),
        jitter_us: microseconds(&planning["jitter_ms"]).unwrap_or(default.jitter_us),
        timeout_us: microseconds(&json["timeout_ms"]).unwrap_or_default(),
        consecutive: rules["consecutive"].as_u64().map_or(default.consecutive, |times| times as usize),
        for_us: microseconds(&rules["for_ms"]).unwrap_or(default.for_us),
        repeat_us: microseconds(&rules["repeat_interval_ms"]),
        send_resolved: rules["send_resolved"].as_bool().unwrap_or(default.send_resolved),
    }
}

/// The queries of alerts that ran at the target, but for those that were under way when `ledger` was read: of fires due
/// after `until`, and of what the ledger does not know yet.
fn runs(installation: &Installation, ledger: &Ledger, until: i64) -> Result<Vec<Run>> {
    let due: HashMap<&str, i64> =
        ledger.fires.iter().map(|fire| (fire.execution_id.as_str(), fire.scheduled_for)).collect();
    let statements = installation.target_server.statements()?;
    let runs = statements.into_iter().filter_map(|statement| {
        // The session is named after the execution in the statements before; the text names the alert.
        let execution_id = statement.application_name.strip_prefix("sqlsentinel ")?.to_owned();
        let alert = statement.text.rsplit_once("/* sqlsentinel:")?.1.strip_suffix(" */")?.to_owned();
        let judged = due.get(execution_id.as_str()).copied().unwrap_or(statement.at) <= until;
        // Workers ask about their own role, too.
        (judged && alert != ROLE_CHECK).then_some(Run { execution_id, alert, at: statement.at })
    });
    Ok(runs.collect())
}

/// What arrived at the receiver.
fn deliveries(received: Vec<Received>) -> Vec<Delivery> {
    let delivery = |request: Received| Delivery {
        at: request.wall,
        notification_id: request.header("idempotency-key").to_owned(),
        alert: request.text("alert_name").to_owned(),
        kind: request.text("kind").to_owned(),
        status: request.text("status").to_owned(),
        value: request.json["actual_value"].as_i64(),
        possible_duplicate: request.json["possible_duplicate"] == true,
        answer: match request.answer {
            sink::Answer::Status(code) | sink::Answer::StatusWithHeader(code, ..) | sink::Answer::Text(code, _) => {
                Answer::Status(code)
            }
            sink::Answer::Late(delay, code) if delay < ATTEMPT => Answer::Status(code),
            sink::Answer::Late(..) | sink::Answer::Hang => Answer::Timeout,
            sink::Answer::Reset => Answer::Reset,
        },
    };
    received.into_iter().map(delivery).collect()
}

/// How many fires due up to `moment` are still open, and how many notifications are still to be sent; none before
/// everything up to that moment is planned.
pub async fn under_way(pool: &PgPool, moment: i64) -> Result<Option<(i64, i64)>> {
    let row = sqlx::query(
        "SELECT (SELECT planned_through >= $1 FROM sqlsentinel_leadership), \
         (SELECT COUNT(*) FROM sqlsentinel_fires WHERE status IN ('WAITING', 'QUEUED') AND scheduled_for <= $1), \
         (SELECT COUNT(*) FROM sqlsentinel_notifications WHERE status IN ('PENDING', 'SENDING') AND scheduled_for <= $1)",
    )
    .bind(moment)
    .fetch_one(pool)
    .await?;
    Ok(row.try_get::<bool, _>(0)?.then_some((row.try_get(1)?, row.try_get(2)?)))
}

/// Reads everything that is in the state database, at the target and at the receiver into `history`.
pub async fn into(history: &mut history::History, installation: &Installation) -> Result<()> {
    history.ledger = ledger(installation).await?;
    history.writes = writes(&installation.pool).await?;
    versions(&installation.pool, &mut history.alerts).await?;
    history.runs = runs(installation, &history.ledger, history.until)?;
    history.deliveries = deliveries(installation.sink.lock().await.received());
    history.end = now();
    Ok(())
}

async fn rows<T>(pool: &PgPool, select: &'static str, read: impl Fn(&PgRow) -> Result<T>) -> Result<Vec<T>> {
    sqlx::query(select).fetch_all(pool).await?.iter().map(read).collect()
}
