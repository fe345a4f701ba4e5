//! The wishes that operations go back.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pmesh_supervisor::CancelToken;

use crate::OperationId;

/// A token for each operation that runs, or is about to. Bounded by their number.
#[derive(Debug, Default)]
pub(crate) struct Cancellations {
    tokens: Mutex<BTreeMap<OperationId, CancelToken>>,
}

impl Cancellations {
    /// That of an operation; whoever asks first makes it.
    pub(crate) fn of(&self, id: OperationId) -> CancelToken {
        self.tokens.lock().entry(id).or_default().clone()
    }

    /// Cancels all that there are.
    pub(crate) fn cancel_all(&self) {
        for token in self.tokens.lock().values() {
            token.cancel();
        }
    }

    /// The operation has ended; whether it was to go back.
    pub(crate) fn forget(&self, id: OperationId) -> bool {
        self.tokens.lock().remove(&id).is_some_and(|token| token.is_cancelled())
    }
}
