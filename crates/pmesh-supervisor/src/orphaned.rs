//! Which tree a process belongs to that has lost its parent: the mark in its environment says it.

use std::{collections::HashMap, io, thread::sleep, time::Duration};

use crate::{
    proc::{Proc, Stat},
    process_table::ProcessTable,
    tree_mark::TreeMark,
};

/// How often an environment is read that is empty, and the pause between: while a process executes a program (execve(2))
/// it has none for some microseconds.
const LOOKS: usize = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// The marks of processes that an ancestor of this process has taken in, or it itself. An environment is read once: what it was
/// at the process's start, the process may have written over since.
#[derive(Debug, Default)]
pub(crate) struct Orphaned {
    /// By pid and start time; none for who bears no mark, or one that is not for our eyes.
    seen: HashMap<(u32, u64), Option<TreeMark>>,
}

impl Orphaned {
    /// Adds to `table` who of its orphans bears which mark.
    ///
    /// # Errors
    ///
    /// What says nothing about a process, such as too many open files.
    pub(crate) fn find(&mut self, table: &mut ProcessTable, proc: &mut Proc) -> io::Result<()> {
        let mut seen = HashMap::with_capacity(self.seen.len());
        let mut marked = Vec::new();
        for stat in table.taken_in(std::process::id()) {
            let key = (stat.pid, stat.start);
            let mark = match self.seen.remove(&key) {
                Some(mark) => mark,
                None => mark(proc, stat)?,
            };
            marked.extend(mark.clone().map(|mark| (mark, stat.pid)));
            seen.insert(key, mark);
        }
        self.seen = seen;
        table.set_marked(marked);
        Ok(())
    }
}

fn mark(proc: &mut Proc, stat: &Stat) -> io::Result<Option<TreeMark>> {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(LOOK_PAUSE);
        }
        if let Some([mark]) = proc.variables(stat.pid, [TreeMark::VARIABLE])? {
            return Ok(mark.as_deref().map(TreeMark::new));
        }
        if !stat.alive {
            break;
        }
    }
    Ok(None)
}
