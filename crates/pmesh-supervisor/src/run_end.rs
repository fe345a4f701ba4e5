//! What is to be told of how a run, or all runs of a service, ended.

use crate::{Survivor, saved::saved, survivor};

/// How a run ended. Nothing of it is there any more, but for its [`survivors`](Self::survivors).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunEnd {
    /// What a person may want to know, sentence by sentence: who did not end in its grace.
    pub notes: Vec<String>,
    /// Processes that SIGKILL has not ended. They are still waited for.
    pub survivors: Vec<Survivor>,
}

saved!(struct RunEnd { notes, survivors });

impl RunEnd {
    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Who has outlived SIGKILL, and what helps.
    pub fn outlives(&self) -> Option<String> {
        survivor::sentence(&self.survivors)
    }

    /// All of it in words, if there is anything to tell.
    pub fn remark(&self) -> Option<String> {
        let told: Vec<String> = self.notes.iter().cloned().chain(self.outlives()).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// How the stop of a service ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopEnd {
    /// Whether the service had not been stopped before.
    pub was_up: bool,
    /// How what ran of it ended.
    pub end: RunEnd,
}
