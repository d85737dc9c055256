//! The watch on real files, and what it says of them. Time stands still where a test waits for the watch to settle.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Access;
use crate::health::Status;

fn yaml(query: &str) -> String {
    format!(
        "database: {{url: 'sqlite:///x.db'}}\nalerts:\n  - {{name: a, query: {query}, schedule: '@daily', notify: []}}\n"
    )
}

struct Scene {
    folder: TempDir,
    watch: ReportingWatch,
    live: LiveConfig,
    health: Health,
    registry: Registry,
}

impl Scene {
    async fn of(folder: TempDir, path: PathBuf) -> Self {
        let settings = ConfigSettings { path, access: Access::default() };
        let watch = ConfigWatch::load(ConfigSource::new(settings)).await.unwrap();
        let (live, health, registry) = (watch.live(), Health::default(), Registry::new());
        let watch = watch.reporting_to(health.clone(), &registry).unwrap();
        Self { folder, watch, live, health, registry }
    }

    /// A file with `SELECT 1`.
    async fn with_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.yaml");
        fs::write(&path, yaml("SELECT 1")).unwrap();
        Self::of(folder, path).await
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("alerts.yaml")
    }

    fn write(&self, query: &str) {
        fs::write(self.path(), yaml(query)).unwrap();
    }

    async fn look(&mut self) {
        self.watch.run_once(Occasion::Time).await;
    }

    fn query(&self) -> String {
        self.live.current().alerts[0].definition.query.clone()
    }

    fn check(&self) -> (Status, String) {
        let check = self.health.snapshot().checks.remove(CHECK).unwrap();
        (check.status, check.message.unwrap_or_default())
    }

    /// Successes, failures, and whether the last was a success.
    fn figures(&self) -> [f64; 3] {
        let families = self.registry.gather();
        let value = |name: &str, result: Option<&str>| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let mut series = family.get_metric().iter();
            let fits = |metric: &&prometheus::proto::Metric| {
                result.is_none_or(|result| metric.get_label().iter().any(|label| label.value() == result))
            };
            let metric = series.find(fits).unwrap();
            if result.is_some() { metric.get_counter().get_value() } else { metric.get_gauge().get_value() }
        };
        let total = "sqlsentinel_config_reloads_total";
        let last = value("sqlsentinel_config_last_reload_successful", None);
        [value(total, Some("success")), value(total, Some("failure")), last]
    }
}

