//! Receipts: what becomes of a notification after an attempt, and who is told in the place of a channel that gave up.
//!
//! Input: [`Settlement`]s. Output: the outbox and the history, in one transaction. A receipt counts only while its
//! claim's token is the row's.

use sqlx::AssertSqlSafe;

use super::notification::{Claim, NotificationStatus, Receipt, Settlement, StandIn};
use super::now;
use crate::ids::NotificationId;
use crate::store::{Dialect, Store, StoreError, Tx};
use crate::timestamp::Timestamp;

impl Store {
    /// Stores what became of the attempt `claim`. False: the claim had ended by its lease, and nothing was changed.
    pub async fn settle_notification(&self, claim: &Claim, receipt: &Receipt) -> Result<bool, StoreError> {
        let settled = self.settle_notifications(&[Settlement { claim, receipt, stand_in: None }]).await?;
        Ok(settled.first().copied().unwrap_or(false))
    }

    /// Stores what became of several attempts, together; for each, whether its claim had not ended yet.
    ///
    /// What a stand-in is to be told is queued in the same transaction: nobody sees a notification given up and nobody
    /// in its place. If the stand-in's route has the same notice already, it stays as it is.
    pub async fn settle_notifications(&self, settlements: &[Settlement<'_>]) -> Result<Vec<bool>, StoreError> {
        let mut in_order: Vec<(usize, &Settlement<'_>)> = settlements.iter().enumerate().collect();
        // Two transactions over several executions lock them in one order.
        in_order.sort_by_key(|(_, settlement)| settlement.claim.execution_id);
        self.step(async {
            let mut settled = vec![false; settlements.len()];
            let mut tx = self.begin().await?;
            let now = now(&mut tx, self.dialect).await?;
            for (place, settlement) in &in_order {
                settled[*place] = settle(&mut tx, self.dialect, settlement, now).await?;
            }
            tx.commit().await?;
            Ok(settled)
        })
        .await
    }
}

async fn settle(
    tx: &mut Tx,
    dialect: Dialect,
    Settlement { claim, receipt, stand_in }: &Settlement<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if !write_receipt(tx, claim, receipt, now).await? {
        return Ok(false);
    }
    if let Receipt::Retry { after, .. } = receipt {
        hold_followers(tx, claim, now.plus(*after)).await?;
    }
    if let Some(stand_in) = stand_in {
        enqueue_stand_in(tx, claim, stand_in, now).await?;
    }
    note_in_history(tx, dialect, claim, receipt).await?;
    Ok(true)
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

/// The same notice for another route, under the name that it would have there anyway.
async fn enqueue_stand_in(tx: &mut Tx, claim: &Claim, stand_in: &StandIn, now: Timestamp) -> Result<(), StoreError> {
    let Claim { execution_id, kind, sequence, instance, .. } = claim;
    let id = NotificationId::of(*execution_id, kind.as_str(), *sequence, instance, &stand_in.route_key);
    let sql = format!(
        "INSERT INTO sqlsentinel_notifications (notification_id, execution_id, alert_name, instance, route_key, \
         channel, kind, sequence, scheduled_for, payload, status, attempt, next_attempt_at, possible_duplicate, \
         created_at, fallback_for) \
         SELECT $2, execution_id, alert_name, instance, $3, $4, kind, sequence, scheduled_for, payload, '{}', 0, \
         $5, 0, $5, COALESCE(fallback_for, route_key) FROM sqlsentinel_notifications WHERE notification_id = $1 \
         ON CONFLICT (notification_id) DO NOTHING",
        NotificationStatus::Pending.as_str()
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(claim.notification_id.to_string())
        .bind(id.to_string())
        .bind(stand_in.route_key.clone())
        .bind(stand_in.channel)
        .bind(now.as_micros())
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
