//! The definitions in force, as the ledger knows them: each version once, by hash, with the interval of the schedule
//! cursor in which it was in force. Fires point to versions, so that what is planned, run and judged later is what was
//! in force when the fire was due, whatever the file says by then.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::leadership::{LeaderTx, Term};
use super::{Store, StoreError};
use crate::alert::{AlertDefinition, ConfigHash};
use crate::timestamp::Timestamp;

/// One version of one alert, in force since `valid_from`.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// The version's name.
    pub hash: ConfigHash,
    /// Fires with `scheduled_for` after this moment are this version's.
    pub valid_from: Timestamp,
    /// The version itself.
    pub definition: AlertDefinition,
}

/// What speaks for a coordinator's set of definitions, against one that took its place before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Nothing: the coordinator found it when it started, and it may be older than what the cluster runs.
    Found,
    /// Somebody changed the coordinator's files into it at this moment, on the cluster's clock: it counts if what is in
    /// force was put in force before that.
    Changed(Timestamp),
    /// It is what somebody wants now.
    Wanted,
}

/// What became of a coordinator's set of definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It is the set that is in force already.
    InForce,
    /// It is in force from the cursor on.
    Adopted {
        /// How many open fires ended as `SKIPPED(removed)` by that.
        removed: u64,
    },
    /// It was in force before another one replaced it: this coordinator's file is older than what the cluster runs.
    Superseded,
}

impl Store {
    /// The versions in force.
    pub async fn definitions_in_force(&self) -> Result<Vec<InForce>, StoreError> {
        self.step(async {
            let rows = sqlx::query(
                "SELECT c.config_hash, c.valid_from, d.definition FROM sqlsentinel_configs c \
                 JOIN sqlsentinel_definitions d ON d.config_hash = c.config_hash \
                 WHERE c.valid_from IS NOT NULL AND c.valid_until IS NULL ORDER BY c.alert_name",
            )
            .fetch_all(self.pool())
            .await?;
            rows.iter()
                .map(|row| {
                    let text: String = row.try_get(2)?;
                    Ok(InForce {
                        hash: ConfigHash::from_stored(row.try_get(0)?),
                        valid_from: Timestamp::from_micros(row.try_get(1)?),
                        definition: serde_json::from_str(&text).map_err(StoreError::corrupt)?,
                    })
                })
                .collect()
        })
        .await
    }

    /// One version by its name.
    pub async fn definition(&self, hash: &ConfigHash) -> Result<Option<AlertDefinition>, StoreError> {
        self.step(async {
            let row = sqlx::query("SELECT definition FROM sqlsentinel_definitions WHERE config_hash = $1")
                .bind(hash.as_str().to_owned())
                .fetch_optional(self.pool())
                .await?;
            let Some(row) = row else { return Ok(None) };
            let text: String = row.try_get(0)?;
            serde_json::from_str(&text).map(Some).map_err(StoreError::corrupt)
        })
        .await
    }

