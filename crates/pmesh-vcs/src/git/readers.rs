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

use super::{
    account::User,
    opened::Rights,
    owner::{self, OwnedPlaces},
    threads::{Stop, Threads, Unanswered},
};
use crate::{Cancel, VcsError};

/// How long it is believed who an owner is. Afterwards accounts and groups are asked anew.
const KNOWN_FOR: Duration = Duration::from_mins(1);

/// The threads that read one repository: those of the server, and those of the owner if that is another.
#[derive(Debug)]
pub(super) struct Readers {
    own: Threads,
    owners: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    uid: u32,
    /// The group of what the owner has.
    gid: u32,
    asked: Instant,
    threads: Arc<Threads>,
}

/// What the first look has led to.
enum First<T, J> {
    Done(T),
    /// It is another user's, who is known already or was asked for.
    Anothers(Whose, J),
}

enum Whose {
    Known(Arc<Threads>),
    Asked { uid: u32, gid: u32, user: User },
}

impl Readers {
    /// No thread is started before the first read.
    pub(super) fn new() -> Self {
        Self { own: Threads::new("git-read".to_owned(), None), owners: Mutex::new(None) }
    }

    /// Runs `job` with the rights of whoever owns the repository at `root`, within `limit`.
    pub(super) fn run<T: Send + 'static>(
        &self,
        root: &Path,
        limit: Duration,
        cancel: &Cancel,
        job: impl FnOnce(&Rights, &Stop) -> Result<T, VcsError> + Send + 'static,
    ) -> Result<T, VcsError> {
        let answered =
            |answer: Result<_, Unanswered>| answer.unwrap_or_else(|why| Err(error(root, limit, why)));
        if !rustix::process::geteuid().is_root() {
            return answered(self.own.run(limit, cancel, move |stop| job(&Rights::Servers, stop)));
        }
        let (place, known) = (root.to_owned(), self.owners.lock().clone());
        let first = self.own.run(limit, cancel, move |stop| {
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
                let threads = match whose {
                    Whose::Known(threads) => threads,
                    Whose::Asked { uid, gid, user } => self.threads_of(uid, gid, user),
                };
                let account = threads.user().and_then(|user| user.account.as_ref());
                let rights =
                    Rights::Owners { config: account.map(|account| account.home.join(".gitconfig")) };
                answered(threads.run(limit, cancel, move |stop| job(&rights, stop)))
            }
        }
    }

    /// The threads of an owner: those that are there, or new ones where it is another owner or other groups.
    fn threads_of(&self, uid: u32, gid: u32, user: User) -> Arc<Threads> {
        let mut owners = self.owners.lock();
        let same = owners.take().map(|known| known.threads).filter(|threads| threads.user() == Some(&user));
        let threads = same.unwrap_or_else(|| Arc::new(Threads::new(format!("git-{uid}"), Some(user))));
        *owners = Some(Known { uid, gid, asked: Instant::now(), threads: Arc::clone(&threads) });
        threads
    }
}

fn error(root: &Path, limit: Duration, why: Unanswered) -> VcsError {
    match why {
        Unanswered::TimedOut => VcsError::Timeout { root: root.to_owned(), after: limit },
        Unanswered::Cancelled => VcsError::Cancelled,
        Unanswered::NoThread(source) => VcsError::NoThread { root: root.to_owned(), source },
        Unanswered::Panicked(message) => VcsError::Defect { message },
    }
}
