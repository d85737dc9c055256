//! Claiming: which notifications a sender may send now, by itself or as one digest.
//!
//! Input: a [`ClaimRequest`]. Output: [`Claims`], whose attempts are committed when they are returned.
//!
//! Rates are cluster-wide: the messages of a channel's window are counted in one row, which whoever claims for the
//! channel holds locked, on the database's clock. A window begins with its first message.

use std::time::Duration;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row};
use uuid::Uuid;

use super::ACTIVE;
use super::notification::{Claim, ClaimRequest, Claims, Destination, Due, NoticeKind, NotificationStatus};
use crate::config::Rate;
use crate::ids::DigestId;
use crate::store::silences::silenced;
use crate::store::{Dialect, Store, StoreError, Tx};
use crate::timestamp::Timestamp;

/// The most notifications that one digest tells.
const DIGEST_LIMIT: usize = 200;

impl Store {
    /// Claims notifications that are due and the heads of their queues. When this returns, the attempts are committed.
    pub async fn claim_notifications(&self, request: ClaimRequest<'_>) -> Result<Claims, StoreError> {
        self.step(async {
            let mut tx = self.begin().await?;
            let now = self.now_and_look(&mut tx).await?;
            let claims = claim(&mut tx, self.dialect, &request, Choice::Heads, now).await?;
            let next_due = if claims.is_empty() { next_due(&mut tx, now).await? } else { None };
            tx.commit().await?;
            Ok(Claims { claims, digest: None, next_due })
        })
        .await
    }

    /// The same for the channel called `channel`, which may get no more messages than `rate` says. If more is due than
    /// the window has room for, its last message is a digest: then the claims are to be told together. With nothing left
    /// of the window, nothing is claimed, and `next_due` is its end.
    pub async fn claim_within(
        &self,
        request: ClaimRequest<'_>,
        channel: &str,
        rate: Rate,
    ) -> Result<Claims, StoreError> {
        self.step(async {
            let mut tx = self.begin().await?;
            let window = lock_window(&mut tx, self.dialect, channel).await?;
            // After the lock: while it was waited for, another sender may have begun a window.
            let now = self.now_and_look(&mut tx).await?;
            let (began_at, used) = window.at(now, rate.per);
            let left = i64::from(rate.messages).saturating_sub(used);
            if left <= 0 {
                return Ok(Claims { next_due: Some(began_at.plus(rate.per).since(now)), ..Claims::default() });
            }
            let destination = Destination::Named(channel.to_owned());
            let request = ClaimRequest { only: Some(&destination), ..request };
            let last = left == 1;
            let choice = if last { Choice::AllInOrder } else { Choice::Heads };
            // The last message is kept back until there is nothing that it would have to hold with others.
            let room =
                if last { DIGEST_LIMIT } else { usize::try_from(left - 1).unwrap_or(usize::MAX).min(request.limit) };
            let claims = claim(&mut tx, self.dialect, &ClaimRequest { limit: room, ..request }, choice, now).await?;
            if claims.is_empty() {
                return Ok(Claims::default());
            }
            let digest = (last && claims.len() > 1).then(DigestId::random);
            if let Some(digest) = digest {
                note_digest(&mut tx, self.dialect, digest, &claims).await?;
            }
            let messages = if last { 1 } else { i64::try_from(claims.len()).unwrap_or(i64::MAX) };
            save_window(&mut tx, channel, began_at, used.saturating_add(messages)).await?;
            tx.commit().await?;
            Ok(Claims { claims, digest, next_due: None })
        })
        .await
    }

