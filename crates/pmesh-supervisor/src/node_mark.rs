//! What a server that was killed has left running.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};

use crate::{
    NodeCgroups, Survivor,
    leader::ignore_gone,
    proc::{Proc, Stat},
    process_table::ProcessTable,
    session_members::open_pidfd,
    survivor::AFTER_KILL,
};

/// What tells the processes of one node from all others: each that the node starts has it in its environment, and what
/// these start inherits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMark(String);

/// What was found of a server that was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftRunning {
    /// How many processes there were.
    pub processes: usize,
    /// The services that they belonged to, as far as they tell.
    pub services: BTreeSet<String>,
    /// Those of them that SIGKILL has not ended.
    pub survivors: Vec<Survivor>,
}

/// The longest pause between two looks while something is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A session that no process is in.
const NO_SESSION: u32 = u32::MAX;

/// How many ends are waited for at a time.
const WATCHED: usize = 64;

impl NodeMark {
    /// The variable of the environment that has it.
    pub const VARIABLE: &str = "PM3_NODE";

    /// The mark of the node with this id, which no other node has and which is the same for each of its servers.
    pub fn new(node_id: &str) -> Self {
        Self(node_id.to_owned())
    }

    /// The value of the variable.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Ends everything that bears the mark or is in the node's control groups, the sessions of these and their descendants:
    /// SIGTERM, and SIGKILL after `grace`. Only for a
    /// node none of whose servers runs, before it starts anything. Blocks until nothing is found any more, or what is
    /// there has outlived SIGKILL by 5 s.
    ///
    /// This process and those that it descends from are left alone, though they may be marked: a service may have started
    /// its own server anew.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn end_leftovers(&self, cgroups: Option<&NodeCgroups>, grace: Duration) -> io::Result<LeftRunning> {
        let mut proc = Proc::open()?;
        let mut ending = Ending { mark: self, cgroups, known: HashSet::new(), found: LeftRunning::default() };
        let begin = Instant::now();
        let (mut told, mut kill_from) = (HashSet::new(), None);
        loop {
            let living = ending.look(&mut proc)?;
            let now = Instant::now();
            if living.is_empty() {
                if let Some(cgroups) = cgroups {
                    cgroups.remove_empty();
                }
                return Ok(ending.found);
            }
            if now >= begin + grace {
                kill_from.get_or_insert(now);
            }
            if kill_from.is_some_and(|from| now >= from + AFTER_KILL) {
                ending.found.survivors = living.iter().filter_map(|stat| proc.survivor(stat.pid)).collect();
                return Ok(ending.found);
            }
            let mut ends = Vec::new();
            for stat in &living {
                let Some(pidfd) = open_pidfd(&mut proc, stat) else { continue };
                if kill_from.is_some() {
                    ignore_gone(pidfd_send_signal(&pidfd, Signal::KILL));
                } else if told.insert((stat.pid, stat.start)) {
                    ignore_gone(pidfd_send_signal(&pidfd, Signal::TERM));
                    ignore_gone(pidfd_send_signal(&pidfd, Signal::CONT));
                }
                ends.push(pidfd);
            }
            wait_for_any(&ends, LOOK_AGAIN)?;
        }
    }
}

struct Ending<'a> {
    mark: &'a NodeMark,
    cgroups: Option<&'a NodeCgroups>,
    /// Pid and start time of all that were found: one that has no mark any more is one of them.
    known: HashSet<(u32, u64)>,
    found: LeftRunning,
}

impl Ending<'_> {
    /// Those that live now.
    fn look(&mut self, proc: &mut Proc) -> io::Result<Vec<Stat>> {
        let table = ProcessTable::seen_by(proc)?;
        let spared = table.ancestors(std::process::id());
        for stat in table.all().iter().filter(|stat| !spared.contains(&stat.pid)) {
            let variables = proc.variables(stat.pid, [NodeMark::VARIABLE, "PM3_SERVICE"])?;
            let Some([mark, service]) = variables else { continue };
            if mark.as_deref() == Some(self.mark.as_str()) {
                self.known.insert((stat.pid, stat.start));
                self.found.services.extend(service);
            }
        }
        let contained: HashSet<u32> = self.cgroups.map(NodeCgroups::pids).into_iter().flatten().collect();
        let in_groups = table.all().iter().filter(|stat| contained.contains(&stat.pid));
        self.known
            .extend(in_groups.filter(|stat| !spared.contains(&stat.pid)).map(|stat| (stat.pid, stat.start)));
        let leads = |stat: &&Stat| stat.pid == stat.session && self.known.contains(&(stat.pid, stat.start));
        let sessions: HashSet<u32> = table.all().iter().filter(leads).map(|stat| stat.session).collect();
        let in_sessions = table.all().iter().filter(|stat| sessions.contains(&stat.session));
        self.known.extend(in_sessions.map(|stat| (stat.pid, stat.start)));
        let mut members = table.members(NO_SESSION, None, &self.known);
        members.retain(|stat| stat.alive && !spared.contains(&stat.pid));
        self.known.extend(members.iter().map(|stat| (stat.pid, stat.start)));
        self.found.processes = self.found.processes.max(self.known.len());
        Ok(members)
    }
}

/// Waits until one of these has ended, no longer than `limit`.
fn wait_for_any(ends: &[OwnedFd], limit: Duration) -> io::Result<()> {
    let mut watched: Vec<PollFd<'_>> =
        ends.iter().take(WATCHED).map(|end| PollFd::new(end, PollFlags::IN)).collect();
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    match poll(&mut watched, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
