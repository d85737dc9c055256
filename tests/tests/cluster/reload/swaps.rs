//! Files that are put in the place of others, as editors, deployments and Kubernetes do it, under running processes.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// `text` in the place of the file `alerts.yaml`, in one step, as careful editors write it.
fn rename_over(folder: &Path, text: &str) -> Result<()> {
    std::fs::write(folder.join(".alerts.yaml.new"), text)?;
    Ok(std::fs::rename(folder.join(".alerts.yaml.new"), folder.join("alerts.yaml"))?)
}

/// A ConfigMap as the kubelet mounts it: a folder for each version, `..data` that leads to one of them, and names that lead
/// through that. A new version is a new folder, and one renamed link.
fn mount(folder: &Path, version: &str, text: &str) -> Result<()> {
    std::fs::create_dir(folder.join(version))?;
    std::fs::write(folder.join(version).join("alerts.yaml"), text)?;
    symlink(version, folder.join("..data_tmp"))?;
    Ok(std::fs::rename(folder.join("..data_tmp"), folder.join("..data"))?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_renamed_over_the_old_one_is_reloaded_by_every_process() -> Result<()> {
    let (mut scene, first, second) = two_signals(Plan::new(State::Sqlite)).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &first))?;
    scene.until_more("orders", "OK", 1).await?;
    let folder = scene.cluster.directory().to_path_buf();
    for (count, (query, status)) in [(&second, "ALERT"), (&first, "OK")].into_iter().enumerate() {
        rename_over(&folder, scene.configuration().alert("orders", "every 1s", query).text())?;
        scene.until_more("orders", status, 2).await?;
        for member in scene.cluster.names(None) {
            until_reloaded(&scene, &member, f64::from(u32::try_from(count)? + 1)).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_map_whose_link_is_swapped_is_reloaded_whole_or_not_at_all() -> Result<()> {
    let (mut scene, first, second) = two_signals(Plan::new(State::Sqlite)).await?;
    let folder = scene.cluster.directory().to_path_buf();
    let with = |query: &str| scene.configuration().alert("orders", "every 1s", query).text().to_owned();
    let (calm, alarming) = (with(&first), with(&second));
    mount(&folder, "..2026_11_01", &calm)?;
    symlink("..data/alerts.yaml", folder.join("alerts.yaml"))?;
    scene.cluster.start()?;
    scene.until_more("orders", "OK", 1).await?;

    mount(&folder, "..2026_11_02", &alarming)?;
    std::fs::remove_dir_all(folder.join("..2026_11_01"))?;
    scene.until_more("orders", "ALERT", 2).await?;
    for member in scene.cluster.names(None) {
        until_reloaded(&scene, &member, 1.0).await?;
    }

    // One that is broken changes nothing, not even where it is right.
    mount(&folder, "..2026_11_03", &format!("{calm}  - name: broken\n"))?;
    for member in scene.cluster.names(None) {
        let failures = || async { metric(&scene, &member, FAILURE).await };
        eventually(&format!("{member} has refused it"), SOON, failures, |failures| *failures == 1.0).await?;
    }
    let runs = scene.until_more("orders", "ALERT", 2).await?;
    ensure!(runs.last().is_some_and(|run| run.status == "ALERT"), "{runs:?}");
    mount(&folder, "..2026_11_04", &calm)?;
    scene.until_more("orders", "OK", 2).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_quick_edits_the_last_one_wins_and_the_other_one_runs_nothing() -> Result<()> {
    let (mut scene, first, second) = two_signals(Plan::new(State::Sqlite)).await?;
    let calm = scene.configuration().alert("orders", "every 1s", &first);
    scene.play(&calm)?;
    scene.until_more("orders", "OK", 1).await?;
    // The first edit would raise an alarm.
    scene.cluster.configure(scene.configuration().alert("orders", "every 1s", &second).text())?;
    scene.cluster.configure(calm.alert("added", "every 1s", &first).text())?;
    scene.until_more("added", "OK", 2).await?;
    let runs = scene.until_more("orders", "OK", 2).await?;
    ensure!(runs.iter().all(|run| run.status == "OK"), "{runs:?}");
    for member in scene.cluster.names(None) {
        until_reloaded(&scene, &member, 1.0).await?;
        assert_eq!(metric(&scene, &member, SUCCESS).await?, 1.0, "{member} has read one edit");
    }
    Ok(())
}