/// Makes `name` lead to `target` in one step.
fn swap(target: &str, name: &Path) {
    let new = name.with_file_name("new-link");
    symlink(target, &new).unwrap();
    fs::rename(new, name).unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_that_stay_as_they_are_are_not_loaded_again() {
    let mut scene = Scene::with_file().await;
    // The same bytes in another file, newer: nothing that counts.
    scene.write("SELECT 1");
    scene.look().await;
    assert_eq!(scene.figures(), [0.0, 0.0, 1.0]);
    assert_eq!(scene.check().0, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_place_and_a_renamed_file_are_noticed() {
    let mut scene = Scene::with_file().await;
    scene.write("SELECT 2");
    scene.look().await;
    assert_eq!(scene.query(), "SELECT 2");
    let new = scene.folder.path().join("new");
    fs::write(&new, yaml("SELECT 3")).unwrap();
    fs::rename(new, scene.path()).unwrap();
    scene.look().await;
    assert_eq!((scene.query().as_str(), scene.figures()), ("SELECT 3", [2.0, 0.0, 1.0]));
}

/// A mounted ConfigMap: the file is a link into `..data`, and that is a link which is replaced.
#[tokio::test(start_paused = true)]
async fn a_swapped_link_of_kubernetes_is_noticed_for_a_file_and_for_a_folder() {
    for whole_folder in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        for (version, query) in [("..one", "SELECT 1"), ("..two", "SELECT 2")] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("alerts.yaml"), yaml(query)).unwrap();
        }
        let (data, file) = (folder.path().join("..data"), folder.path().join("alerts.yaml"));
        symlink("..one", &data).unwrap();
        symlink("..data/alerts.yaml", &file).unwrap();
        let path = if whole_folder { folder.path().to_owned() } else { file };
        let mut scene = Scene::of(folder, path).await;
        assert_eq!(scene.query(), "SELECT 1");
        swap("..two", &data);
        scene.look().await;
        assert_eq!(scene.query(), "SELECT 2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_added_to_a_folder_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join("a.yaml"), yaml("SELECT 1")).unwrap();
    let mut scene = Scene::of(folder, path.clone()).await;
    fs::write(path.join("b.yaml"), "alerts: [{name: b, query: SELECT 1, schedule: '@daily', notify: []}]\n").unwrap();
    scene.look().await;
    assert_eq!(scene.live.current().alerts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_two_quick_edits_only_the_last_one_is_loaded() {
    let mut scene = Scene::with_file().await;
    scene.write("SELECT 2");
    let path = scene.path();
    let later = async {
        sleep(SETTLE / 2).await;
        fs::write(path, yaml("SELECT 3")).unwrap();
    };
    tokio::join!(scene.watch.run_once(Occasion::Time), later);
    assert_eq!((scene.query().as_str(), scene.figures()), ("SELECT 3", [1.0, 0.0, 1.0]));
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_changes_nothing_and_is_told_everywhere_until_it_is_mended() {
    let mut scene = Scene::with_file().await;
    fs::write(scene.path(), "database: {url: 'sqlite:///x.db'}\nalerts:\n  - {name: a, qery: SELECT 2}\n").unwrap();
    scene.look().await;
    assert_eq!((scene.query().as_str(), scene.figures()), ("SELECT 1", [0.0, 1.0, 0.0]));
    let (status, message) = scene.check();
    assert_eq!(status, Status::Degraded);
    assert!(message.contains("alerts.yaml:3:5: alerts[0].query") && message.contains(" more)"), "{message}");
    // Told once, not at every look.
    scene.look().await;
    assert_eq!(scene.figures(), [0.0, 1.0, 0.0]);

    // What was in force all the time is good again.
    scene.write("SELECT 1");
    scene.look().await;
    assert_eq!((scene.check().0, scene.figures()), (Status::Healthy, [1.0, 1.0, 1.0]));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_away_is_broken_and_not_empty() {
    let mut scene = Scene::with_file().await;
    fs::remove_file(scene.path()).unwrap();
    scene.look().await;
    assert_eq!((scene.query().as_str(), scene.check().0), ("SELECT 1", Status::Degraded));
    scene.write("SELECT 2");
    scene.look().await;
    assert_eq!((scene.query().as_str(), scene.check().0), ("SELECT 2", Status::Healthy));
}

/// As by an editor that removes a file before it writes the new one.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_away_for_a_moment_is_waited_for() {
    let mut scene = Scene::with_file().await;
    let path = scene.path();
    fs::remove_file(&path).unwrap();
    let later = async {
        sleep(SETTLE / 2).await;
        fs::write(path, yaml("SELECT 2")).unwrap();
    };
    tokio::join!(scene.watch.run_once(Occasion::Time), later);
    assert_eq!((scene.query().as_str(), scene.figures()), ("SELECT 2", [1.0, 0.0, 1.0]));
}

#[tokio::test(start_paused = true)]
async fn a_signal_loads_what_did_not_change_and_asks_for_variables_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.yaml");
    fs::write(&path, yaml("SELECT 1").replace("alerts:", "timezone: $ZONE\nalerts:")).unwrap();
    let zone = Arc::new(Mutex::new("Europe/Berlin"));
    let variables = Arc::clone(&zone);
    let source = ConfigSource::with_variables(
        ConfigSettings::from(path.as_path()),
        Arc::new(move |name: &str| (name == "ZONE").then(|| (*variables.lock().unwrap()).to_owned())),
    );
    let watch = ConfigWatch::load(source).await.unwrap();
    let mut live = watch.live();
    let before = live.current();
    let mut watch = watch.reporting_to(Health::default(), &Registry::new()).unwrap();
    *zone.lock().unwrap() = "Asia/Tokyo";
    watch.run_once(Occasion::Time).await;
    assert_eq!(live.current(), before);
    watch.run_once(Occasion::Signal).await;
    assert_ne!(*live.changed().await, *before);
}

#[tokio::test(start_paused = true)]
async fn a_hangup_is_served_at_once_and_a_stop_ends_the_watch() {
    let scene = Scene::with_file().await;
    let Scene { watch, mut live, folder: _folder, .. } = scene;
    let (hangup, stop) = (Arc::new(Notify::new()), Stop { requested: CancellationToken::new(), ..Stop::default() });
    hangup.notify_one();
    let began = tokio::time::Instant::now();
    let served = async {
        live.changed().await;
        stop.requested.cancel();
        began.elapsed()
    };
    let (ended, after) = tokio::join!(watch.run(hangup, stop.clone()), served);
    assert!(ended.is_ok());
    assert_eq!(after, Duration::ZERO, "neither for the next look nor for the files to settle");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_found_without_a_signal() {
    let scene = Scene::with_file().await;
    scene.write("SELECT 2");
    let Scene { watch, mut live, folder: _folder, .. } = scene;
    let stop = Stop::default();
    let found = async {
        let config = live.changed().await;
        stop.requested.cancel();
        config.alerts[0].definition.query.clone()
    };
    let (ended, query) = tokio::join!(watch.run(Arc::default(), stop.clone()), found);
    assert!(ended.is_ok());
    assert_eq!(query, "SELECT 2");
}

#[tokio::test]
async fn a_pipe_is_not_read_a_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let writer = path.clone();
    let writing = spawn_blocking(move || fs::write(writer, yaml("SELECT 1")).unwrap());
    let mut scene = Scene::of(folder, path).await;
    writing.await.unwrap();
    scene.watch.run_once(Occasion::Time).await;
    scene.watch.run_once(Occasion::Signal).await;
    assert_eq!((scene.query().as_str(), scene.figures()), ("SELECT 1", [0.0, 0.0, 1.0]));
}
