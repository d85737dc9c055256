//! All news is told, and told once or with a mark. What there was to tell follows from what the harness set at the
//! target, and from the runs that the target logged meanwhile.

mod lost;
mod repeated;

use std::collections::BTreeMap;

use super::disturbances::Disturbances;
use crate::chaos::history::{Answer, Definition, Delivery, Execution, History, Signal};
use crate::chaos::report::Finding;

pub(super) fn check(history: &History, disturbances: &Disturbances<'_>) -> Vec<Finding> {
    let told = Told::new(history);
    let mut findings = lost::check(history, disturbances, &told);
    findings.extend(repeated::check(history, disturbances, &told));
    findings
}

/// What can be told of one value of an alert's signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    /// It raised an alarm, told once or, as `repeat`, again.
    Alarm,
    /// The alarm is over.
    End,
}

impl News {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "alert" | "repeat" => Some(Self::Alarm),
            "resolved" => Some(Self::End),
            _ => None,
        }
    }
}

/// What arrived at the receiver, by what it tells.
struct Told<'a> {
    by_news: BTreeMap<(&'a str, News, i64), Vec<&'a Delivery>>,
    executions: BTreeMap<&'a str, &'a Execution>,
}

impl<'a> Told<'a> {
    fn new(history: &'a History) -> Self {
        let mut by_news: BTreeMap<_, Vec<&Delivery>> = BTreeMap::new();
        for delivery in &history.deliveries {
            if let (Some(news), Some(value)) = (News::of(&delivery.kind), delivery.value) {
                by_news.entry((delivery.alert.as_str(), news, value)).or_default().push(delivery);
            }
        }
        let executions = history.ledger.executions.iter().map(|execution| (execution.id.as_str(), execution)).collect();
        Self { by_news, executions }
    }

    /// The run that caused what arrived, as far as the ledger knows it.
    fn cause(&self, history: &History, delivery: &Delivery) -> Option<&'a Execution> {
        let row = history.ledger.notifications.iter().find(|row| row.id == delivery.notification_id)?;
        self.executions.get(row.execution_id.as_str()).copied()
    }

    /// What arrived about one value.
    fn about(&self, alert: &'a str, news: News, value: i64) -> &[&'a Delivery] {
        self.by_news.get(&(alert, news, value)).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Delivery {
    /// The receiver has it, whatever the sender believes.
    fn arrived(&self) -> bool {
        !self.was_refused()
    }

    /// It was certainly not taken, and its sender knows. To send it again is no repetition.
    fn was_refused(&self) -> bool {
        matches!(self.answer, Answer::Status(status) if !(200..300).contains(&status))
    }

    /// It was refused for good: nobody has to send it again.
    fn was_rejected(&self) -> bool {
        matches!(self.answer, Answer::Status(400 | 410 | 413 | 422))
    }
}

/// The versions of an alert that were in force at some time between two moments.
fn versions<'a>(history: &'a History, alert: &str, from: i64, until: i64) -> impl Iterator<Item = &'a Definition> {
    let alert = history.alerts.iter().find(move |known| known.name == alert);
    let versions = alert.into_iter().flat_map(|alert| &alert.versions);
    versions
        .filter(move |version| version.valid_from <= until && version.valid_until.is_none_or(|over| from <= over))
        .map(|version| &version.definition)
}

/// Each signal with the moment until which it certainly held.
fn held(history: &History) -> impl Iterator<Item = (&Signal, i64)> {
    history.signals.iter().enumerate().map(|(index, signal)| {
        let next = history.signals[index + 1..].iter().find(|next| next.alert == signal.alert);
        (signal, next.map_or(history.end, |next| next.set_before))
    })
}
