//! Whose rights a repository is read with.
//!
//! Where the server is root, what other users have written is read with their rights: a configuration that includes
//! `/etc/shadow`, or an object file that is a link to it, is then an error like any other, and quotes nothing.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pmesh_threads::{NoThread, PoolLimits, Stop, Threads, Unanswered};

use super::{
    account::User,
    ids,
    opened::Rights,
    owner::{self, OwnedPlaces},
};
use crate::{Cancel, VcsError};

/// The bounds: reads take less than a millisecond, and what is slow waits for one disk.
pub(super) const LIMITS: PoolLimits = PoolLimits::new(4, 64);

/// How long an owner's account and groups are remembered before they are asked for again.
const KNOWN_FOR: Duration = Duration::from_mins(1);

/// The threads that read one repository: those of the server, and those of the owner if that is another.
#[derive(Debug)]
pub(super) struct Readers {
    own: Threads,
    owners: Mutex<Option<KnownOwner>>,
}

#[derive(Clone, Debug)]
struct KnownOwner {
    uid: u32,
    /// The group of what the owner has.
    gid: u32,
    asked: Instant,
    threads: Owners,
}

/// Threads that open files as a user, whose ids they take at their start for good.
#[derive(Clone, Debug)]
struct Owners {
    user: User,
    threads: Threads,
}

/// What the first look has led to.
enum First<T, J> {
    Done(T),
    /// It is another user's, who is known already or was asked for.
    Anothers(Whose, J),
}

enum Whose {
    Known(Owners),
    Asked { uid: u32, gid: u32, user: User },
}

impl Readers {
    /// Starts the first thread. `root` is where the repository is, or is looked for.
    pub(super) fn start(root: &Path) -> Result<Self, VcsError> {
        let own = Threads::start("git-read", LIMITS).map_err(|error| no_thread(root, error))?;
        Ok(Self { own, owners: Mutex::new(None) })
    }

    /// Runs `job` with the rights of whoever owns the repository at `root`, within `limit`.
    pub(super) fn run<T: Send + 'static>(
        &self,
        root: &Path,
        limit: Duration,
        cancel: &Cancel,
        job: impl FnOnce(&Rights, &Stop) -> Result<T, VcsError> + Send + 'static,
    ) -> Result<T, VcsError> {
        if cancel.is_cancelled() {
            return Err(VcsError::Cancelled);
        }
        let answered =
            |answer: Result<_, Unanswered>| answer.unwrap_or_else(|why| Err(error(root, limit, why)));
        if !rustix::process::geteuid().is_root() {
            return answered(run(&self.own, limit, cancel, move |stop| job(&Rights::Servers, stop)));
        }
        let (place, known) = (root.to_owned(), self.owners.lock().clone());
        let first = run(&self.own, limit, cancel, move |stop| {
            let look = OwnedPlaces::at(&place)?;
            let (uid, gid) = owner::read_as(&look.places);
            if uid == 0 {
                return job(&Rights::Servers, stop).map(First::Done);
            }
            let known = known
                .filter(|known| (known.uid, known.gid) == (uid, gid) && known.asked.elapsed() < KNOWN_FOR);
            let whose = match known {
                Some(known) => Whose::Known(known.threads),
                None => Whose::Asked { uid, gid, user: User::of(uid, gid) },
            };
            Ok(First::Anothers(whose, job))
        });
        match first.unwrap_or_else(|why| Err(error(root, limit, why)))? {
            First::Done(answer) => Ok(answer),
            First::Anothers(whose, job) => {
                let owners = match whose {
                    Whose::Known(owners) => owners,
                    Whose::Asked { uid, gid, user } => {
                        self.threads_of(uid, gid, user).map_err(|error| no_thread(root, error))?
                    }
                };
                let account = owners.user.account.as_ref();
                let rights =
                    Rights::Owners { config: account.map(|account| account.home.join(".gitconfig")) };
                answered(run(&owners.threads, limit, cancel, move |stop| job(&rights, stop)))
            }
        }
    }

    /// Runs `job` with the server's own rights, within `limit`.
    pub(super) fn run_as_server<T: Send + 'static>(
        &self,
        root: &Path,
        limit: Duration,
        cancel: &Cancel,
        job: impl FnOnce(&Stop) -> Result<T, VcsError> + Send + 'static,
    ) -> Result<T, VcsError> {
        run(&self.own, limit, cancel, job).unwrap_or_else(|why| Err(error(root, limit, why)))
    }

    /// The threads of an owner: those that are there, or new ones where it is another owner or other groups.
    fn threads_of(&self, uid: u32, gid: u32, user: User) -> Result<Owners, NoThread> {
        let mut known = self.owners.lock();
        let same = known.take().map(|known| known.threads).filter(|owners| owners.user == user);
        let threads = match same {
            Some(threads) => threads,
            None => Owners::start(format!("git-{uid}"), user)?,
        };
        *known = Some(KnownOwner { uid, gid, asked: Instant::now(), threads: threads.clone() });
        Ok(threads)
    }
}

