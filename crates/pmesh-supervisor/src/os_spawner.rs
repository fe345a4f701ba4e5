//! Processes of the operating system. `tree` follows what came from one of them.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pmesh_threads::Threads;
use rustix::{fs::Access, pipe::PipeFlags};
use tokio::{net::unix::pipe, process::Command};
use tracing::warn;

use crate::{
    Launch, NodeCgroups, NodeMark, SpawnError, Spawned, Spawner, Stdin,
    cgroup_members::CgroupMembers,
    leader::Leader,
    membership::Membership,
    os_tree::OsTree,
    process_tables::ProcessTables,
    session_members::SessionMembers,
    shebang::missing_interpreter,
    sys::{self, ChildUser},
    tree_mark::{TreeMark, TreeMarks},
    user_rights,
};

/// Starts processes of this machine, as children of this process.
///
/// Each gets a session of its own, an environment of exactly what the [`Launch`] says, and no open
/// descriptor but 0 to 2. SIGPIPE and the signal mask are as a shell would leave them.
///
/// A tree has the processes of the leader's session, those descendants that left the session but were
/// seen while their parent lived, and those that still have its mark in their environment (`PM3_TREE`, beside what the
/// launch says). A process that leaves the session, loses its parent between two looks *and* clears its environment is lost.
///
/// The leader stays a zombie until its tree is known to be empty or is dropped. So its pid, which is also the
/// id of the process group and the session, cannot be given to another process, and no signal can hit a
/// stranger.
#[derive(Clone, Debug)]
pub struct OsSpawner {
    tables: Arc<ProcessTables>,
    trees: Arc<TreeMarks>,
    mark: Option<NodeMark>,
    cgroups: Option<Arc<NodeCgroups>>,
    /// Whether it was said that a process is in no group.
    has_warned: Arc<AtomicBool>,
}

impl OsSpawner {
    /// A spawner that reads `/proc` on these threads; its clones share one view of the process table.
    pub fn new(proc: Threads) -> Self {
        Self {
            tables: Arc::new(ProcessTables::new(proc)),
            trees: Arc::new(TreeMarks::new()),
            mark: None,
            cgroups: None,
            has_warned: Arc::default(),
        }
    }

    /// The same, and each process has this mark in its environment, by which the next server finds what this one has left
    /// behind.
    #[must_use]
    pub fn marked(self, mark: NodeMark) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// The same, and each tree has a control group of its own below the node's, if there are such: then nothing of it gets away.
    #[must_use]
    pub fn contained(self, cgroups: impl Into<Option<NodeCgroups>>) -> Self {
        Self { cgroups: cgroups.into().map(Arc::new), ..self }
    }

    fn start(&self, launch: &Launch) -> io::Result<Spawned> {
        let program = find_program(launch)?;
        let tree = self.trees.give();
        let contained = self.cgroups.as_ref().map(|cgroups| cgroups.leaf(tree.as_str()));
        let not_contained = |error: &io::Error| {
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                warn!(%error, "a process cannot be put into a control group; such processes are known by session and mark");
            }
        };
        if let Some(Ok((leaf, entry))) = contained.map(|leaf| leaf.inspect_err(&not_contained)) {
            match self.spawn_process(launch, &program, &tree, Some(entry)) {
                Ok((leader, outputs)) => {
                    let members = CgroupMembers::new(Arc::clone(&leader), leaf);
                    return Ok(spawned(leader, Box::new(members), outputs));
                }
                Err(error) => {
                    leaf.remove();
                    // It may be the group that refuses, which an exec cannot tell from its own errors.
                    let without = self.spawn_process(launch, &program, &tree, None)?;
                    not_contained(&error);
                    return Ok(self.in_session(without, tree));
                }
            }
        }
        let started = self.spawn_process(launch, &program, &tree, None)?;
        Ok(self.in_session(started, tree))
    }

    fn in_session(&self, (leader, outputs): (Arc<Leader>, [pipe::Receiver; 2]), tree: TreeMark) -> Spawned {
        let members = SessionMembers::new(Arc::clone(&leader), tree, Arc::clone(&self.tables));
        spawned(leader, Box::new(members), outputs)
    }

    /// Starts the process, in the control group of this `cgroup.procs`.
    fn spawn_process(
        &self,
        launch: &Launch,
        program: &Path,
        tree: &TreeMark,
        entry: Option<OwnedFd>,
    ) -> io::Result<(Arc<Leader>, [pipe::Receiver; 2])> {
        let (output, stdout) = output_pipe()?;
        let (errors, stderr) = output_pipe()?;
        let mut command = Command::new(program);
        command
            .arg0(&launch.program)
            .args(&launch.arguments)
            .current_dir(&launch.folder)
            .env_clear()
            .envs(&launch.env)
            .envs(self.mark.iter().map(|mark| (NodeMark::VARIABLE, mark.as_str())))
            .env(TreeMark::VARIABLE, tree.as_str())
            .stdin(match launch.stdin {
                Stdin::Null => Stdio::null(),
                Stdin::Inherit => Stdio::inherit(),
            })
            .stdout(stdout)
            .stderr(stderr);
        let user =
            launch.account.as_ref().map(|account| ChildUser::new(account, &launch.folder)).transpose()?;
        sys::prepare_child(&mut command, launch.nofile, entry, user);
        let child = command.spawn().map_err(|error| explained(error, program, launch))?;
        Ok((Arc::new(Leader::new(child)?), [output, errors]))
    }
}

