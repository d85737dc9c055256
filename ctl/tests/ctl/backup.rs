//! `backup`: a whole copy under a name that was free, or none and the reason.

use std::error::Error;

use serde_json::Value;

use crate::support::Place;

const ALERTS: &str = "database: {url: 'sqlite:///shop.db'}\n\
    alerts: [{name: orders, query: \"SELECT 'OK' AS status\", schedule: '@daily'}]\n";

#[test]
fn a_copy_holds_what_was_recorded_and_overwrites_nothing() -> Result<(), Box<dyn Error>> {
    let place = Place::new()?.with("STATE_DB_URL", "sqlite:///state.db");
    place.write("alerts.yaml", ALERTS)?;
    place.write("shop.db", "")?;
    assert_eq!(place.ctl(&["run", "alerts.yaml"])?.code, 0);

    // What an attempt that was interrupted has left behind is in nobody's way.
    place.write("copy.db.part", "half")?;
    let ran = place.ctl(&["backup", "copy.db", "--output", "json"])?;
    let said: Value = serde_json::from_str(&ran.out).map_err(|error| format!("{error}: {ran:?}"))?;
    assert_eq!((&said["file"], &said["planned_through"]), (&"copy.db".into(), &Value::Null), "{said}");
    assert_eq!(said["bytes"], std::fs::metadata(place.path("copy.db"))?.len());
    assert!(!place.path("copy.db.part").exists());
    let history = place.ctl(&["history", "--state-db", "sqlite:///copy.db", "--output", "json"])?;
    let history: Value = serde_json::from_str(&history.out)?;
    assert_eq!(history[0]["alert_name"], "orders", "{history}");

    let before = std::fs::read(place.path("copy.db"))?;
    let again = place.ctl(&["backup", "copy.db"])?;
    assert!(again.code == 1 && again.err.contains("copy.db is there already"), "{again:?}");
    assert_eq!(std::fs::read(place.path("copy.db"))?, before);
    Ok(())
}

#[test]
fn what_cannot_be_copied_leaves_no_file_and_says_why() -> Result<(), Box<dyn Error>> {
    let place = Place::new()?;
    for (state_db, file, reason) in [
        ("sqlite:///gone.db", "copy.db", "there is no state database at gone.db"),
        ("postgresql://u:canary@127.0.0.1:1/state", "copy.db", "pg_dump"),
        ("sqlite:///state.db", "no-folder/copy.db", "cannot back up the state database"),
    ] {
        place.ctl(&["init", "--state-db", "sqlite:///state.db"])?;
        let ran = place.ctl(&["backup", file, "--state-db", state_db])?;
        assert!(ran.code == 1 && ran.err.contains(reason) && !ran.err.contains("canary"), "{ran:?}");
        assert!(!place.path(file).exists(), "{state_db}");
    }
    Ok(())
}

#[test]
fn a_restored_database_that_never_planned_has_nothing_to_mark() -> Result<(), Box<dyn Error>> {
    let place = Place::new()?.with("STATE_DB_URL", "sqlite:///state.db");
    let ran = place.ctl(&["init", "--restored", "--output", "json"])?;
    let said: Value = serde_json::from_str(&ran.out).map_err(|error| format!("{error}: {ran:?}"))?;
    assert_eq!((&said["uncertain_from"], &said["possible_duplicates"]), (&Value::Null, &Value::Null), "{said}");
    Ok(())
}