impl Owners {
    fn start(name: String, user: User) -> Result<Self, NoThread> {
        // Taking the ids must change nothing for the process.
        let leaves_core_files = ids::leaves_core_files();
        let taken = user.clone();
        let at_start = Arc::new(move || ids::open_files_as(&taken, leaves_core_files));
        Ok(Self { user, threads: Threads::start_with(name, LIMITS, at_start)? })
    }
}

/// Has `job` done on one of the threads and waits for its answer, as long as `limit`.
fn run<T: Send + 'static>(
    threads: &Threads,
    limit: Duration,
    cancel: &Cancel,
    job: impl FnOnce(&Stop) -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let waiting = threads.begin(limit, job)?;
    let canceller = waiting.canceller();
    let _registered = cancel.on_cancel(move || canceller.cancel());
    waiting.wait()
}

fn error(root: &Path, limit: Duration, why: Unanswered) -> VcsError {
    let root = root.to_owned();
    match why {
        Unanswered::TimedOut { .. } | Unanswered::Stuck { .. } => VcsError::Timeout { root, after: limit },
        Unanswered::Busy { .. } => VcsError::Busy { root },
        Unanswered::NoThread(error) => no_thread(&root, error),
        Unanswered::Panicked { message } => VcsError::Defect { message },
        Unanswered::Cancelled => VcsError::Cancelled,
    }
}

fn no_thread(root: &Path, error: NoThread) -> VcsError {
    VcsError::NoThread { root: root.to_owned(), source: error.source }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    #[test]
    fn the_threads_of_another_user_read_what_that_user_may_and_no_other_thread_does() {
        if !rustix::process::geteuid().is_root() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
            eprintln!("skipped: only root can read as somebody else");
            return;
        }
        let threads = Owners::start("git-nobody".to_owned(), User::of(65534, 65534)).unwrap().threads;
        let read = |path: &'static str| {
            run(&threads, LONG, &Cancel::new(), move |_| std::fs::read(path).map_err(|error| error.kind()))
        };
        assert_eq!(read("/etc/shadow").unwrap(), Err(io::ErrorKind::PermissionDenied));
        assert!(read("/etc/passwd").unwrap().is_ok());
        // A thread started by one of them inherits its ids.
        let inherited = run(&threads, LONG, &Cancel::new(), |_| {
            std::thread::spawn(|| std::fs::read("/etc/shadow").is_err()).join().unwrap()
        });
        assert!(inherited.unwrap());
        assert!(std::fs::read("/etc/shadow").is_ok(), "this thread is root's");
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, rustix::process::DumpableBehavior::Dumpable, "core files are as before");
    }

    #[test]
    fn four_threads_that_stand_still_are_replaced_four_times_and_then_a_read_is_out_of_time_at_once() {
        let readers = Readers::start(Path::new("/repo")).unwrap();
        let (standing, stand) = std::sync::mpsc::channel::<()>();
        let stand = Arc::new(Mutex::new(stand));
        let begun = Arc::new(Mutex::new(0));
        let short = Duration::from_millis(50);
        for _ in 0..100 {
            if *begun.lock() == 8 {
                break;
            }
            let (stand, begun) = (Arc::clone(&stand), Arc::clone(&begun));
            let answer = readers.run_as_server(Path::new("/repo"), short, &Cancel::new(), move |_| {
                *begun.lock() += 1;
                // All wait: one for the end of the test, the others for that one.
                let _ended = stand.lock().recv();
                Ok(())
            });
            assert!(matches!(answer, Err(VcsError::Timeout { after, .. }) if after == short), "{answer:?}");
        }
        assert_eq!(*begun.lock(), 8);
        let ninth = readers.run_as_server(Path::new("/repo"), LONG, &Cancel::new(), |_| Ok(()));
        assert!(matches!(ninth, Err(VcsError::Timeout { .. })), "{ninth:?}");
        drop(standing);
        // One of them comes back.
        let refused = |answer: &Result<(), VcsError>| matches!(answer, Err(VcsError::Timeout { .. }));
        while refused(&readers.run_as_server(Path::new("/repo"), LONG, &Cancel::new(), |_| Ok(()))) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_question_that_is_cancelled_is_told() {
        let readers = Readers::start(Path::new("/")).unwrap();
        let cancel = Cancel::new();
        cancel.cancel();
        let answer = run(&readers.own, LONG, &cancel, |stop| {
            while !stop.is_cancelled() {
                std::thread::yield_now();
            }
        });
        // The job may have ended before it was looked at whether anybody still waits.
        assert!(matches!(answer, Err(Unanswered::Cancelled) | Ok(())), "{answer:?}");
    }
}
