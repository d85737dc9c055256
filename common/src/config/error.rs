//! What is wrong with a configuration file, and where. Made by the other files of [`crate::config`]; shown by
//! `validate`, and by every process that refuses to start.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong (or, in [`super::Config::warnings`], worth knowing), and its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigProblem {
    /// The file, as it was named to the process.
    pub file: String,
    /// Line, from 1; 0 if the problem has no place in the file.
    pub line: u64,
    /// Column, from 1, in characters; 0 if the problem has no place in the file.
    pub column: u64,
    /// The key, such as `alerts[3].notify[0].url`; empty for the file as a whole.
    pub path: String,
    /// What is wrong. Never a secret.
    pub message: String,
    /// What to do about it; empty if the message says it all.
    pub help: String,
}

/// `file:line:column: path: message`, and the help in a second line.
impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration file, in the file's order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
