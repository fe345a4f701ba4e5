//! The process table (`/proc`) at one moment: who belongs to whom.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use crate::{
    proc::{Proc, Stat},
    tree_mark::TreeMark,
};

/// The process table at one moment.
#[derive(Debug, Default)]
pub(crate) struct ProcessTable {
    stats: Vec<Stat>,
    by_session: HashMap<u32, Vec<usize>>,
    by_parent: HashMap<u32, Vec<usize>>,
    /// Who has lost its parent and says by a mark whose it is.
    by_mark: HashMap<TreeMark, Vec<usize>>,
}

impl ProcessTable {
    fn new(stats: Vec<Stat>) -> Self {
        let mut table = Self { stats, ..Self::default() };
        for (index, stat) in table.stats.iter().enumerate() {
            table.by_session.entry(stat.session).or_default().push(index);
            table.by_parent.entry(stat.parent).or_default().push(index);
        }
        table
    }

    pub(crate) fn seen_by(proc: &mut Proc) -> io::Result<Self> {
        proc.scan().map(Self::new)
    }

    pub(crate) fn all(&self) -> &[Stat] {
        &self.stats
    }

    pub(crate) fn find(&self, pid: u32) -> Option<&Stat> {
        self.stats.binary_search_by_key(&pid, |stat| stat.pid).ok().map(|index| &self.stats[index])
    }

    /// A process and those that it descends from.
    pub(crate) fn ancestors(&self, pid: u32) -> HashSet<u32> {
        let parent = |pid: &u32| self.find(*pid).map(|stat| stat.parent).filter(|&parent| parent != 0);
        std::iter::successors(Some(pid), parent).collect()
    }

    /// The children of `pid` and of its ancestors: orphans go to the next of them that takes them in (`PR_SET_CHILD_SUBREAPER`
    /// of prctl(2)), which cannot be told from outside.
    pub(crate) fn taken_in(&self, pid: u32) -> impl Iterator<Item = &Stat> {
        let ancestors = self.ancestors(pid);
        let children = ancestors.iter().flat_map(|parent| self.by_parent.get(parent).into_iter().flatten());
        let indices: Vec<usize> = children.copied().collect();
        let stats = indices.into_iter().map(|index| &self.stats[index]);
        stats.filter(move |stat| !ancestors.contains(&stat.pid))
    }

    /// Says who bears which mark.
    pub(crate) fn set_marked(&mut self, marked: Vec<(TreeMark, u32)>) {
        self.by_mark.clear();
        for (mark, pid) in marked {
            let index = self.stats.binary_search_by_key(&pid, |stat| stat.pid);
            self.by_mark.entry(mark).or_default().extend(index);
        }
    }

    /// The processes of the session, orphans that bear the mark, `escaped` ones that still live, and all their descendants;
    /// zombies too.
    pub(crate) fn members(
        &self,
        session: u32,
        mark: Option<&TreeMark>,
        escaped: &HashSet<(u32, u64)>,
    ) -> Vec<Stat> {
        let mut queue: Vec<usize> = self.by_session.get(&session).cloned().unwrap_or_default();
        queue.extend(mark.and_then(|mark| self.by_mark.get(mark)).into_iter().flatten());
        for &(pid, start) in escaped {
            let found = self.stats.binary_search_by_key(&pid, |stat| stat.pid);
            queue.extend(found.ok().filter(|&index| self.stats[index].start == start));
        }
        queue.sort_unstable();
        queue.dedup();
        let mut seen: HashSet<usize> = queue.iter().copied().collect();
        let mut next = 0;
        while let Some(&index) = queue.get(next) {
            next += 1;
            for &child in self.by_parent.get(&self.stats[index].pid).into_iter().flatten() {
                if seen.insert(child) {
                    queue.push(child);
                }
            }
        }
        queue.into_iter().map(|index| self.stats[index]).collect()
    }
}
