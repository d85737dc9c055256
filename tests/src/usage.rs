//! What a process uses of the machine, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};
use procfs::process::{Process, Stat, all_processes};

/// The memory of a process in megabytes: now, and at its highest. What was used and given back counts in the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What is resident now.
    pub now: u64,
    /// The most that was.
    pub most: u64,
}

/// The memory of the process with this id.
pub fn memory(pid: i32) -> Result<Memory> {
    let status = Process::new(pid)?.status()?;
    let megabytes =
        |kilobytes: Option<u64>| Ok::<u64, anyhow::Error>(kilobytes.context("a process with memory")? / 1024);
    Ok(Memory { now: megabytes(status.vmrss)?, most: megabytes(status.vmhwm)? })
}

/// The processor time, user and system, of the process with this id and of its children: those that live, and those that
/// it has waited for. The kernel counts in hundredths of a second.
pub fn cpu(pid: i32) -> Result<Duration> {
    let ticks = |stat: &Stat| {
        let waited_for = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
        stat.utime + stat.stime + waited_for
    };
    // A process may end between being listed and being read.
    let others = all_processes()?.filter_map(|process| process.ok()?.stat().ok());
    let children: u64 = others.filter(|stat| stat.ppid == pid).map(|stat| ticks(&stat)).sum();
    let own = ticks(&Process::new(pid)?.stat()?);
    Ok(Duration::from_millis((own + children) * 1_000 / procfs::ticks_per_second()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::eventually::{SOON, eventually};

    #[test]
    fn what_was_given_back_is_seen_at_the_highest() -> Result<()> {
        let pid = i32::try_from(std::process::id())?;
        let before = memory(pid)?;
        let held = vec![7_u8; 64 << 20];
        assert_eq!(held.iter().filter(|byte| **byte == 7).count(), held.len());
        drop(held);
        assert!(memory(pid)?.most >= before.now + 60, "{before:?} {:?}", memory(pid)?);
        Ok(())
    }

    #[tokio::test]
    async fn what_a_child_has_used_is_counted_while_it_lives_and_when_it_has_ended() -> Result<()> {
        let script = "while :; do :; done & read _; kill $!; wait; echo; read _";
        let mut parent =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pid = i32::try_from(parent.id())?;
        let (mut orders, mut answers) =
            (parent.stdin.take().context("stdin")?, parent.stdout.take().context("stdout")?);
        let some = Duration::from_millis(100);
        let alive = eventually("the child uses some", SOON, || async { cpu(pid) }, |used| *used >= some).await?;
        writeln!(orders)?;
        answers.read_exact(&mut [0])?;
        let ended = cpu(pid)?;
        drop(orders);
        parent.wait()?;
        assert!(ended >= alive, "{ended:?} {alive:?}");
        Ok(())
    }
}
