//! The wish that something under way ends.

use std::sync::Arc;

use tokio::sync::watch;

use crate::ending::becomes;

/// Whether something is not wanted any more. Clones share one state; a cancellation is never taken back.
#[derive(Clone, Debug)]
pub struct CancelToken(Arc<watch::Sender<bool>>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Cancels; a second call changes nothing.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is cancelled, or at once if it was. Cancel-safe.
    pub async fn cancelled(&self) {
        becomes(&mut self.0.subscribe(), |&is_cancelled| is_cancelled).await;
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::CancelToken;

    #[tokio::test]
    async fn who_waits_hears_of_it_once_and_for_all() {
        let token = CancelToken::new();
        let other = token.clone();
        let mut waiting = Box::pin(other.cancelled());
        assert!(!token.is_cancelled() && (&mut waiting).now_or_never().is_none());
        token.cancel();
        waiting.await;
        other.cancelled().await;
        assert!(other.is_cancelled());
    }
}
