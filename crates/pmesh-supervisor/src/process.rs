//! The seam to the operating system: starting a process tree, signalling it, learning of its end.

use std::{collections::BTreeMap, ffi::OsString, fmt, io, path::PathBuf};

use futures_util::future::BoxFuture;
use tokio::io::AsyncRead;

use crate::{Stdin, Survivor, UserAccount, saved::saved};

/// Starts process trees. The operating system's is `OsSpawner`; a second process
/// may implement it one day, so nothing here assumes that the tree's processes are our children.
pub trait Spawner: Send + Sync + 'static {
    /// Starts a process in a session and process group of its own.
    ///
    /// Blocks for fork and exec, a few milliseconds at most. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] with the system's own reason; nothing runs then.
    fn spawn(&self, launch: &Launch) -> Result<Spawned, SpawnError>;

    /// The most that a launch's [`nofile`](Launch::nofile) can be; none where that is not limited.
    fn nofile_limit(&self) -> Option<u64> {
        None
    }
}

/// Everything that a process is started with. Of its environment `Debug` shows the names alone.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// A path, or a name that is looked up in the `PATH` of `env`.
    pub program: OsString,
    /// The words behind the program's.
    pub arguments: Vec<OsString>,
    /// The folder it starts in; absolute.
    pub folder: PathBuf,
    /// Its whole environment; nothing is inherited beside it.
    pub env: BTreeMap<OsString, OsString>,
    /// The soft limit of open descriptors, cut to the hard one; none: the server's own.
    pub nofile: Option<u64>,
    /// Who it runs as; none: whoever this process runs as. Only root can start the processes of others.
    pub account: Option<UserAccount>,
    /// What it reads.
    pub stdin: Stdin,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, arguments, folder, env, nofile, account, stdin } = self;
        f.debug_struct("Launch")
            .field("program", program)
            .field("arguments", arguments)
            .field("folder", folder)
            .field("env", &env.keys())
            .field("nofile", nofile)
            .field("account", account)
            .field("stdin", stdin)
            .finish()
    }
}

impl Launch {
    /// This program in this absolute folder, with no argument and nothing in its environment; it reads nothing.
    pub fn new(program: impl Into<OsString>, folder: PathBuf) -> Self {
        let (arguments, env) = (Vec::new(), BTreeMap::new());
        Self {
            program: program.into(),
            arguments,
            folder,
            env,
            nofile: None,
            account: None,
            stdin: Stdin::Null,
        }
    }

    /// The same with something changed: `launch.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A process tree that was started.
#[non_exhaustive]
pub struct Spawned {
    /// The tree, to look at and to signal.
    pub tree: Box<dyn ProcessTree>,
    /// Resolves when the leader has ended, whatever still holds its output. Dropping it does not
    /// leave a zombie behind.
    pub exit: BoxFuture<'static, Exit>,
    /// What the tree writes to its standard output, in the order of writing, and to its standard error if that has no pipe of its
    /// own. Ends when nothing holds the pipe any more.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// What it writes to its standard error, in the same way.
    pub errors: Option<Box<dyn AsyncRead + Send + Unpin>>,
}

impl Spawned {
    /// What a [`Spawner`] answers with.
    pub fn new(
        tree: Box<dyn ProcessTree>,
        exit: BoxFuture<'static, Exit>,
        output: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Self {
        Self { tree, exit, output, errors: None }
    }

    /// The same with a pipe of its own for the standard error.
    #[must_use]
    pub fn with_errors(self, errors: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { errors: Some(errors), ..self }
    }
}

impl fmt::Debug for Spawned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").field("leader", &self.tree.leader()).finish_non_exhaustive()
    }
}

/// The processes that came from one spawn.
pub trait ProcessTree: Send + Sync + 'static {
    /// The first process's id.
    fn leader(&self) -> u32;

    /// The processes of the tree that live now, the leader first if it does.
    fn pids(&self) -> Vec<u32>;

    /// Sends a signal to every process of the tree; those that are gone are left out.
    fn signal(&self, signal: Signal);

    /// The processes of the tree that live now, for who wonders why they do. Blocks for a moment.
    fn survivors(&self) -> Vec<Survivor>;

    /// Resolves when no process of the tree lives. Cancel-safe; may be awaited again.
    fn ended(&self) -> BoxFuture<'_, ()>;

    /// How it is known which processes belong to the tree.
    fn containment(&self) -> Containment {
        Containment::Mark
    }
}

/// How it is known which processes belong to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Containment {
    /// By a control group that they were born in: nobody gets out of it.
    Cgroup,
    /// By session, by descent as far as it was seen, and by a mark in the environment.
    Mark,
}

impl Containment {
    /// That of several trees: what is true of all of them.
    pub fn of_all(trees: impl IntoIterator<Item = Self>) -> Option<Self> {
        trees.into_iter().reduce(|one, other| if one == other { one } else { Self::Mark })
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Mark => "mark",
        }
    }
}

/// The two signals that a supervisor needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM (and SIGCONT behind it, so that a stopped process gets it): please end.
    Terminate,
    /// SIGKILL: end.
    Kill,
}

/// How a process ended (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It called exit with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It ended, and nothing could be learnt of how.
    Unknown,
}

saved!(enum Exit { 0 Code(value), 1 Signal(value), 2 Unknown });

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match signal_name(number) {
                Some(name) => f.write_str(name),
                None => write!(f, "signal {number}"),
            },
            Self::Unknown => f.write_str("an exit that nobody saw"),
        }
    }
}

/// Names of signal(7) for x86-64 and aarch64.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program:?} in {}", folder.display())]
pub struct SpawnError {
    /// The program that was asked for.
    pub program: OsString,
    /// The folder it was to start in.
    pub folder: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::{
        Containment::{self, *},
        Launch,
    };

    #[test]
    fn what_a_launch_has_in_its_environment_is_not_shown() {
        let launch = Launch::new("a", "/b".into()).with(|launch| {
            launch.env.insert("TOKEN".into(), "hunter2".into());
        });
        let shown = format!("{launch:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn trees_are_known_together_as_well_as_the_least_known_of_them() {
        for (trees, all) in [
            (vec![], None),
            (vec![Cgroup, Cgroup], Some(Cgroup)),
            (vec![Cgroup, Mark], Some(Mark)),
            (vec![Mark, Mark, Cgroup], Some(Mark)),
        ] {
            assert_eq!(Containment::of_all(trees.clone()), all, "{trees:?}");
        }
    }
}
