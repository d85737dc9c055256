//! The SQL of the outbox: notifications that wait, are being sent, and have ended.
//!
//! Input: [`NewNotification`]s, written by the outcome transaction ([`super::outcomes`]). Output: [`Claim`]s for senders,
//! and the receipts they bring back.
//!
//! Invariant 5 (at least once, and honest): a claim commits the attempt before its first byte leaves, and holds it by a
//! token until a lease ends. A receipt counts only while its token does. A claim that ended without a receipt may have
//! been sent, so what is claimed after it is `possible_duplicate`, and stays that.
//!
//! For one alert, instance and route (a queue), only the head may be claimed: notifications leave in their order.
//! A head that ends, however it ends, makes way for the next.

mod notification;

use std::time::Duration;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

pub use self::notification::{
    Backlog, Claim, ClaimRequest, Claims, NewNotification, NoticeKind, NotificationStatus, Receipt,
};
use super::silences::silenced;
use super::{Dialect, Store, StoreError, Tx};
use crate::timestamp::Timestamp;

/// The condition on notifications that have not ended; the partial indexes of the outbox are made for this text.
const ACTIVE: &str = "status IN ('PENDING', 'SENDING')";

impl Store {
    /// Claims notifications that are due and the heads of their queues. When this returns, the attempts are committed.
    pub async fn claim_notifications(&self, request: ClaimRequest<'_>) -> Result<Claims, StoreError> {
        self.step(async {
            let mut tx = self.begin().await?;
            let now = now(&mut tx, self.dialect).await?;
            let token = Uuid::new_v4().to_string();
            let rows = sqlx::query(AssertSqlSafe(claim_sql(self.dialect)))
                .bind(now.as_micros())
                .bind(now.plus(request.lease).as_micros())
                .bind(token.clone())
                .bind(i64::try_from(request.limit).unwrap_or(i64::MAX))
                .bind(json!(request.except_routes).to_string())
                .bind(request.only_alerts.map(|alerts| json!(alerts).to_string()))
                .fetch_all(&mut *tx)
                .await?;
            let mut claims = Vec::with_capacity(rows.len());
            for row in &rows {
                claims.push(read_claim(row, &token, now)?);
            }
            claims.sort_by_key(|claim| (claim.created_at, claim.sequence));
            let next_due = if claims.is_empty() { next_due(&mut tx, now).await? } else { None };
            tx.commit().await?;
            Ok(Claims { claims, next_due })
        })
        .await
    }