    /// Puts a set of definitions in force from the schedule cursor on, unless it is in force already or was replaced before
    /// and `intent` does not speak for it. Open fires of alerts that the set no longer has end as `SKIPPED(removed)`.
    pub async fn adopt(
        &self,
        term: &Term,
        set_hash: &ConfigHash,
        set: &BTreeMap<ConfigHash, &AlertDefinition>,
        intent: Intent,
    ) -> Result<Adoption, StoreError> {
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            let row = sqlx::query(
                "SELECT l.set_hash, l.planned_through, s.adopted_at FROM sqlsentinel_leadership l \
                 LEFT JOIN sqlsentinel_config_sets s ON s.set_hash = l.set_hash WHERE l.id = 1",
            )
            .fetch_one(&mut *leader.tx)
            .await?;
            let (current, cursor): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let in_force_since = row.try_get::<Option<i64>, _>(2)?.map(Timestamp::from_micros);
            if current == set_hash.as_str() {
                return Ok(Adoption::InForce);
            }
            let known = sqlx::query("SELECT 1 FROM sqlsentinel_config_sets WHERE set_hash = $1")
                .bind(set_hash.as_str().to_owned())
                .fetch_optional(&mut *leader.tx)
                .await?
                .is_some();
            let is_newer = match intent {
                Intent::Found => false,
                Intent::Changed(at) => in_force_since.is_none_or(|since| since < at),
                Intent::Wanted => true,
            };
            if known && !is_newer {
                return Ok(Adoption::Superseded);
            }
            self.replace_set(&mut leader, set_hash, set, cursor).await?;
            let removed = self.skip_removed(&mut leader).await?;
            leader.commit().await?;
            Ok(Adoption::Adopted { removed })
        })
        .await
    }

    async fn replace_set(
        &self,
        leader: &mut LeaderTx,
        set_hash: &ConfigHash,
        set: &BTreeMap<ConfigHash, &AlertDefinition>,
        cursor: i64,
    ) -> Result<(), StoreError> {
        let records = set
            .iter()
            .map(|(hash, definition)| {
                Ok(serde_json::json!({
                    // As long as the Python system's own column allows.
                    "id": Uuid::now_v7(),
                    "alert_name": definition.name,
                    "config_hash": hash.as_str(),
                    "definition": definition.canonical_json()?,
                    "loaded_at": Timestamp::from_micros(cursor).to_sql_text(),
                }))
            })
            .collect::<Result<Vec<_>, serde_json::Error>>()
            .map_err(StoreError::corrupt)?;
        let records = serde_json::Value::from(records).to_string();
        let source =
            self.dialect.rows("id TEXT, alert_name TEXT, config_hash TEXT, definition TEXT, loaded_at TIMESTAMP");

        // An interval ends where the next one begins: at the cursor. What is still right goes on.
        let end = format!(
            "UPDATE sqlsentinel_configs SET valid_until = $2, active = FALSE \
             WHERE valid_from IS NOT NULL AND valid_until IS NULL \
             AND config_hash NOT IN (SELECT n.config_hash FROM {source})"
        );
        sqlx::query(AssertSqlSafe(end)).bind(records.clone()).bind(cursor).execute(&mut *leader.tx).await?;
        // The audit trail of the Python system ends where ours begins.
        sqlx::query("UPDATE sqlsentinel_configs SET active = FALSE WHERE valid_from IS NULL AND active = TRUE")
            .execute(&mut *leader.tx)
            .await?;
        let store = format!(
            "INSERT INTO sqlsentinel_definitions (config_hash, alert_name, definition) \
             SELECT n.config_hash, n.alert_name, n.definition FROM {source} WHERE TRUE ON CONFLICT (config_hash) DO NOTHING"
        );
        sqlx::query(AssertSqlSafe(store)).bind(records.clone()).execute(&mut *leader.tx).await?;
        let begin = format!(
            "INSERT INTO sqlsentinel_configs \
             (id, alert_name, config_hash, config_yaml, loaded_at, active, valid_from, epoch, seq) \
             SELECT n.id, n.alert_name, n.config_hash, n.definition, n.loaded_at, TRUE, $2, $3, $4 FROM {source} \
             WHERE NOT EXISTS (SELECT 1 FROM sqlsentinel_configs c WHERE c.config_hash = n.config_hash \
             AND c.valid_from IS NOT NULL AND c.valid_until IS NULL)"
        );
        sqlx::query(AssertSqlSafe(begin))
            .bind(records)
            .bind(cursor)
            .bind(leader.mark.epoch)
            .bind(leader.mark.seq)
            .execute(&mut *leader.tx)
            .await?;
        let note = format!(
            "INSERT INTO sqlsentinel_config_sets (set_hash, adopted_at, epoch, seq) VALUES ($1, {now}, $2, $3) \
             ON CONFLICT (set_hash) DO UPDATE SET adopted_at = {now}, epoch = $2, seq = $3",
            now = self.dialect.now()
        );
        sqlx::query(AssertSqlSafe(note))
            .bind(set_hash.as_str().to_owned())
            .bind(leader.mark.epoch)
            .bind(leader.mark.seq)
            .execute(&mut *leader.tx)
            .await?;
        sqlx::query("UPDATE sqlsentinel_leadership SET set_hash = $1 WHERE id = 1")
            .bind(set_hash.as_str().to_owned())
            .execute(&mut *leader.tx)
            .await?;
        Ok(())
    }

    /// Returns how many there were.
    async fn skip_removed(&self, leader: &mut LeaderTx) -> Result<u64, StoreError> {
        let sql = format!(
            "WITH locked AS (SELECT f.execution_id FROM sqlsentinel_fires f WHERE f.status IN ('WAITING', 'QUEUED') \
               AND f.alert_name NOT IN (SELECT alert_name FROM sqlsentinel_configs \
                 WHERE valid_from IS NOT NULL AND valid_until IS NULL) ORDER BY f.execution_id{lock}) \
             UPDATE sqlsentinel_fires SET status = 'SKIPPED', reason = 'removed', finished_at = {now}, epoch = $1, \
             seq = $2 WHERE execution_id IN (SELECT execution_id FROM locked)",
            lock = self.dialect.lock("f"),
            now = self.dialect.now()
        );
        let skipped = sqlx::query(AssertSqlSafe(sql)).bind(leader.mark.epoch).bind(leader.mark.seq);
        Ok(skipped.execute(&mut *leader.tx).await?.rows_affected())
    }
}
