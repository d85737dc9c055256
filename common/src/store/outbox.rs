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

mod claims;
mod given_up;
mod notification;
mod receipts;

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};

pub use self::given_up::{NotificationFilter, NotificationRecord, Replay};
pub use self::notification::{
    Backlog, Claim, ClaimRequest, Claims, Destination, Due, NewNotification, NoticeKind, NotificationStatus, Receipt,
    Settlement, StandIn,
};
use super::{Dialect, Store, StoreError, Tx};
use crate::timestamp::Timestamp;

/// The condition on notifications that have not ended; the partial indexes of the outbox are made for this text.
pub(super) const ACTIVE: &str = "status IN ('PENDING', 'SENDING')";

impl Store {
    /// Whether what this notification tells the end of was given up and certainly never arrived. Never, if it tells no
    /// end.
    pub async fn never_left(&self, claim: &Claim) -> Result<bool, StoreError> {
        let Some((begins, tells)) = told_by(claim.kind) else { return Ok(false) };
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

    /// Whether `route` was given what this notification tells the end of, in the place of the notification's own route.
    pub async fn was_handed_to(&self, claim: &Claim, route: &str) -> Result<bool, StoreError> {
        let Some((begins, tells)) = told_by(claim.kind) else { return Ok(false) };
        let queue = "alert_name = $1 AND instance = $2 AND sequence < $3";
        let sql = format!(
            "SELECT 1 FROM sqlsentinel_notifications WHERE {tells} AND {queue} AND route_key = $4 \
             AND sequence >= (SELECT MAX(sequence) FROM sqlsentinel_notifications WHERE {begins} AND {queue} \
             AND route_key = $5)"
        );
        self.step(async {
            let query = sqlx::query(AssertSqlSafe(sql))
                .bind(claim.alert_name.clone())
                .bind(claim.instance.clone())
                .bind(claim.sequence)
                .bind(route.to_owned())
                .bind(claim.route_key.clone());
            Ok(query.fetch_optional(self.pool()).await?.is_some())
        })
        .await
    }

    /// Whether this notification waited for the end of a silence, and what it tells is over.
    pub async fn overtaken(&self, claim: &Claim) -> Result<bool, StoreError> {
        let over = match claim.kind {
            // The alert or instance has ended, or has ended and begun again: then the sweep tells that, or has told it.
            NoticeKind::Alert | NoticeKind::Repeat => {
                "(COALESCE(i.status, CASE WHEN n.instance = '' THEN s.current_status END, '') <> 'ALERT' \
                 OR COALESCE(i.untold, CASE WHEN n.instance = '' THEN s.untold END, 0) = 1 OR EXISTS ( \
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
            // While an alert has instances, its own row is one of them.
            "SELECT 1 FROM sqlsentinel_notifications n JOIN sqlsentinel_state s ON s.alert_name = n.alert_name \
             LEFT JOIN sqlsentinel_instances i ON i.alert_name = n.alert_name AND i.instance = n.instance \
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

/// What a notification of this kind tells the end of: the condition on what began it, and on everything that has told it.
/// Each begins with that of a partial index. A repetition that arrived has told the alert, too.
fn told_by(kind: NoticeKind) -> Option<(&'static str, &'static str)> {
    match kind {
        NoticeKind::ErrorResolved => Some(("kind = 'error'", "kind = 'error'")),
        NoticeKind::Resolved => Some(("kind IN ('alert', 'repeat') AND kind = 'alert'", "kind IN ('alert', 'repeat')")),
        NoticeKind::Alert | NoticeKind::Repeat | NoticeKind::Error | NoticeKind::NoData => None,
    }
}

/// One reading of the database's clock for a whole transaction; as a bound value, indexes can be used for it.
async fn now(tx: &mut Tx, dialect: Dialect) -> Result<Timestamp, StoreError> {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT {}", dialect.now()))).fetch_one(&mut **tx).await?;
    Ok(Timestamp::from_micros(row.try_get(0)?))
}
