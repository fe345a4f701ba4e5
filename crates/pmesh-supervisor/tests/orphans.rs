//! Orphans that come to a process which takes them in: who reaps them, and when.
//!
//! In a process of its own, for that it takes them in holds for all of it.

use std::{collections::BTreeMap, path::PathBuf};

use pmesh_supervisor::{Launch, OsSpawner, Signal, Spawned, Spawner};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, set_child_subreaper, waitid},
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Starts a shell that loses a child, which ends with code 7 a moment after its parent. Answers with
/// the orphan's pid when it has ended, and is nobody's who waits.
async fn with_ended_orphan() -> (Spawned, Pid) {
    let script = "(sh -c 'sleep 0.1; exit 7' & echo $!); exec sleep 1000";
    let launch = Launch::new("/bin/sh", PathBuf::from("/")).with(|launch| {
        launch.arguments = vec!["-c".into(), script.into()];
        launch.env = BTreeMap::new();
    });
    set_child_subreaper(Some(getpid())).expect("it may");
    let mut spawned =
        OsSpawner::new(pmesh_supervisor::testing::work_threads().proc).spawn(&launch).expect("it starts");
    let mut line = String::new();
    BufReader::new(&mut spawned.output).read_line(&mut line).await.expect("it writes");
    let pid = Pid::from_raw(line.trim().parse().expect("it is a number")).expect("it is no zero");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped");
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).expect("it ends");
    (spawned, pid)
}

/// How an orphan that is still there has ended; it stays there.
fn status(pid: Pid) -> Result<Option<i32>, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(pid), options)?.and_then(|status| status.exit_status()))
}

#[tokio::test]
async fn an_orphan_is_reaped_with_its_tree_and_not_because_somebody_looks() {
    let (spawned, orphan) = with_ended_orphan().await;
    let tree = spawned.tree;
    assert_eq!(tree.pids(), [tree.leader()], "who has ended is no member");
    tree.signal(Signal::Terminate);
    spawned.exit.await;
    assert_eq!(tree.pids(), [] as [u32; 0]);
    assert_eq!(status(orphan), Ok(Some(7)), "its status is there for whoever waits for it");
    tree.ended().await;
    assert_eq!(status(orphan), Err(Errno::CHILD), "and does not stay for ever");
}
