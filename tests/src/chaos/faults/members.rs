//! What happens to a member: killed, frozen, cut off, or its clock stepped.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::MutexGuard;

use super::{EFFECT, Stage, over};
use crate::chaos::history::{Fault, FaultKind};
use crate::chaos::installation::{Member, end_of};
use crate::chaos::schedule::{Hindrance, Link, Whom};
use crate::eventually::eventually;
use crate::process::Proc;
use crate::proxy::Road;
use crate::wall_clock::{SECOND, now};

/// A member that no other fault holds.
struct Victim<'a> {
    member: &'a Member,
    process: MutexGuard<'a, Option<Proc>>,
}

impl Victim<'_> {
    /// Its process, which must not have ended by itself.
    fn running(&self) -> Result<&Proc> {
        let process = self.process.as_ref().with_context(|| format!("{} is not running", self.member.name))?;
        if let Some(status) = process.ended()? {
            bail!("{} has ended by itself ({status}):\n{}", self.member.name, end_of(&process.log()?));
        }
        Ok(process)
    }
}

/// The one that is meant, or, if another fault holds it, the next one that none holds.
fn victim<'a>(stage: Stage<'a>, whom: Whom, fits: impl Fn(&Member) -> bool) -> Result<Victim<'a>> {
    let candidates: Vec<&Member> = stage.installation.members.iter().filter(|member| fits(member)).collect();
    let leader = stage.watch.leader();
    let first = match whom {
        Whom::Leader => candidates.iter().position(|member| Some(&member.name) == leader.as_ref()).unwrap_or(0),
        Whom::Any(number) => number % candidates.len().max(1),
    };
    let in_turn = candidates.iter().cycle().skip(first).take(candidates.len());
    let mut free = in_turn.filter_map(|member| Some(Victim { member, process: member.process.try_lock().ok()? }));
    free.next().context("other faults hold every member that this one could hit")
}

/// Whether it led when this was asked: for the record.
fn rank(stage: Stage<'_>, member: &Member) -> &'static str {
    if stage.watch.leader().as_ref() == Some(&member.name) { "the leader" } else { "" }
}

pub(super) async fn kill(stage: Stage<'_>, whom: Whom, length: Duration) -> Result<Fault> {
    let mut victim = victim(stage, whom, |_| true)?;
    let (member, detail, from) = (victim.member, rank(stage, victim.member), now());
    let status = victim.running()?.kill().await?;
    ensure!(status.signal() == Some(9), "{} was to be killed and ended with {status}", member.name);
    tokio::time::sleep(length).await;
    *victim.process = Some(member.start()?);
    Ok(over(FaultKind::Kill, &member.name, from, detail))
}

pub(super) async fn freeze(stage: Stage<'_>, whom: Whom, length: Duration) -> Result<Fault> {
    let victim = victim(stage, whom, |_| true)?;
    let (member, detail, from) = (victim.member, rank(stage, victim.member), now());
    // It waits until the kernel says that the process stands.
    victim.running()?.freeze().await?;
    // Longer than the lease lives, as often as not.
    tokio::time::sleep(length * 2).await;
    victim.running()?.thaw()?;
    Ok(over(FaultKind::Freeze, &member.name, from, detail))
}

pub(super) async fn hinder(
    stage: Stage<'_>,
    link: Link,
    whom: Whom,
    hindrance: Hindrance,
    length: Duration,
) -> Result<Fault> {
    let victim = victim(stage, whom, |member| member.has(link))?;
    let (member, from) = (victim.member, now());
    victim.running()?;
    let before = member.hindered(link);
    let (road, detail) = match hindrance {
        Hindrance::Cut => (Road::Cut, "cut"),
        Hindrance::Blocked => (Road::Blocked, "blocked"),
    };
    let detail = format!("{detail} {}", rank(stage, member));
    member.set(link, road);
    let felt = async {
        tokio::time::sleep(length * 2).await;
        let hindered = || async { Ok(member.hindered(link)) };
        eventually("a hindered road hinders somebody", EFFECT, hindered, |times| *times > before).await
    }
    .await;
    member.set(link, Road::Open);
    felt?;
    let kind = match link {
        Link::Nats => FaultKind::CutNats,
        Link::State => FaultKind::CutState,
        Link::Target => FaultKind::CutTarget,
    };
    Ok(over(kind, &member.name, from, detail.trim_end()))
}

pub(super) async fn step_clock(stage: Stage<'_>, whom: Whom, seconds: i64, length: Duration) -> Result<Fault> {
    let victim = victim(stage, whom, |_| true)?;
    let (member, detail, from) = (victim.member, rank(stage, victim.member), now());
    victim.running()?;
    member.set_clock(seconds)?;
    let off = || async { Ok((member.wall_clock().await? - now()) / SECOND) };
    let half = seconds / 2;
    let felt = eventually("the member's clock is wrong", EFFECT, off, |off| (off - seconds).abs() < half.abs()).await;
    tokio::time::sleep(length).await;
    member.set_clock(0)?;
    felt?;
    eventually("the member's clock is right", EFFECT, off, |off| off.abs() < half.abs()).await?;
    Ok(over(FaultKind::ClockStep, &member.name, from, format!("{seconds:+} s {detail}").trim_end()))
}
