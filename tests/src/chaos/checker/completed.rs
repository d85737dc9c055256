//! While nothing is disturbed, fires run and are answered.

use std::collections::BTreeSet;

use super::disturbances::Disturbances;
use super::due::Due;
use crate::chaos::history::History;

/// The share of the fires due outside fault windows that ended OK or ALERT; none if none was due there.
pub(super) fn share(history: &History, due: &Due<'_>, disturbances: &Disturbances<'_>) -> Option<f64> {
    let answered: BTreeSet<(&str, i64)> = history
        .ledger
        .fires
        .iter()
        .filter(|fire| ["OK", "ALERT"].contains(&fire.status.as_str()))
        .map(|fire| (fire.alert.as_str(), fire.scheduled_for))
        .collect();
    let outside = due.fires().filter(|(_, moment, _)| !disturbances.cover(*moment));
    let (mut all, mut completed) = (0_u32, 0_u32);
    for (alert, moment, _) in outside {
        all += 1;
        completed += u32::from(answered.contains(&(alert, moment)));
    }
    (all > 0).then(|| f64::from(completed) / f64::from(all))
}