    /// What is due at these destinations, and for how long the oldest of it has been waited for: since its first
    /// attempt, or since it was to be tried. Some of it may have to wait for something else yet.
    pub async fn due_at(&self, destinations: &[&Destination]) -> Result<Vec<Due>, StoreError> {
        if destinations.is_empty() {
            return Ok(Vec::new());
        }
        let mut binds = Binds::default();
        let places = Places::of(destinations.iter().copied());
        let (named, keys) = (binds.text(json!(places.named).to_string()), binds.text(json!(places.keys).to_string()));
        let inline = binds.text(json!(places.inline).to_string());
        let waiting = format!("{} - MIN(COALESCE(first_attempt_at, next_attempt_at))", self.dialect.now());
        let due = format!("{ACTIVE} AND next_attempt_at <= {}", self.dialect.now());
        let sql = format!(
            "SELECT '', route_key, {waiting} FROM sqlsentinel_notifications WHERE {due} AND route_key {} \
             GROUP BY route_key \
             UNION ALL SELECT alert_name, route_key, {waiting} FROM sqlsentinel_notifications \
             WHERE {due} AND route_key {} AND {PLACE} {} GROUP BY alert_name, route_key",
            is_in(self.dialect, &named),
            is_in(self.dialect, &keys),
            is_in(self.dialect, &inline),
        );
        self.step(async {
            let rows = binds.fetch_all(sql, self.pool()).await?;
            rows.iter().map(read_due).collect()
        })
        .await
    }
}

/// Which of the notifications that are due.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Those that nothing of their queue is in front of.
    Heads,
    /// All of each queue, from its head on: they leave together, in their order.
    AllInOrder,
}

/// An entry of an alert as one text: an alert's name may hold line breaks, a route's key does not.
const PLACE: &str = "(alert_name || '\n' || route_key)";

/// Destinations as statements take them.
#[derive(Default)]
struct Places {
    named: Vec<String>,
    inline: Vec<String>,
    keys: Vec<String>,
}

impl Places {
    fn of<'a>(destinations: impl Iterator<Item = &'a Destination>) -> Self {
        let mut places = Self::default();
        for destination in destinations {
            match destination {
                Destination::Named(name) => places.named.push(name.clone()),
                Destination::Inline { alert_name, route_key } => {
                    places.inline.push(format!("{alert_name}\n{route_key}"));
                    places.keys.push(route_key.clone());
                }
            }
        }
        places
    }
}

/// A statement's values, in the order of their numbers.
#[derive(Default)]
struct Binds(Vec<Bound>);

enum Bound {
    Number(i64),
    Text(String),
}

impl Binds {
    fn number(&mut self, number: i64) -> String {
        self.0.push(Bound::Number(number));
        format!("${}", self.0.len())
    }

    fn text(&mut self, text: String) -> String {
        self.0.push(Bound::Text(text));
        format!("${}", self.0.len())
    }

    async fn fetch_all<'e>(
        self,
        sql: String,
        executor: impl sqlx::Executor<'e, Database = Any>,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for bound in self.0 {
            query = match bound {
                Bound::Number(number) => query.bind(number),
                Bound::Text(text) => query.bind(text),
            };
        }
        Ok(query.fetch_all(executor).await?)
    }
}

/// A condition on the expression before it: that it is in a parameter, a JSON array of texts.
fn is_in(dialect: Dialect, parameter: &str) -> String {
    dialect.pick(
        format!("= ANY(ARRAY(SELECT jsonb_array_elements_text({parameter}::jsonb)))"),
        format!("IN (SELECT value FROM json_each({parameter}))"),
    )
}

async fn claim(
    tx: &mut Tx,
    dialect: Dialect,
    request: &ClaimRequest<'_>,
    choice: Choice,
    now: Timestamp,
) -> Result<Vec<Claim>, StoreError> {
    let token = Uuid::new_v4().to_string();
    let mut binds = Binds::default();
    let sql = claim_sql(dialect, request, choice, now, &token, &mut binds);
    let rows = binds.fetch_all(sql, &mut **tx).await?;
    let mut claims = rows.iter().map(|row| read_claim(row, &token, now)).collect::<Result<Vec<_>, _>>()?;
    claims.sort_by(|a, b| (a.created_at, a.sequence, &a.instance).cmp(&(b.created_at, b.sequence, &b.instance)));
    Ok(claims)
}

