//! How commands (of builds, and before a stop) are run to their end, and how that end is hastened.

use std::{pin::pin, sync::Arc};

use futures_util::FutureExt;
use tokio::sync::watch;
use tracing::error;

use crate::{
    Exit, LogSource, LogStream, ProcessTree, ServiceLog, Signal, Spawned, Survivor, Tail, pump_outputs,
    saved::saved,
    survivor::{self, AFTER_KILL},
};

/// What is wanted of work under way. Only ever becomes more urgent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// That it ends by itself, with its result.
    #[default]
    GoOn,
    /// That it ends soon: processes get SIGTERM and their grace.
    End,
    /// That it ends at once: processes are killed.
    Kill,
}

saved!(enum Wish { 0 GoOn, 1 End, 2 Kill });

impl Wish {
    /// Resolves when the wish is at least as urgent as `wish`; never if its sender is gone before.
    /// Cancel-safe.
    pub(crate) async fn becomes(mut wishes: watch::Receiver<Self>, wish: Self) {
        becomes(&mut wishes, |&now| now >= wish).await;
    }
}

/// Resolves when a value is as `wanted` says; never if its sender goes away before. Cancel-safe.
pub(crate) async fn becomes<T>(value: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    // `wait_for` returns a guard that locks the value: it is dropped before the wait below.
    let is_so = value.wait_for(wanted).await.is_ok();
    if !is_so {
        std::future::pending::<()>().await;
    }
}

/// How long output is waited for after the processes that wrote it are gone. It can only be held up then by a
/// process outside of the tree that inherited the pipe, or by a disk that hangs.
pub(crate) const OUTPUT_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs a command until it ends, or until `stop` resolves with a reason, and then ends what is left of its
/// tree as [`end_tree`] does. The output goes into `log` as this stream, the last of it into `tail`.
///
/// What SIGKILL does not end is named in the log, and not waited for any longer.
///
/// Not cancel-safe: dropped early, it kills what runs at once.
pub(crate) async fn run<S>(
    spawned: Spawned,
    (log, stream): (&ServiceLog, LogStream),
    tail: Tail,
    stop: impl Future<Output = S>,
    grace: impl Future<Output = ()>,
) -> Result<Exit, S> {
    let Spawned { tree, exit, output, errors } = spawned;
    let tree = KillOnDrop(tree.into());
    let ends = async {
        let end = tokio::select! {
            exit = exit => Ok(exit),
            reason = stop => Err(reason),
        };
        let survivors = end_tree(&*tree.0, grace).await;
        if let Some(outlives) = survivor::sentence(&survivors) {
            error!("a command has not ended: {outlives}");
        }
        end
    };
    // Beside the wait for the end, because a process that writes to a full pipe ends only when somebody reads
    // it.
    let mut pump = pin!(pump_outputs(log, LogSource { instance: None, stream }, output, errors, &tail));
    let mut ends = pin!(ends);
    tokio::select! {
        end = &mut ends => {
            // Late output is worth a moment, not more.
            drop(tokio::time::timeout(OUTPUT_GRACE, pump).await);
            end
        }
        () = &mut pump => ends.await,
    }
}

/// Sends SIGTERM to what is left of a tree, and SIGKILL when `grace` resolves; returns when the tree is
/// empty, or with what SIGKILL has not ended within 5 s. Sends no SIGTERM if `grace` is over already.
pub(crate) async fn end_tree(tree: &dyn ProcessTree, grace: impl Future<Output = ()>) -> Vec<Survivor> {
    let mut ended = pin!(tree.ended());
    let mut grace = pin!(grace);
    if (&mut ended).now_or_never().is_some() {
        return Vec::new();
    }
    if (&mut grace).now_or_never().is_none() {
        tree.signal(Signal::Terminate);
        tokio::select! {
            () = &mut ended => return Vec::new(),
            () = grace => {}
        }
    }
    tree.signal(Signal::Kill);
    loop {
        tokio::select! {
            () = &mut ended => return Vec::new(),
            () = tokio::time::sleep(AFTER_KILL) => {
                let survivors = tree.survivors();
                if !survivors.is_empty() {
                    return survivors;
                }
            }
        }
    }
}

/// A tree that is killed when this is dropped: so it outlives neither a future that is dropped early nor a
/// task that is aborted or panics. A tree that has ended has nothing left to kill.
pub(crate) struct KillOnDrop(pub(crate) Arc<dyn ProcessTree>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.signal(Signal::Kill);
    }
}
