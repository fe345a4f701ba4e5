//! Reads of the repository, made once for all who ask at a time.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;
use pmesh_vcs::VcsError;

use crate::Repository;

type ReadAnswer = Result<Repository, Arc<VcsError>>;

/// Whoever asks before a read has begun shares it, so that each answer is of a moment after its question. However many ask,
/// at most one read runs and one waits.
#[derive(Default)]
pub(crate) struct RepositoryReads(Mutex<Option<NewestRead>>);

/// The newest read. It is held by those who wait for it alone, and ends with them.
struct NewestRead {
    has_begun: Arc<AtomicBool>,
    read: WeakShared<BoxFuture<'static, ReadAnswer>>,
}

impl RepositoryReads {
    /// What `read` answers, or another one that begins after this call. Cancel-safe: when the last who waits for a read is
    /// gone, it is dropped.
    pub(crate) fn ask(
        &self,
        read: impl Future<Output = Result<Repository, VcsError>> + Send + 'static,
    ) -> Shared<BoxFuture<'static, ReadAnswer>> {
        let mut newest = self.0.lock();
        let before = newest.as_ref().and_then(|asked| asked.read.upgrade());
        if let Some((asked, waiting)) = newest.as_ref().zip(before.clone())
            && !asked.has_begun.load(Ordering::Acquire)
        {
            return waiting;
        }
        let has_begun = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&has_begun);
        let read = async move {
            if let Some(before) = before {
                drop(before.await);
            }
            begun.store(true, Ordering::Release);
            read.await.map_err(Arc::new)
        };
        let read = read.boxed().shared();
        let weak = read.downgrade().expect("it was not polled yet");
        *newest = Some(NewestRead { has_begun, read: weak });
        read
    }
}

impl fmt::Debug for RepositoryReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryReads").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use pmesh_vcs::{Vcs, testing::FakeVcs};
    use tokio::sync::oneshot;

    use super::*;

    fn repository() -> Repository {
        Repository {
            system: "git",
            head: FakeVcs::at("a1").head().unwrap(),
            remote: None,
            url: None,
            deployed: None,
            distance: None,
        }
    }

    #[tokio::test]
    async fn however_many_ask_one_read_runs_and_one_waits_that_begins_after_all_of_them() {
        let (reads, made) = (RepositoryReads::default(), Arc::new(AtomicUsize::new(0)));
        let (go, may_go) = oneshot::channel::<()>();
        let count = Arc::clone(&made);
        let first = reads.ask(async move {
            count.fetch_add(1, Ordering::Relaxed);
            may_go.await.map_err(|_| VcsError::Cancelled)?;
            Ok(repository())
        });
        assert!(first.clone().now_or_never().is_none());
        let others: Vec<_> = (0..100)
            .map(|_| {
                let count = Arc::clone(&made);
                reads.ask(async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    Ok(repository())
                })
            })
            .collect();
        assert!(others[99].clone().now_or_never().is_none(), "the first has not ended");
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), repository());
        for other in others {
            assert_eq!(other.await.unwrap(), repository());
        }
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn when_the_last_who_waits_is_gone_the_read_is_dropped_and_the_next_begins_anew() {
        let reads = RepositoryReads::default();
        let (_held, gone) = (oneshot::channel::<()>(), oneshot::channel::<()>());
        let (held, is_dropped) = gone;
        let first = reads.ask(async move {
            let _held = held;
            std::future::pending().await
        });
        let second = first.clone();
        assert!(first.clone().now_or_never().is_none());
        drop(first);
        assert!(second.clone().now_or_never().is_none());
        drop(second);
        assert!(is_dropped.await.is_err());
        assert_eq!(reads.ask(async { Ok(repository()) }).await.unwrap(), repository());
    }
}
