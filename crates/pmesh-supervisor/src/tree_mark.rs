//! What tells the processes of one tree from all others when neither session nor parent does any more.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The mark of one tree: its first process has it in its environment, and what that starts inherits it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TreeMark(Arc<str>);

impl TreeMark {
    /// The variable of the environment that has it.
    pub(crate) const VARIABLE: &str = "PM3_TREE";

    /// The mark that a process bears.
    pub(crate) fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The value of the variable.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Gives out marks that no other tree has, also none of another server.
#[derive(Debug)]
pub(crate) struct TreeMarks {
    prefix: u64,
    given: AtomicU64,
}

impl TreeMarks {
    pub(crate) fn new() -> Self {
        // The keys of the hasher are random for each process, and others each time.
        Self { prefix: RandomState::new().hash_one(std::process::id()), given: AtomicU64::new(0) }
    }

    pub(crate) fn give(&self) -> TreeMark {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        TreeMark(format!("{:016x}-{number}", self.prefix).into())
    }
}
