//! How the routes of this process stand: which of them failed at their last attempt. For the health report.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlsentinel_common::alert::ChannelKind;
use sqlsentinel_common::health::Check;

use crate::retry::Sent;

/// The errors of routes, which are known by their alert and key.
type Failing = BTreeMap<(String, String), String>;

/// The routes whose last attempt failed, with its error; at most as many as the configuration has.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<BTreeMap<ChannelKind, Failing>>);

impl Standing {
    /// Notes how an attempt at a route of the configuration has ended.
    pub(super) fn note(&self, kind: ChannelKind, alert: &str, route: &str, sent: &Sent) {
        let mut failing = self.lock();
        let failing = failing.entry(kind).or_default();
        let route = (alert.to_owned(), route.to_owned());
        match sent {
            Sent::Delivered => drop(failing.remove(&route)),
            Sent::Permanent(error) | Sent::Unknown(error) | Sent::NotDelivered { error, .. } => {
                failing.insert(route, error.clone());
            }
        }
    }

    /// How a kind of which `routes` are configured stands.
    pub(super) fn check(&self, kind: ChannelKind, routes: usize) -> Check {
        let failing = self.lock();
        let failing = failing.get(&kind);
        match failing.and_then(|failing| Some((failing.len(), failing.values().next()?))) {
            Some((count, error)) => {
                Check::degraded(format!("{count} of {routes} routes failed at their last attempt: {error}"))
            }
            None => Check::healthy("configured"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChannelKind, Failing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::health::Status;

    use super::*;

    #[test]
    fn a_kind_is_degraded_while_one_of_its_routes_fails_and_says_why() {
        let standing = Standing::default();
        let mail = || standing.check(ChannelKind::Email, 2);
        assert_eq!(mail().status, Status::Healthy);
        standing.note(ChannelKind::Email, "a", "1", &Sent::not_delivered("no connection"));
        standing.note(ChannelKind::Email, "b", "1", &Sent::Delivered);
        assert_eq!(mail(), Check::degraded("1 of 2 routes failed at their last attempt: no connection"));
        assert_eq!(standing.check(ChannelKind::Slack, 1).status, Status::Healthy, "other kinds are their own");
        standing.note(ChannelKind::Email, "a", "1", &Sent::Delivered);
        assert_eq!(mail().status, Status::Healthy);
    }
}
