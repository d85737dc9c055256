//! Which faults there are, when, and whom they hit: drawn from a seed. Pure.
//!
//! Time is cut into rounds: a storm, in which faults of all kinds begin one after another and overlap, and then a quiet
//! window in which the system has to be whole again. The same seed and length give the same faults, though not the
//! same interleaving; who leads when a fault begins that prefers the leader, only the run can tell.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::history::FaultKind;

/// How long a round is, at least.
const ROUND: Duration = Duration::from_secs(40);
/// In which part of a round faults begin.
const STORM: Duration = Duration::from_secs(14);
/// How many faults a storm has.
const FAULTS: usize = 14;

/// One fault to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// When it begins, after the run's begin.
    pub at: Duration,
    /// How long it lasts, at least.
    pub length: Duration,
    /// What happens.
    pub act: Act,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A member is killed, and started again afterwards.
    Kill(Whom),
    /// A member is stopped where it stands.
    Freeze(Whom),
    /// A member's road to a server is not open.
    Hinder(Link, Whom, Hindrance),
    /// A NATS node is killed, and started again afterwards.
    NatsLoss(usize),
    /// NATS nodes are killed, and start again with nothing.
    NatsWipe(Vec<usize>),
    /// The state database's server is away.
    StateRestart,
    /// Every answer of the state database is this late.
    StateSlow(Duration),
    /// The state database is as it was this long ago.
    StateRollback,
    /// A member's wall clock is wrong by so many seconds.
    ClockStep(Whom, i64),
    /// This many alerts are edited in every file.
    Edit(usize),
    /// One coordinator, by its number, has the next files before all others.
    SplitFiles(usize),
    /// The receiver answers this status, and `Retry-After: 1` if it is 429.
    SinkError(u16),
    /// The receiver breaks connections after the body.
    SinkReset,
    /// The receiver does not answer.
    SinkTimeout,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The coordinator that leads at that moment.
    Leader,
    /// One of those that can be hit, by a number that is taken modulo how many they are.
    Any(usize),
}

/// Which road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// To every NATS node.
    Nats,
    /// To the state database.
    State,
    /// To the database that alerts query.
    Target,
}

/// What is wrong with a road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// Connections break, and new ones are refused.
    Cut,
    /// Nothing passes, as if a cable were pulled.
    Blocked,
}

impl Act {
    /// What kind of fault it is.
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Kill(_) => FaultKind::Kill,
            Self::Freeze(_) => FaultKind::Freeze,
            Self::Hinder(Link::Nats, ..) => FaultKind::CutNats,
            Self::Hinder(Link::State, ..) => FaultKind::CutState,
            Self::Hinder(Link::Target, ..) => FaultKind::CutTarget,
            Self::NatsLoss(_) => FaultKind::NatsLoss,
            Self::NatsWipe(_) => FaultKind::NatsWipe,
            Self::StateRestart => FaultKind::StateRestart,
            Self::StateSlow(_) => FaultKind::StateSlow,
            Self::StateRollback => FaultKind::StateRollback,
            Self::ClockStep(..) => FaultKind::ClockStep,
            Self::Edit(_) => FaultKind::Edit,
            Self::SplitFiles(_) => FaultKind::SplitFiles,
            Self::SinkError(_) => FaultKind::SinkError,
            Self::SinkReset => FaultKind::SinkReset,
            Self::SinkTimeout => FaultKind::SinkTimeout,
        }
    }
}

/// The cards that are drawn from: each kind once, what members may suffer most of all twice.
const DECK: [FaultKind; 18] = [
    FaultKind::Kill,
    FaultKind::Kill,
    FaultKind::Freeze,
    FaultKind::Freeze,
    FaultKind::CutNats,
    FaultKind::CutState,
    FaultKind::CutTarget,
    FaultKind::NatsLoss,
    FaultKind::NatsWipe,
    FaultKind::StateRestart,
    FaultKind::StateSlow,
    FaultKind::StateRollback,
    FaultKind::ClockStep,
    FaultKind::Edit,
    FaultKind::SplitFiles,
    FaultKind::SinkError,
    FaultKind::SinkReset,
    FaultKind::SinkTimeout,
];