/// A pipe for an output of a process: the end that we read, and the one that it writes.
fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, write))
}

fn spawned(leader: Arc<Leader>, members: Box<dyn Membership>, outputs: [pipe::Receiver; 2]) -> Spawned {
    let [output, errors] = outputs;
    let exit = Arc::clone(&leader);
    Spawned {
        tree: Box::new(OsTree::new(leader, members)),
        exit: Box::pin(async move { exit.exited().await }),
        output: Box::new(output),
        errors: Some(Box::new(errors)),
    }
}

impl Spawner for OsSpawner {
    fn spawn(&self, launch: &Launch) -> Result<Spawned, SpawnError> {
        self.start(launch).map_err(|source| SpawnError {
            program: launch.program.clone(),
            folder: launch.folder.clone(),
            source,
        })
    }

    fn nofile_limit(&self) -> Option<u64> {
        sys::hard_nofile()
    }
}

/// The path of a program. A name without a slash is looked up as execvp(3) does, but in the `PATH` of the
/// launch, and before the fork, so that the reason of a failure is exact. Relative paths start at the
/// launch's folder.
fn find_program(launch: &Launch) -> io::Result<PathBuf> {
    let name: &Path = launch.program.as_ref();
    if !launch.folder.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such folder"));
    }
    if launch.program.as_encoded_bytes().contains(&b'/') {
        return Ok(launch.folder.join(name));
    }
    let default = OsString::from("/usr/local/bin:/usr/bin:/bin");
    let path = launch.env.get(OsStr::new("PATH")).unwrap_or(&default);
    let mut refused = None;
    for folder in std::env::split_paths(path) {
        let file = launch.folder.join(folder).join(name);
        if !file.is_file() {
            continue;
        }
        // As who it is to be would look it up: root's own programs are in its PATH, and nobody else's.
        if rustix::fs::access(&file, Access::EXEC_OK).is_ok() && user_rights::may_start(launch, &file) {
            return Ok(file);
        }
        refused.get_or_insert(file);
    }
    Err(match refused {
        Some(file) => explained(rustix::io::Errno::ACCESS.into(), &file, launch),
        None => rustix::io::Errno::NOENT.into(),
    })
}

/// The error, with what the first line of a script asks for if that is what is missing, or why the program is none: execve(2)
/// gives the same errors for all.
fn explained(error: io::Error, program: &Path, launch: &Launch) -> io::Error {
    let kind = error.kind();
    let text = match kind {
        io::ErrorKind::NotFound => missing_interpreter(program, None),
        io::ErrorKind::PermissionDenied if let Some(text) = user_rights::refusal(launch, program) => {
            Some(text)
        }
        io::ErrorKind::PermissionDenied if program.is_dir() => Some("it is a folder".to_owned()),
        io::ErrorKind::PermissionDenied
            if program.is_file() && rustix::fs::access(program, Access::EXEC_OK).is_err() =>
        {
            Some("it is not executable; `chmod +x` makes it so".to_owned())
        }
        _ => None,
    };
    text.map_or(error, |text| io::Error::new(kind, text))
}
