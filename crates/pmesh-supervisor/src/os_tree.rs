//! The processes that came from one spawn: the first of them, whose end is reported, and those that belong to
//! it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{Containment, ProcessTree, Signal, Survivor, leader::Leader, membership::Membership, proc::Proc};

/// A tree of this machine's processes.
///
/// Its leader is not reaped before the tree is empty, because its pid stands for the tree.
pub(crate) struct OsTree {
    leader: Arc<Leader>,
    members: Box<dyn Membership>,
}

impl OsTree {
    pub(crate) fn new(leader: Arc<Leader>, members: Box<dyn Membership>) -> Self {
        Self { leader, members }
    }
}

impl ProcessTree for OsTree {
    fn leader(&self) -> u32 {
        self.leader.number()
    }

    fn pids(&self) -> Vec<u32> {
        if self.leader.is_released() { Vec::new() } else { self.members.pids() }
    }

    fn signal(&self, signal: Signal) {
        if !self.leader.is_released() {
            self.members.signal(signal);
        }
    }

    fn survivors(&self) -> Vec<Survivor> {
        /// How many are looked at: messages name fewer than that.
        const SEEN: usize = 64;
        let pids = self.pids();
        match Proc::open() {
            Ok(mut proc) => pids.iter().take(SEEN).filter_map(|&pid| proc.survivor(pid)).collect(),
            // Only the pids are known.
            Err(_) => pids.iter().take(SEEN).map(|&pid| Survivor { pid, ..Survivor::default() }).collect(),
        }
    }

    fn containment(&self) -> Containment {
        self.members.containment()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if !self.leader.is_released() {
                self.members.emptied().await;
                self.leader.release();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{FutureExt, future::BoxFuture};
    use parking_lot::Mutex;
    use tokio::sync::watch;

    use super::OsTree;
    use crate::{Containment, Exit, ProcessTree, Signal, leader::Leader, membership::Membership};

    /// Members as a test sets them.
    #[derive(Clone, Default)]
    struct Scripted {
        pids: watch::Sender<Vec<u32>>,
        signals: Arc<Mutex<Vec<Signal>>>,
    }

    impl Membership for Scripted {
        fn pids(&self) -> Vec<u32> {
            self.pids.borrow().clone()
        }

        fn signal(&self, signal: Signal) {
            self.signals.lock().push(signal);
        }

        fn containment(&self) -> Containment {
            Containment::Mark
        }

        fn emptied(&self) -> BoxFuture<'_, ()> {
            let mut pids = self.pids.subscribe();
            Box::pin(async move { drop(pids.wait_for(Vec::is_empty).await) })
        }
    }

    fn is_there(pid: u32) -> bool {
        std::fs::exists(format!("/proc/{pid}")).expect("/proc can be read")
    }

    #[tokio::test]
    async fn a_leader_that_has_ended_is_kept_until_nobody_belongs_to_it_and_then_nobody_is_signalled() {
        let child = tokio::process::Command::new("true").spawn().expect("it starts");
        let leader = Arc::new(Leader::new(child).expect("it can be watched"));
        let members = Scripted::default();
        members.pids.send_replace(vec![7, 8]);
        let tree = OsTree::new(Arc::clone(&leader), Box::new(members.clone()));
        assert_eq!(leader.exited().await, Exit::Code(0));
        assert!(tree.ended().now_or_never().is_none());
        assert!(is_there(tree.leader()), "its number is not given to anybody else");
        assert_eq!(tree.pids(), [7, 8]);
        tree.signal(Signal::Terminate);

        members.pids.send_replace(Vec::new());
        tree.ended().await;
        assert!(!is_there(tree.leader()));
        members.pids.send_replace(vec![9]);
        tree.signal(Signal::Kill);
        assert_eq!((tree.pids(), members.signals.lock().clone()), (vec![], vec![Signal::Terminate]));
        tree.ended().await;
    }
}
