//! How far a run over many alerts has come, for whoever watches a terminal. Data is on stdout; this is on stderr, and only
//! where somebody can see it.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Back to the beginning of the line, and the line empty.
const CLEAR: &str = "\r\x1b[K";

/// A line that is written over and over, and gone at the end.
#[derive(Debug)]
pub(super) struct Progress {
    all: usize,
    ended: AtomicUsize,
    is_shown: bool,
}

impl Progress {
    /// Of `all` alerts.
    pub(super) fn of(all: usize) -> Self {
        let progress = Self { all, ended: AtomicUsize::new(0), is_shown: all > 1 && io::stderr().is_terminal() };
        progress.show(&progress.line(0));
        progress
    }

    /// One more has ended.
    pub(super) fn one_ended(&self) {
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        self.show(&self.line(ended));
    }

    /// Makes room for the results.
    pub(super) fn end(&self) {
        self.show(CLEAR);
    }

    fn line(&self, ended: usize) -> String {
        format!("{CLEAR}{ended} of {} alerts", self.all)
    }

    fn show(&self, text: &str) {
        if self.is_shown {
            let mut stderr = io::stderr().lock();
            // A terminal that has gone wants nothing any more.
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_many_have_ended_of_all() {
        let progress = Progress { all: 5, ended: AtomicUsize::new(0), is_shown: false };
        progress.one_ended();
        progress.one_ended();
        assert_eq!(progress.line(progress.ended.load(Ordering::Relaxed)), "\r\x1b[K2 of 5 alerts");
    }
}
