//! The epoch's promises, on both dialects: only the last leader changes the ledger, and the stamps only grow.

use std::collections::BTreeMap;

use anyhow::Result;
use sqlsentinel_common::alert::{
    About, AlertDefinition, ConfigHash, JudgingRules, PlanningRules, QueryOptions, SourceName,
};
use sqlsentinel_common::schedule::Schedule;
use sqlsentinel_common::store::definitions::{Adoption, Intent};
use sqlsentinel_common::store::fires::Plan;
use sqlsentinel_common::store::leadership::Mark;
use sqlsentinel_common::store::{StoreError, StoreRole};
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    a_deposed_leader_changes_nothing,
    an_epoch_is_above_the_row_and_above_the_lease,
    a_database_older_than_the_lease_is_noticed,
    the_stamps_of_one_term_grow_with_each_transaction,
    migrating_again_keeps_the_name_of_the_installation,
    a_superseded_set_stays_superseded_unless_asked_for,
    a_change_counts_until_a_later_one_is_in_force,
    a_changed_version_begins_where_the_old_one_ends,
    the_cursor_never_passes_the_databases_clock,
);

async fn a_deposed_leader_changes_nothing(fixture: Fixture) -> Result<()> {
    let first = fixture.store.claim_leadership("first", Mark::default()).await?;
    let successor = fixture.another(StoreRole::Leader)?;
    let second = successor.claim_leadership("second", first.term.last_commit()).await?;

    let (now, _) = fixture.store.now().await?;
    let plan = Plan { planned_through: now, ..Plan::default() };
    let before = fixture.store.leadership().await?;
    let refused = fixture.store.commit_plan(&first.term, &plan, Mark::default(), 10).await;
    assert!(matches!(refused, Err(StoreError::Deposed)), "{refused:?}");
    assert_eq!(fixture.store.leadership().await?, before);
    successor.commit_plan(&second.term, &plan, Mark::default(), 10).await?;
    Ok(())
}

async fn an_epoch_is_above_the_row_and_above_the_lease(fixture: Fixture) -> Result<()> {
    assert_eq!(fixture.store.claim_leadership("a", Mark::default()).await?.term.epoch, 1);
    assert_eq!(fixture.store.claim_leadership("b", Mark::default()).await?.term.epoch, 2);
    assert_eq!(fixture.store.claim_leadership("c", Mark { epoch: 9, seq: 0 }).await?.term.epoch, 10);
    Ok(())
}

async fn a_database_older_than_the_lease_is_noticed(fixture: Fixture) -> Result<()> {
    let first = fixture.store.claim_leadership("a", Mark::default()).await?;
    assert_eq!(first.rolled_back, None);
    assert_eq!(fixture.store.claim_leadership("b", first.term.last_commit()).await?.rolled_back, None);
    assert!(fixture.store.claim_leadership("c", Mark { epoch: 40, seq: 0 }).await?.rolled_back.is_some());
    Ok(())
}

async fn the_stamps_of_one_term_grow_with_each_transaction(fixture: Fixture) -> Result<()> {
    let term = fixture.store.claim_leadership("a", Mark::default()).await?.term;
    let mut last = Mark::default();
    for _ in 0..3 {
        let leader = fixture.store.begin_as(&term).await?;
        assert!(leader.mark > last, "{:?} after {last:?}", leader.mark);
        last = leader.mark;
        leader.commit().await?;
    }
    let next = fixture.store.claim_leadership("b", Mark::default()).await?.term;
    assert!(fixture.store.begin_as(&next).await?.mark > last);
    Ok(())
}

async fn migrating_again_keeps_the_name_of_the_installation(fixture: Fixture) -> Result<()> {
    let another = fixture.another(StoreRole::Leader)?;
    let (one, two) = tokio::join!(fixture.store.migrate(), another.migrate());
    assert_eq!((one?, two?), (fixture.cluster, fixture.cluster));
    Ok(())
}

async fn a_superseded_set_stays_superseded_unless_asked_for(fixture: Fixture) -> Result<()> {
    let term = fixture.store.claim_leadership("a", Mark::default()).await?.term;
    let (old, new) = (Set::of(&["SELECT 1"])?, Set::of(&["SELECT 2"])?);
    assert_eq!(adopt(&fixture, &term, &old, Intent::Found).await?, Adoption::Adopted { removed: 0 });
    assert_eq!(adopt(&fixture, &term, &old, Intent::Found).await?, Adoption::InForce);
    assert_eq!(adopt(&fixture, &term, &new, Intent::Found).await?, Adoption::Adopted { removed: 0 });
    assert_eq!(adopt(&fixture, &term, &old, Intent::Found).await?, Adoption::Superseded);
    assert_eq!(in_force(&fixture).await?, ["SELECT 2"]);
    assert_eq!(adopt(&fixture, &term, &old, Intent::Wanted).await?, Adoption::Adopted { removed: 0 });
    assert_eq!(in_force(&fixture).await?, ["SELECT 1"]);
    Ok(())
}

