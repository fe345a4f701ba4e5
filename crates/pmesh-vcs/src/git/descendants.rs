//! What a program has started, and what that has: filters, ssh, credential helpers.
//!
//! A signal to git's process group does not reach one that has made a group of its own. The kernel tells nobody's
//! descendants, so they are looked for while their parents live, and held by descriptors that stand for nobody else.

use std::{collections::BTreeMap, fs, os::fd::OwnedFd, path::PathBuf};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Those of one program that were seen, but for that itself.
#[derive(Default)]
pub(super) struct Descendants(BTreeMap<i32, OwnedFd>);

/// A process as `/proc/PID/stat` has it (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProcRow {
    pid: i32,
    parent: i32,
    session: i32,
}

impl Descendants {
    /// Looks for those of `root`, which leads a session or a process group, and adds them.
    pub(super) fn look(&mut self, root: Pid) {
        let rows = rows();
        for pid in below(&rows, root.as_raw_nonzero().get(), self.0.keys().copied()) {
            // Ended meanwhile, or somebody else's by now: then it is none of ours.
            if let Some(open) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
                && row(pid).is_some_and(|now| rows.contains(&now))
            {
                self.0.entry(pid).or_insert(open);
            }
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        for (pid, open) in &self.0 {
            match pidfd_send_signal(open, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => tracing::debug!(pid, %error, "a descendant of git cannot be signalled"),
            }
        }
    }

    /// The lock files that `root` or one of them has open.
    pub(super) fn locks(&self, root: Pid) -> Vec<PathBuf> {
        let holders = self.0.keys().copied().chain([root.as_raw_nonzero().get()]);
        let open = holders.filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).flatten();
        let paths = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        paths.filter(|path| path.extension().is_some_and(|end| end == "lock")).collect()
    }
}

/// The descendants of `root` and of `known`, and who is in the session of `root`; without `root`.
fn below(rows: &[ProcRow], root: i32, known: impl Iterator<Item = i32>) -> Vec<i32> {
    let mut found: Vec<i32> = known.chain([root]).collect();
    let first = found.len();
    found.extend(rows.iter().filter(|row| row.session == root && row.pid != root).map(|row| row.pid));
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let children: Vec<i32> = rows.iter().filter(|row| row.parent == parent).map(|row| row.pid).collect();
        for child in children {
            if !found.contains(&child) {
                found.push(child);
            }
        }
    }
    found.split_off(first)
}

fn rows() -> Vec<ProcRow> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| row(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn row(pid: i32) -> Option<ProcRow> {
    parsed(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parsed(pid: i32, stat: &str) -> Option<ProcRow> {
    // The name is in brackets and may have any character in it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let (_state, parent, _group, session) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some(ProcRow { pid, parent: parent.parse().ok()?, session: session.parse().ok()? })
}

/// What a process waits for, for a sentence: its name, state and place in the kernel.
pub(super) fn described(pid: Pid) -> String {
    let pid = pid.as_raw_nonzero().get();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
    let channel = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let channel = if channel.is_empty() || channel == "0" { "unknown" } else { &channel };
    format!("process {pid} in state {state}, which waits in {channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(rows: &[(i32, i32, i32)]) -> Vec<ProcRow> {
        rows.iter().map(|&(pid, parent, session)| ProcRow { pid, parent, session }).collect()
    }

    #[test]
    fn a_row_is_read_past_a_name_with_brackets() {
        let row = parsed(7, "7 (a) b (c)) S 3 5 4 0 -1").unwrap();
        assert_eq!(row, ProcRow { pid: 7, parent: 3, session: 4 });
        assert_eq!(parsed(7, "7 (a"), None);
    }

    #[test]
    fn descendants_are_children_of_children_and_who_is_in_the_session_and_what_known_ones_have_started() {
        let rows = rows_of(&[
            (10, 1, 10), // git
            (11, 10, 10),
            (12, 11, 12), // has left the session
            (13, 12, 12),
            (14, 1, 10), // has lost its parent
            (20, 1, 20), // known, has lost its parent and left
            (21, 20, 20),
            (30, 1, 30), // a stranger
        ]);
        let mut found = below(&rows, 10, [20].into_iter());
        found.sort_unstable();
        assert_eq!(found, [11, 12, 13, 14, 21]);
    }
}