/// The faults of a run of this length, by their beginnings.
pub fn plan(seed: u64, length: Duration) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let rounds = u32::try_from(length.as_secs() / ROUND.as_secs()).unwrap_or(1).max(1);
    let round = length / rounds;
    let mut deck = Vec::new();
    let mut wipes = 0;
    let mut planned = Vec::new();
    for number in 0..rounds {
        let mut storm: Vec<FaultKind> = (0..FAULTS).map(|_| draw(&mut deck, &mut rng)).collect();
        // What takes long begins first, so that the quiet window is one.
        storm.sort_by_key(|kind| !takes_long(*kind));
        let step = STORM.min(round / 2) / u32::try_from(FAULTS).unwrap_or(1);
        for (place, kind) in (0..).zip(storm) {
            let at = round * number + step * place + step.mul_f64(rng.random_range(0.0..0.9));
            let length = Duration::from_millis(rng.random_range(700..3_000));
            planned.push(Planned { at, length, act: act(kind, &mut rng, &mut wipes) });
        }
    }
    planned
}

fn draw(deck: &mut Vec<FaultKind>, rng: &mut StdRng) -> FaultKind {
    if deck.is_empty() {
        deck.extend(DECK);
        deck.shuffle(rng);
    }
    deck.pop().unwrap_or(FaultKind::Kill)
}

fn takes_long(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::StateRollback | FaultKind::NatsWipe | FaultKind::Edit | FaultKind::SplitFiles)
}

fn act(kind: FaultKind, rng: &mut StdRng, wipes: &mut usize) -> Act {
    let any = rng.random_range(0..1_000);
    let whom = if rng.random_ratio(2, 5) { Whom::Leader } else { Whom::Any(any) };
    let hindrance = if rng.random_bool(0.5) { Hindrance::Cut } else { Hindrance::Blocked };
    match kind {
        FaultKind::Kill => Act::Kill(whom),
        FaultKind::Freeze => Act::Freeze(whom),
        FaultKind::CutNats => Act::Hinder(Link::Nats, whom, hindrance),
        FaultKind::CutState => Act::Hinder(Link::State, whom, hindrance),
        FaultKind::CutTarget => Act::Hinder(Link::Target, Whom::Any(any), hindrance),
        FaultKind::NatsLoss => Act::NatsLoss(any % 3),
        FaultKind::NatsWipe => {
            *wipes += 1;
            // Everything at first, then one node, and so on in turn.
            Act::NatsWipe(if *wipes % 2 == 1 { vec![0, 1, 2] } else { vec![any % 3] })
        }
        FaultKind::StateRestart => Act::StateRestart,
        FaultKind::StateSlow => Act::StateSlow(Duration::from_millis(rng.random_range(50..400))),
        FaultKind::StateRollback => Act::StateRollback,
        FaultKind::ClockStep => {
            let seconds = rng.random_range(90..600);
            Act::ClockStep(whom, if rng.random_bool(0.5) { seconds } else { -seconds })
        }
        FaultKind::Edit => Act::Edit(rng.random_range(1..8)),
        FaultKind::SplitFiles => Act::SplitFiles(any),
        FaultKind::SinkError => Act::SinkError(if rng.random_bool(0.5) { 500 } else { 429 }),
        FaultKind::SinkReset => Act::SinkReset,
        FaultKind::SinkTimeout => Act::SinkTimeout,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn kinds(planned: &[Planned]) -> BTreeMap<FaultKind, usize> {
        planned.iter().fold(BTreeMap::new(), |mut counts, fault| {
            *counts.entry(fault.act.kind()).or_default() += 1;
            counts
        })
    }

    #[test]
    fn a_seed_repeats_its_faults_and_another_has_others() {
        let length = Duration::from_secs(120);
        assert_eq!(plan(7, length), plan(7, length));
        assert_ne!(plan(7, length), plan(8, length));
    }

    #[test]
    fn two_minutes_have_forty_faults_with_every_kind_twice() {
        for seed in 0..50 {
            let planned = plan(seed, Duration::from_secs(120));
            assert!(planned.len() >= 40, "{}", planned.len());
            let kinds = kinds(&planned);
            assert!(kinds.len() == 16 && kinds.values().all(|count| *count >= 2), "seed {seed}: {kinds:?}");
        }
    }

    #[test]
    fn every_storm_is_followed_by_a_quiet_window() {
        for length in [30, 120, 600].map(Duration::from_secs) {
            let planned = plan(3, length);
            assert!(planned.is_sorted_by_key(|fault| fault.at));
            let round = length / u32::try_from((length.as_secs() / 40).max(1)).unwrap();
            for fault in &planned {
                let within = fault.at.as_secs_f64() % round.as_secs_f64();
                assert!(within < 15.0, "{fault:?}");
            }
        }
    }
}
