//! How much memory a process has, as the kernel counts it.

use anyhow::{Context, Result};

/// The memory of a process in megabytes: now, and at its highest. What was used and given back counts in the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What is resident now.
    pub now: u64,
    /// The most that was.
    pub most: u64,
}

/// The memory of the process with this id.
pub fn of(pid: i32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let megabytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
        Ok::<u64, anyhow::Error>(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    };
    Ok(Memory { now: megabytes("VmRSS:")?, most: megabytes("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_seen_at_the_highest() -> Result<()> {
        let pid = i32::try_from(std::process::id())?;
        let before = of(pid)?;
        let held = vec![7_u8; 64 << 20];
        assert_eq!(held.iter().filter(|byte| **byte == 7).count(), held.len());
        drop(held);
        assert!(of(pid)?.most >= before.now + 60, "{before:?} {:?}", of(pid)?);
        Ok(())
    }
}