    /// Stores what became of the attempt `claim`. False: the claim had ended by its lease, and nothing was changed.
    pub async fn settle_notification(&self, claim: &Claim, receipt: &Receipt) -> Result<bool, StoreError> {
        self.step(async {
            let mut tx = self.begin().await?;
            let now = now(&mut tx, self.dialect).await?;
            if !write_receipt(&mut tx, claim, receipt, now).await? {
                return Ok(false);
            }
            if let Receipt::Retry { after, .. } = receipt {
                hold_followers(&mut tx, claim, now.plus(*after)).await?;
            }
            note_in_history(&mut tx, self.dialect, claim, receipt).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Whether what this notification tells the end of was given up and certainly never arrived. Never, if it tells no
    /// end.
    pub async fn never_left(&self, claim: &Claim) -> Result<bool, StoreError> {
        // Each condition is that of a partial index. A repetition that arrived has told the alert, too.
        let (begins, tells) = match claim.kind {
            NoticeKind::ErrorResolved => ("kind = 'error'", "kind = 'error'"),
            NoticeKind::Resolved => ("kind IN ('alert', 'repeat') AND kind = 'alert'", "kind IN ('alert', 'repeat')"),
            NoticeKind::Alert | NoticeKind::Repeat | NoticeKind::Error | NoticeKind::NoData => return Ok(false),
        };
        let queue = "alert_name = $1 AND instance = $2 AND route_key = $3 AND sequence < $4";
        let sql = format!(
            "SELECT status, possible_duplicate FROM sqlsentinel_notifications WHERE {tells} AND {queue} \
             AND sequence >= (SELECT MAX(sequence) FROM sqlsentinel_notifications WHERE {begins} AND {queue})"
        );
        self.step(async {
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(claim.alert_name.clone())
                .bind(claim.instance.clone())
                .bind(claim.route_key.clone())
                .bind(claim.sequence)
                .fetch_all(self.pool())
                .await?;
            let given_up = [NotificationStatus::Dead, NotificationStatus::Skipped].map(NotificationStatus::as_str);
            for row in &rows {
                let (status, may_have_arrived): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
                if !given_up.contains(&status.as_str()) || may_have_arrived != 0 {
                    return Ok(false);
                }
            }
            Ok(!rows.is_empty())
        })
        .await
    }

    /// Whether this notification waited for the end of a silence, and what it tells is over.
    pub async fn overtaken(&self, claim: &Claim) -> Result<bool, StoreError> {
        let over = match claim.kind {
            // The alert has ended, or has ended and begun again: then the sweep tells that, or has told it.
            NoticeKind::Alert | NoticeKind::Repeat => {
                "(COALESCE(s.current_status, '') <> 'ALERT' OR s.untold = 1 OR EXISTS ( \
                 SELECT 1 FROM sqlsentinel_notifications later WHERE later.kind IN ('alert', 'repeat') \
                 AND later.alert_name = n.alert_name AND later.instance = n.instance \
                 AND later.route_key = n.route_key AND later.sequence > n.sequence))"
            }
            NoticeKind::Error => "s.consecutive_errors = 0",
            NoticeKind::NoData => "s.consecutive_no_data = 0",
            // An end stays true.
            NoticeKind::Resolved | NoticeKind::ErrorResolved => return Ok(false),
        };
        let sql = format!(
            "SELECT 1 FROM sqlsentinel_notifications n JOIN sqlsentinel_state s ON s.alert_name = n.alert_name \
             WHERE n.notification_id = $1 AND {over} AND EXISTS ( \
             SELECT 1 FROM sqlsentinel_silences z WHERE z.alert_name = n.alert_name \
             AND COALESCE(z.ended_at, z.ends_at) > n.created_at)"
        );
        self.step(async {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(claim.notification_id.to_string());
            Ok(query.fetch_optional(self.pool()).await?.is_some())
        })
        .await
    }

    /// How much there is in the outbox.
    pub async fn outbox_backlog(&self) -> Result<Backlog, StoreError> {
        let sql = format!(
            "SELECT COUNT(*), {} - MIN(created_at) FROM sqlsentinel_notifications WHERE {ACTIVE}",
            self.dialect.now()
        );
        self.step(async {
            let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(self.pool()).await?;
            let (active, oldest): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            let oldest = Duration::from_micros(u64::try_from(oldest.unwrap_or(0)).unwrap_or(0));
            Ok(Backlog { active: u64::try_from(active).unwrap_or(0), oldest })
        })
        .await
    }
}

/// $1 now, $2 end of the lease, $3 token, $4 limit, $5 routes not to claim, $6 alerts to claim or NULL.
///
/// While a row is being sent, `next_attempt_at` is the end of its lease, so that one index finds both what is due and
/// what was abandoned. Two senders cannot claim one row: on PostgreSQL the second skips the locked row, and after the
/// first one's commit the row is not due any more.
///
/// What belongs to a silenced alert is not claimed: it waits for the silence's end, and [`Store::overtaken`] then says
/// whether it is still worth sending.
fn claim_sql(dialect: Dialect) -> String {
    let (except_routes, only_alerts) = dialect.pick(
        (
            "<> ALL(ARRAY(SELECT jsonb_array_elements_text($5::jsonb)))",
            "= ANY(ARRAY(SELECT jsonb_array_elements_text($6::jsonb)))",
        ),
        ("NOT IN (SELECT value FROM json_each($5))", "IN (SELECT value FROM json_each($6))"),
    );
    format!(
        "WITH due AS ( \
           SELECT n.notification_id FROM sqlsentinel_notifications n \
           WHERE n.{ACTIVE} AND n.next_attempt_at <= $1 AND n.route_key {except_routes} \
           AND (CAST($6 AS TEXT) IS NULL OR n.alert_name {only_alerts}) \
           AND NOT EXISTS (SELECT 1 FROM sqlsentinel_notifications earlier WHERE earlier.{ACTIVE} \
             AND earlier.alert_name = n.alert_name AND earlier.instance = n.instance \
             AND earlier.route_key = n.route_key AND earlier.sequence < n.sequence) \
           AND NOT EXISTS (SELECT 1 FROM sqlsentinel_state s WHERE s.alert_name = n.alert_name AND {silenced} = 1) \
           ORDER BY n.next_attempt_at, n.sequence LIMIT $4{lock}) \
         UPDATE sqlsentinel_notifications SET status = '{sending}', attempt = attempt + 1, claim_token = $3, \
         claimed_until = $2, next_attempt_at = $2, \
         possible_duplicate = CASE WHEN status = '{sending}' THEN 1 ELSE possible_duplicate END \
         WHERE notification_id IN (SELECT notification_id FROM due) \
         RETURNING notification_id, execution_id, alert_name, instance, route_key, channel, kind, sequence, \
         scheduled_for, payload, attempt, possible_duplicate, created_at",
        silenced = silenced(dialect, "s.silenced_until"),
        // Of this table alone: a state's row is locked by those who judge.
        lock = dialect.pick(" FOR UPDATE OF n SKIP LOCKED", ""),
        sending = NotificationStatus::Sending.as_str(),
    )
}

fn read_claim(row: &AnyRow, token: &str, now: Timestamp) -> Result<Claim, StoreError> {
    let id = |column: usize| row.try_get::<String, _>(column);
    Ok(Claim {
        notification_id: id(0)?.parse().map_err(StoreError::corrupt)?,
        execution_id: id(1)?.parse().map_err(StoreError::corrupt)?,
        alert_name: row.try_get(2)?,
        instance: row.try_get(3)?,
        route_key: row.try_get(4)?,
        channel: row.try_get(5)?,
        kind: NoticeKind::from_stored(&row.try_get::<String, _>(6)?)?,
        sequence: row.try_get(7)?,
        scheduled_for: Timestamp::from_micros(row.try_get(8)?),
        payload: row.try_get(9)?,
        attempt: u32::try_from(row.try_get::<i64, _>(10)?).unwrap_or(u32::MAX),
        possible_duplicate: row.try_get::<i64, _>(11)? != 0,
        created_at: Timestamp::from_micros(row.try_get(12)?),
        claimed_at: now,
        token: token.to_owned(),
    })
}

/// One reading of the database's clock for a whole transaction; as a bound value, indexes can be used for it.
async fn now(tx: &mut Tx, dialect: Dialect) -> Result<Timestamp, StoreError> {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT {}", dialect.now()))).fetch_one(&mut **tx).await?;
    Ok(Timestamp::from_micros(row.try_get(0)?))
}

async fn next_due(tx: &mut Tx, now: Timestamp) -> Result<Option<Duration>, StoreError> {
    let sql =
        format!("SELECT MIN(next_attempt_at) FROM sqlsentinel_notifications WHERE {ACTIVE} AND next_attempt_at > $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(now.as_micros()).fetch_one(&mut **tx).await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(|due| Timestamp::from_micros(due).since(now)))
}

/// The compare-and-set: false if the claim's token is not the row's any more.
async fn write_receipt(tx: &mut Tx, claim: &Claim, receipt: &Receipt, now: Timestamp) -> Result<bool, StoreError> {
    let (status, error, may_have_arrived) = match receipt {
        Receipt::Sent => (NotificationStatus::Sent, None, false),
        Receipt::Retry { error, may_have_arrived, .. } => {
            (NotificationStatus::Pending, Some(error.clone()), *may_have_arrived)
        }
        Receipt::Dead { error, may_have_arrived } => (NotificationStatus::Dead, Some(error.clone()), *may_have_arrived),
        Receipt::Skipped { reason } => (NotificationStatus::Skipped, Some((*reason).to_owned()), false),
    };
    let (next_attempt_at, finished_at) = match receipt {
        Receipt::Retry { after, .. } => (now.plus(*after), None),
        _ => (now, Some(now.as_micros())),
    };
    let sql = format!(
        "UPDATE sqlsentinel_notifications SET status = $3, last_error = COALESCE($4, last_error), \
         next_attempt_at = $5, finished_at = $6, claim_token = NULL, claimed_until = NULL, \
         possible_duplicate = CASE WHEN $7 = 1 THEN 1 ELSE possible_duplicate END \
         WHERE notification_id = $1 AND claim_token = $2 AND status = '{}'",
        NotificationStatus::Sending.as_str()
    );
    let written = sqlx::query(AssertSqlSafe(sql))
        .bind(claim.notification_id.to_string())
        .bind(claim.token.clone())
        .bind(status.as_str())
        .bind(error)
        .bind(next_attempt_at.as_micros())
        .bind(finished_at)
        .bind(i64::from(may_have_arrived))
        .execute(&mut **tx)
        .await?;
    Ok(written.rows_affected() == 1)
}

/// What waits behind a head cannot leave before the head's next attempt. Saying so in its row keeps it out of every
/// claim's way until then, so that one dead channel costs the others nothing, however much has piled up behind it.
async fn hold_followers(tx: &mut Tx, head: &Claim, until: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sqlsentinel_notifications SET next_attempt_at = $5 WHERE alert_name = $1 AND instance = $2 \
         AND route_key = $3 AND sequence > $4 AND status = 'PENDING' AND next_attempt_at < $5",
    )
    .bind(head.alert_name.clone())
    .bind(head.instance.clone())
    .bind(head.route_key.clone())
    .bind(head.sequence)
    .bind(until.as_micros())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The history says whether any route of the execution has been told, and what the others' last error was.
async fn note_in_history(tx: &mut Tx, dialect: Dialect, claim: &Claim, receipt: &Receipt) -> Result<(), StoreError> {
    if dialect == Dialect::Postgres {
        // Locked by a statement of its own, so that the next one sees what other routes' receipts have written.
        sqlx::query("SELECT 1 FROM sqlsentinel_executions WHERE id = $1 FOR UPDATE")
            .bind(claim.execution_id.to_string())
            .fetch_optional(&mut **tx)
            .await?;
    }
    let sql = format!(
        "UPDATE sqlsentinel_executions SET \
         notification_sent = CASE WHEN $2 = 1 THEN TRUE ELSE notification_sent END, \
         notification_error = (SELECT MAX(n.last_error) FROM sqlsentinel_notifications n \
         WHERE n.execution_id = $1 AND n.status NOT IN ('{}', '{}')) WHERE id = $1",
        NotificationStatus::Sent.as_str(),
        NotificationStatus::Skipped.as_str(),
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(claim.execution_id.to_string())
        .bind(i64::from(*receipt == Receipt::Sent))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
