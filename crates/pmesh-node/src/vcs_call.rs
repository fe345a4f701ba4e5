//! A call of the repository until its end, also where that is the server's: nothing that stands still there keeps the server
//! from ending.

use std::{path::PathBuf, pin::pin, time::Duration};

use pmesh_supervisor::CancelToken;
use pmesh_vcs::{Cancel, VcsError};
use tokio::time::sleep;

/// How long what puts the work tree back may take when the server is told to end.
pub(crate) const PUT_BACK_LIMIT: Duration = Duration::from_secs(30);

/// How long a call that was cancelled is waited for: what was half done is put back within [`PUT_BACK_LIMIT`], and programs have
/// some seconds before it and after it.
const CANCELLED_LIMIT: Duration = Duration::from_mins(1);

/// How long a call is waited for when nothing more is.
pub(crate) const HURRIED_LIMIT: Duration = Duration::from_secs(3);

/// What becomes of a repository call when its operation is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// It ends at once, and what it has half done is put back.
    Cut,
    /// It puts the work tree back, and has its time for that.
    Finish,
}

/// Who says that a call is to end.
#[derive(Clone, Debug)]
pub(crate) struct CallEnds<'a> {
    /// The operation is wanted no more.
    pub(crate) cancelled: &'a CancelToken,
    /// Nothing more is waited for.
    pub(crate) hurrying: &'a CancelToken,
    /// The top of the work tree, for the error.
    pub(crate) root: PathBuf,
}

impl CallEnds<'_> {
    /// Waits for `call`, and sets `cancel`, by which the call ends, when it is time. As cancel-safe as `call` is.
    ///
    /// # Errors
    ///
    /// Those of the call; [`VcsError::Timeout`] where it has not ended long after it was to.
    pub(crate) async fn wait<T>(
        self,
        at_end: AtEnd,
        cancel: &Cancel,
        call: impl Future<Output = Result<T, VcsError>>,
    ) -> Result<T, VcsError> {
        let mut call = pin!(call);
        let mut hurried = pin!(async {
            self.hurrying.cancelled().await;
            cancel.hurry();
            sleep(HURRIED_LIMIT).await;
        });
        let mut cut = pin!(async {
            self.cancelled.cancelled().await;
            if at_end == AtEnd::Finish {
                sleep(PUT_BACK_LIMIT).await;
            }
            cancel.cancel();
            sleep(CANCELLED_LIMIT).await;
        });
        let after = tokio::select! {
            biased;
            result = &mut call => return result,
            () = &mut hurried => HURRIED_LIMIT,
            () = &mut cut => CANCELLED_LIMIT,
        };
        Err(VcsError::Timeout { root: self.root, after })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::pending};
    use tokio::time::Instant;

    use super::*;

    struct Tokens {
        cancelled: CancelToken,
        hurrying: CancelToken,
    }

    impl Tokens {
        fn new() -> Self {
            Self { cancelled: CancelToken::new(), hurrying: CancelToken::new() }
        }

        fn ends(&self) -> CallEnds<'_> {
            CallEnds { cancelled: &self.cancelled, hurrying: &self.hurrying, root: PathBuf::from("/srv") }
        }
    }

    /// A call that ends when it is cancelled, or hurried.
    async fn ending(cancel: &Cancel, by_hurry: bool) -> Result<(), VcsError> {
        let (said, heard) = tokio::sync::oneshot::channel();
        let wake = move || said.send(()).expect("it is waited for");
        let _registered = if by_hurry { cancel.on_hurry(wake) } else { cancel.on_cancel(wake) };
        heard.await.expect("it is said");
        Err(VcsError::Cancelled)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_wanted_takes_what_it_takes() {
        let (tokens, cancel) = (Tokens::new(), Cancel::new());
        let call = async {
            sleep(Duration::from_hours(1)).await;
            Ok(7)
        };
        assert_eq!(tokens.ends().wait(AtEnd::Cut, &cancel, call).await.unwrap(), 7);
        assert!(!cancel.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_cut_off_hears_it_at_once_and_one_that_puts_back_has_its_time() {
        for (at_end, after) in [(AtEnd::Cut, Duration::ZERO), (AtEnd::Finish, PUT_BACK_LIMIT)] {
            let (tokens, cancel, begun) = (Tokens::new(), Cancel::new(), Instant::now());
            tokens.cancelled.cancel();
            let end = tokens.ends().wait(at_end, &cancel, ending(&cancel, false)).await;
            assert!(matches!(end, Err(VcsError::Cancelled)), "{at_end:?}");
            assert_eq!(begun.elapsed(), after, "{at_end:?}");
            assert!(!cancel.is_hurried());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_hurry_both_end_at_once() {
        for at_end in [AtEnd::Cut, AtEnd::Finish] {
            let (tokens, cancel, begun) = (Tokens::new(), Cancel::new(), Instant::now());
            let mut waiting = pin!(tokens.ends().wait(at_end, &cancel, ending(&cancel, true)));
            assert!((&mut waiting).now_or_never().is_none());
            tokens.hurrying.cancel();
            assert!(matches!(waiting.await, Err(VcsError::Cancelled)), "{at_end:?}");
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stands_still_is_left() {
        let tokens = Tokens::new();
        tokens.cancelled.cancel();
        let end = tokens.ends().wait::<()>(AtEnd::Cut, &Cancel::new(), pending()).await;
        assert!(matches!(end, Err(VcsError::Timeout { after: CANCELLED_LIMIT, .. })));
        tokens.hurrying.cancel();
        let end = tokens.ends().wait::<()>(AtEnd::Finish, &Cancel::new(), pending()).await;
        assert!(matches!(end, Err(VcsError::Timeout { after: HURRIED_LIMIT, .. })));
    }
}
