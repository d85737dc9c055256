//! The configuration files of a chaos run: one of each coordinator's, one of all other members, and the record of what
//! was written into them, and when.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::alerts;
use super::history::{self, Definition, Edit};
use crate::target::Target;
use crate::wall_clock::now;

/// What all members read if they have no file of their own.
pub const SHARED: &str = "alerts.yaml";

/// The files and their history.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// Those of the coordinators, and the shared one.
    names: Vec<String>,
    target: Target,
    alerts: Vec<history::Alert>,
    current: Vec<Option<Definition>>,
}

impl Files {
    /// Writes the first version of `count` alerts into every file.
    pub fn write(directory: &Path, coordinators: &[String], target: &Target, count: usize) -> Result<Self> {
        let mut names: Vec<String> = coordinators.iter().map(|name| file_of(name)).collect();
        names.push(SHARED.to_owned());
        let mut files = Self {
            directory: directory.to_path_buf(),
            names,
            target: target.clone(),
            alerts: (0..count)
                .map(|number| history::Alert { name: alerts::name(number), ..history::Alert::default() })
                .collect(),
            current: vec![None; count],
        };
        files.change((0..count).map(|number| (number, Some(alerts::definition(number)))).collect(), None)?;
        Ok(files)
    }

    /// What the alert with this number is like in the files; none if it is in none.
    pub fn current(&self, number: usize) -> Option<&Definition> {
        self.current.get(number)?.as_ref()
    }

    /// Changes alerts in every file, or in one coordinator's alone until [`Files::level`].
    pub fn change(&mut self, changes: Vec<(usize, Option<Definition>)>, only: Option<&str>) -> Result<()> {
        for (number, definition) in &changes {
            self.current[*number].clone_from(definition);
        }
        match only {
            Some(coordinator) => self.put(&file_of(coordinator))?,
            None => self.level()?,
        }
        let at = now();
        for (number, definition) in changes {
            self.alerts[number].edits.push(Edit { at, definition });
        }
        Ok(())
    }

    /// Makes all files say the same.
    pub fn level(&self) -> Result<()> {
        self.names.iter().try_for_each(|name| self.put(name))
    }

    /// What was written when.
    pub fn history(&self) -> Vec<history::Alert> {
        self.alerts.clone()
    }

    /// A file is never seen half-written.
    fn put(&self, name: &str) -> Result<()> {
        let (path, fresh) = (self.directory.join(name), self.directory.join(format!("{name}.new")));
        std::fs::write(&fresh, self.text()).context("cannot write the configuration")?;
        Ok(std::fs::rename(&fresh, &path)?)
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "database:\n  url: ${TARGET_URL}\ndefaults:\n  notify:\n    - channel: webhook\n      url: ${SINK_URL}\nalerts:\n",
        );
        for (number, definition) in self.current.iter().enumerate() {
            if let Some(definition) = definition {
                text.push_str(&alerts::entry(number, definition, &self.target));
            }
        }
        text
    }
}

/// The file that a coordinator reads.
pub fn file_of(coordinator: &str) -> String {
    format!("{coordinator}.yaml")
}