/// Two coordinators whose files differ: the one that was changed last decides, whichever of them leads.
async fn a_change_counts_until_a_later_one_is_in_force(fixture: Fixture) -> Result<()> {
    let term = fixture.store.claim_leadership("a", Mark::default()).await?.term;
    let (old, new) = (Set::of(&["SELECT 1"])?, Set::of(&["SELECT 2"])?);
    adopt(&fixture, &term, &old, Intent::Found).await?;
    let (before, _) = fixture.store.now().await?;
    adopt(&fixture, &term, &new, Intent::Found).await?;
    let (after, _) = fixture.store.now().await?;
    let after = after.plus(std::time::Duration::from_millis(1));
    assert_eq!(adopt(&fixture, &term, &old, Intent::Changed(before)).await?, Adoption::Superseded);
    assert_eq!(adopt(&fixture, &term, &old, Intent::Changed(after)).await?, Adoption::Adopted { removed: 0 });
    assert_eq!(in_force(&fixture).await?, ["SELECT 1"]);
    Ok(())
}

async fn a_changed_version_begins_where_the_old_one_ends(fixture: Fixture) -> Result<()> {
    let claimed = fixture.store.claim_leadership("a", Mark::default()).await?;
    adopt(&fixture, &claimed.term, &Set::of(&["SELECT 1", "SELECT 3"])?, Intent::Found).await?;
    let (now, _) = fixture.store.now().await?;
    let plan = Plan { planned_through: now, ..Plan::default() };
    fixture.store.commit_plan(&claimed.term, &plan, Mark::default(), 10).await?;
    adopt(&fixture, &claimed.term, &Set::of(&["SELECT 2", "SELECT 3"])?, Intent::Found).await?;

    let versions = fixture.store.definitions_in_force().await?;
    let valid_from: BTreeMap<_, _> =
        versions.into_iter().map(|version| (version.definition.query, version.valid_from)).collect();
    assert_eq!(valid_from.len(), 2);
    assert_eq!(valid_from["SELECT 2"], now);
    assert_eq!(valid_from["SELECT 3"], claimed.planned_through);
    Ok(())
}

async fn the_cursor_never_passes_the_databases_clock(fixture: Fixture) -> Result<()> {
    let term = fixture.store.claim_leadership("a", Mark::default()).await?.term;
    let (now, _) = fixture.store.now().await?;
    let ahead = Plan { planned_through: now.plus(std::time::Duration::from_secs(60)), ..Plan::default() };
    let refused = fixture.store.commit_plan(&term, &ahead, Mark::default(), 10).await;
    assert!(matches!(refused, Err(StoreError::AheadOfClock)), "{refused:?}");
    Ok(())
}

struct Set {
    hash: ConfigHash,
    versions: BTreeMap<ConfigHash, AlertDefinition>,
}

impl Set {
    /// One alert for each query.
    fn of(queries: &[&str]) -> Result<Self> {
        let mut versions = BTreeMap::new();
        for (index, query) in queries.iter().enumerate() {
            let definition = AlertDefinition {
                name: format!("alert-{index}"),
                description: String::new(),
                query: (*query).to_owned(),
                source: SourceName::default_source(),
                schedule: Schedule::parse("every 10s", "UTC".parse()?)?,
                timeout_ms: 1_000,
                enabled: true,
                notify: Vec::new(),
                error_after: 3,
                rules: JudgingRules::default(),
                options: QueryOptions::default(),
                planning: PlanningRules::default(),
                about: About::default(),
            };
            versions.insert(ConfigHash::of(&definition.canonical_json()?), definition);
        }
        Ok(Self { hash: ConfigHash::of(&queries.join(";")), versions })
    }
}

async fn adopt(
    fixture: &Fixture,
    term: &sqlsentinel_common::store::leadership::Term,
    set: &Set,
    intent: Intent,
) -> Result<Adoption> {
    let versions = set.versions.iter().map(|(hash, definition)| (hash.clone(), definition)).collect();
    Ok(fixture.store.adopt(term, &set.hash, &versions, intent).await?)
}

async fn in_force(fixture: &Fixture) -> Result<Vec<String>> {
    let versions = fixture.store.definitions_in_force().await?;
    Ok(versions.into_iter().map(|version| version.definition.query).collect())
}