/// While a row is being sent, `next_attempt_at` is the end of its lease, so that one index finds both what is due and
/// what was abandoned. Two senders cannot claim one row: on PostgreSQL the second skips the locked row, and after the
/// first one's commit the row is not due any more.
///
/// What belongs to a silenced alert is not claimed: it waits for the silence's end, and [`Store::overtaken`] then says
/// whether it is still worth sending.
fn claim_sql(
    dialect: Dialect,
    request: &ClaimRequest<'_>,
    choice: Choice,
    now: Timestamp,
    token: &str,
    binds: &mut Binds,
) -> String {
    let at = binds.number(now.as_micros());
    let mut chosen = format!("n.{ACTIVE} AND n.next_attempt_at <= {at}");
    if !request.except_routes.is_empty() {
        let routes = binds.text(json!(request.except_routes).to_string());
        chosen += &format!(" AND NOT n.route_key {}", is_in(dialect, &routes));
    }
    if !request.except.is_empty() {
        let Places { named, inline, .. } = Places::of(request.except.iter());
        let (named, inline) = (binds.text(json!(named).to_string()), binds.text(json!(inline).to_string()));
        chosen +=
            &format!(" AND NOT n.route_key {} AND NOT {PLACE} {}", is_in(dialect, &named), is_in(dialect, &inline));
    }
    match request.only {
        None => {}
        Some(Destination::Named(name)) => chosen += &format!(" AND n.route_key = {}", binds.text(name.clone())),
        Some(Destination::Inline { alert_name, route_key }) => {
            let (alert, route) = (binds.text(alert_name.clone()), binds.text(route_key.clone()));
            chosen += &format!(" AND n.alert_name = {alert} AND n.route_key = {route}");
        }
    }
    if let Some(alerts) = request.only_alerts {
        let alerts = binds.text(json!(alerts).to_string());
        chosen += &format!(" AND n.alert_name {}", is_in(dialect, &alerts));
    }
    if let Some(waited) = request.waited_for {
        let since = binds.number(now.minus(waited).as_micros());
        chosen += &format!(" AND COALESCE(n.first_attempt_at, n.next_attempt_at) <= {since}");
    }
    // What another sender holds may come back; what comes after it waits, even in a digest.
    let in_front = match choice {
        Choice::Heads => String::new(),
        Choice::AllInOrder => format!(" AND (earlier.status <> 'PENDING' OR earlier.next_attempt_at > {at})"),
    };
    // So that a limit cuts off the end of a queue and not its head.
    let order = match choice {
        Choice::Heads => "n.next_attempt_at, n.sequence",
        Choice::AllInOrder => "n.alert_name, n.instance, n.sequence",
    };
    let until = binds.number(now.plus(request.lease).as_micros());
    let token = binds.text(token.to_owned());
    let limit = binds.number(i64::try_from(request.limit).unwrap_or(i64::MAX));
    format!(
        "WITH due AS ( \
           SELECT n.notification_id FROM sqlsentinel_notifications n WHERE {chosen} \
           AND NOT EXISTS (SELECT 1 FROM sqlsentinel_notifications earlier WHERE earlier.{ACTIVE} \
             AND earlier.alert_name = n.alert_name AND earlier.instance = n.instance \
             AND earlier.route_key = n.route_key AND earlier.sequence < n.sequence{in_front}) \
           AND NOT EXISTS (SELECT 1 FROM sqlsentinel_state s WHERE s.alert_name = n.alert_name AND {silenced} = 1) \
           ORDER BY {order} LIMIT {limit}{lock}) \
         UPDATE sqlsentinel_notifications SET status = '{sending}', attempt = attempt + 1, claim_token = {token}, \
         claimed_until = {until}, next_attempt_at = {until}, first_attempt_at = COALESCE(first_attempt_at, {at}), \
         possible_duplicate = CASE WHEN status = '{sending}' THEN 1 ELSE possible_duplicate END \
         WHERE notification_id IN (SELECT notification_id FROM due) \
         RETURNING notification_id, execution_id, alert_name, instance, route_key, channel, kind, sequence, \
         scheduled_for, payload, attempt, possible_duplicate, created_at, first_attempt_at, fallback_for",
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
        first_attempt_at: Timestamp::from_micros(row.try_get(13)?),
        fallback_for: row.try_get(14)?,
        claimed_at: now,
        token: token.to_owned(),
    })
}

