//! Makes a planned fault happen: does it, makes sure that it has taken effect, lets it last, heals it.
//!
//! A fault that hit nobody is an error of the run, not a fault. What one fault holds (a member, a server), no other
//! touches meanwhile: it waits, or takes another member.

mod database;
mod definitions;
mod members;
mod nodes;
mod receiver;

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use super::files::Files;
use super::history::{Fault, FaultKind};
use super::installation::Installation;
use super::schedule::{Act, Link, Planned};
use super::watch::Watch;
use crate::wall_clock::now;

/// How long a fault may take to take effect: it goes on until then.
const EFFECT: Duration = Duration::from_secs(60);

/// What faults happen to.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// Servers and members.
    pub installation: &'a Installation,
    /// Who leads.
    pub watch: &'a Watch,
    /// The configuration files; whoever changes them holds this.
    pub files: &'a Mutex<Files>,
    /// From which alert on definitions may be edited: what comes before is somebody else's.
    pub editable: usize,
    /// How many alerts there are.
    pub alerts: usize,
}

impl Stage<'_> {
    /// Makes one fault happen, and returns what it was; a rollback needs a restart before it.
    pub async fn happen(self, planned: &Planned) -> Result<Vec<Fault>> {
        let length = planned.length;
        let happened = match &planned.act {
            Act::Kill(whom) => members::kill(self, *whom, length).await.map(one),
            Act::Freeze(whom) => members::freeze(self, *whom, length).await.map(one),
            Act::Hinder(Link::State, whom, hindrance) => {
                // A slow or restarted server would change the same roads.
                let _state = self.installation.state.lock().await;
                members::hinder(self, Link::State, *whom, *hindrance, length).await.map(one)
            }
            Act::Hinder(link, whom, hindrance) => {
                members::hinder(self, *link, *whom, *hindrance, length).await.map(one)
            }
            Act::ClockStep(whom, seconds) => members::step_clock(self, *whom, *seconds, length).await.map(one),
            Act::NatsLoss(node) => nodes::lose(self, *node, length).await.map(one),
            Act::NatsWipe(nodes) => nodes::wipe(self, nodes, length).await.map(one),
            Act::StateRestart => database::restart(self, length).await.map(one),
            Act::StateSlow(by) => database::slow(self, *by, length).await.map(one),
            Act::StateRollback => database::roll_back(self, length).await,
            Act::Edit(count) => definitions::edit(self, *count, planned.at).await.map(one),
            Act::SplitFiles(number) => definitions::split(self, *number, planned.at, length).await.map(one),
            Act::SinkError(status) => receiver::refuse(self, *status, length).await.map(one),
            Act::SinkReset => receiver::reset(self, length).await.map(one),
            Act::SinkTimeout => receiver::hang(self, length).await.map(one),
        };
        happened.with_context(|| format!("the fault {:?}", planned.act))
    }
}

fn one(fault: Fault) -> Vec<Fault> {
    vec![fault]
}

/// The record of a fault that is over now.
fn over(kind: FaultKind, subject: &str, from: i64, detail: impl Into<String>) -> Fault {
    Fault { kind, subject: subject.to_owned(), from, until: now(), lost_after: None, detail: detail.into() }
}
