//! What follows from an attempt's result: sent, given up, or tried again and when. Pure.
//!
//! Input: how an attempt ended ([`Sent`]), which one it was, how old the notification is. Output: the outbox's [`Receipt`].

use std::time::Duration;

use sqlsentinel_common::store::outbox::Receipt;
use sqlsentinel_common::timestamp::Timestamp;

/// A notification that has been tried for this long is given up when an attempt fails.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The same where another channel stands in: somebody is to hear of it while it is still news.
pub const FALLBACK_AFTER: Duration = Duration::from_secs(5 * 60);
/// The pause after the first attempt, before jitter; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The longest pause that a channel may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// How one attempt ended. Error texts hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The channel has taken the message.
    Delivered,
    /// The channel will never take it, or its settings can never work.
    Permanent(String),
    /// The channel has certainly not taken it, and may take it later.
    NotDelivered {
        /// What happened.
        error: String,
        /// How long the channel asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The message may have arrived, and nobody knows.
    Unknown(String),
}

impl Sent {
    /// A result after which the message is certainly not there.
    pub fn not_delivered(error: impl Into<String>) -> Self {
        Self::NotDelivered { error: error.into(), retry_after: None }
    }
}

/// For how long a notification is tried, by whether another channel stands in when it is given up.
pub fn patience(has_fallback: bool) -> Duration {
    if has_fallback { FALLBACK_AFTER } else { MAX_AGE }
}

/// What the outbox is to note about the `attempt`th attempt at a notification that has been tried for `age`, and is to be
/// given up after `patience`. `chance`, from 0 to 1, spreads the next attempts of notifications that failed together.
pub fn receipt(sent: Sent, attempt: u32, age: Duration, patience: Duration, chance: f64) -> Receipt {
    let (error, retry_after, may_have_arrived) = match sent {
        Sent::Delivered => return Receipt::Sent,
        Sent::Permanent(error) => return Receipt::Dead { error, may_have_arrived: false },
        Sent::NotDelivered { error, retry_after } => (error, retry_after.unwrap_or_default(), false),
        Sent::Unknown(error) => (error, Duration::ZERO, true),
    };
    let after = pause(attempt, chance).max(retry_after.min(LONGEST_RETRY_AFTER));
    if age + after > patience {
        let (span, error) = (span(patience), format!("{attempt} attempts: {error}"));
        return Receipt::Dead { error: format!("given up after {span} and {error}"), may_have_arrived };
    }
    Receipt::Retry { after, error, may_have_arrived }
}

/// `24 h`, `5 min`.
pub(crate) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 2 * 3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Between half and all of 1, 2, 4, … seconds, at most five minutes.
fn pause(attempt: u32, chance: f64) -> Duration {
    let doubled = 2u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let whole = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// How long a `Retry-After` header asks to wait: seconds, or a date.
pub fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(header).ok()?;
    Some(Timestamp::from(date.with_timezone(&chrono::Utc)).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_up_to_five_minutes_and_are_spread_by_half() {
        for (attempt, longest) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (33, 300), (u32::MAX, 300)] {
            let longest = Duration::from_secs(longest);
            assert_eq!(pause(attempt, 1.0), longest, "attempt {attempt}");
            assert_eq!(pause(attempt, 0.0), longest / 2, "attempt {attempt}");
        }
    }

    #[test]
    fn each_result_has_its_receipt() {
        let error = || "no".to_owned();
        let retry = |after, may_have_arrived| Receipt::Retry { after, error: error(), may_have_arrived };
        let refused = |after| Sent::NotDelivered { error: error(), retry_after: Some(after) };
        for (sent, expected) in [
            (Sent::Delivered, Receipt::Sent),
            (Sent::Permanent(error()), Receipt::Dead { error: error(), may_have_arrived: false }),
            (Sent::not_delivered("no"), retry(SECOND, false)),
            (Sent::Unknown(error()), retry(SECOND, true)),
            // The channel's wish is followed, within reason, and never makes a pause shorter.
            (refused(7 * MINUTE), retry(7 * MINUTE, false)),
            (refused(Duration::ZERO), retry(SECOND, false)),
            (refused(Duration::MAX), retry(60 * MINUTE, false)),
        ] {
            assert_eq!(receipt(sent.clone(), 1, SECOND, MAX_AGE, 1.0), expected, "{sent:?}");
        }
    }

    #[test]
    fn what_fails_for_a_day_is_given_up_and_says_whether_it_may_have_arrived() {
        let late = receipt(Sent::not_delivered("no"), 300, MAX_AGE - 5 * MINUTE, MAX_AGE, 1.0);
        assert!(matches!(late, Receipt::Retry { .. }), "{late:?}");
        for (sent, arrived) in [(Sent::not_delivered("no"), false), (Sent::Unknown("no".to_owned()), true)] {
            assert_eq!(
                receipt(sent, 300, MAX_AGE - 4 * MINUTE, MAX_AGE, 1.0),
                Receipt::Dead {
                    error: "given up after 24 h and 300 attempts: no".to_owned(),
                    may_have_arrived: arrived
                }
            );
        }
    }

    #[test]
    fn where_another_channel_stands_in_it_is_given_up_after_minutes() {
        let after = |age| receipt(Sent::not_delivered("no"), 8, age, patience(true), 0.0);
        assert!(matches!(after(3 * MINUTE), Receipt::Retry { .. }));
        assert_eq!(
            after(4 * MINUTE),
            Receipt::Dead { error: "given up after 5 min and 8 attempts: no".to_owned(), may_have_arrived: false }
        );
        // A channel that asks for more patience than there is has given its answer.
        let asked = Sent::NotDelivered { error: "no".to_owned(), retry_after: Some(10 * MINUTE) };
        assert!(matches!(receipt(asked.clone(), 1, Duration::ZERO, patience(true), 0.0), Receipt::Dead { .. }));
        assert!(matches!(receipt(asked, 1, Duration::ZERO, patience(false), 0.0), Receipt::Retry { .. }));
    }

    #[test]
    fn retry_after_is_read_in_both_its_forms() {
        let now = Timestamp::from_micros(784_111_777_000_000); // Sun, 06 Nov 1994 08:49:37 GMT
        for (header, expected) in [
            ("120", Some(2 * MINUTE)),
            (" 0 ", Some(Duration::ZERO)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(MINUTE)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(Duration::ZERO)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(header, now), expected, "{header:?}");
        }
    }
}