fn read_due(row: &AnyRow) -> Result<Due, StoreError> {
    let (alert_name, route_key): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let waited = u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0);
    let destination = match alert_name.is_empty() {
        true => Destination::Named(route_key),
        false => Destination::Inline { alert_name, route_key },
    };
    Ok(Due { destination, waited: Duration::from_micros(waited) })
}

async fn next_due(tx: &mut Tx, now: Timestamp) -> Result<Option<Duration>, StoreError> {
    let sql =
        format!("SELECT MIN(next_attempt_at) FROM sqlsentinel_notifications WHERE {ACTIVE} AND next_attempt_at > $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(now.as_micros()).fetch_one(&mut **tx).await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(|due| Timestamp::from_micros(due).since(now)))
}

/// A channel's window as it is stored.
struct Window {
    began_at: Timestamp,
    messages: i64,
}

impl Window {
    /// When the window that `now` falls into began, and how many messages it has had: a new one if it is over, or if the
    /// clock has been set back to before it.
    fn at(&self, now: Timestamp, per: Duration) -> (Timestamp, i64) {
        let is_in = self.began_at <= now && now < self.began_at.plus(per);
        if is_in { (self.began_at, self.messages) } else { (now, 0) }
    }
}

/// The channel's row, locked until the transaction ends.
async fn lock_window(tx: &mut Tx, dialect: Dialect, channel: &str) -> Result<Window, StoreError> {
    sqlx::query(
        "INSERT INTO sqlsentinel_channel_rates (channel, window_began_at, messages) VALUES ($1, 0, 0) \
         ON CONFLICT (channel) DO NOTHING",
    )
    .bind(channel.to_owned())
    .execute(&mut **tx)
    .await?;
    let sql = format!(
        "SELECT window_began_at, messages FROM sqlsentinel_channel_rates WHERE channel = $1{}",
        dialect.lock("sqlsentinel_channel_rates")
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(channel.to_owned()).fetch_one(&mut **tx).await?;
    Ok(Window { began_at: Timestamp::from_micros(row.try_get(0)?), messages: row.try_get(1)? })
}

async fn save_window(tx: &mut Tx, channel: &str, began_at: Timestamp, messages: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE sqlsentinel_channel_rates SET window_began_at = $2, messages = $3 WHERE channel = $1")
        .bind(channel.to_owned())
        .bind(began_at.as_micros())
        .bind(messages)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Which digest the claims are told by.
async fn note_digest(tx: &mut Tx, dialect: Dialect, digest: DigestId, claims: &[Claim]) -> Result<(), StoreError> {
    let ids: Vec<_> = claims.iter().map(|claim| claim.notification_id).collect();
    let sql =
        format!("UPDATE sqlsentinel_notifications SET digest_id = $1 WHERE notification_id {}", is_in(dialect, "$2"));
    sqlx::query(AssertSqlSafe(sql)).bind(digest.to_string()).bind(json!(ids).to_string()).execute(&mut **tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_until_its_time_is_over() {
        let second = Duration::from_secs(1);
        let at = |seconds: u64| Timestamp::from_micros(0).plus(second * u32::try_from(seconds).unwrap());
        let window = Window { began_at: at(100), messages: 7 };
        assert_eq!(window.at(at(100), 60 * second), (at(100), 7));
        assert_eq!(window.at(at(159), 60 * second), (at(100), 7));
        assert_eq!(window.at(at(160), 60 * second), (at(160), 0));
        assert_eq!(window.at(at(99), 60 * second), (at(99), 0), "the clock was set back");
    }
}
