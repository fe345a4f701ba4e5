//! Processes of the operating system. `tree` follows what came from one of them.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use pmesh_threads::Threads;
use rustix::{fs::Access, pipe::PipeFlags};
use tokio::{net::unix::pipe, process::Command};

use crate::{
    Launch, NodeMark, SpawnError, Spawned, Spawner, Stdin,
    leader::Leader,
    os_tree::OsTree,
    process_tables::ProcessTables,
    session_members::SessionMembers,
    shebang::missing_interpreter,
    sys,
    tree_mark::{TreeMark, TreeMarks},
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
}

impl OsSpawner {
    /// A spawner that reads `/proc` on these threads; its clones share one view of the process table.
    pub fn new(proc: Threads) -> Self {
        Self { tables: Arc::new(ProcessTables::new(proc)), trees: Arc::new(TreeMarks::new()), mark: None }
    }

    /// The same, and each process has this mark in its environment, by which the next server finds what this one has left
    /// behind.
    #[must_use]
    pub fn marked(self, mark: NodeMark) -> Self {
        Self { mark: Some(mark), ..self }
    }

    fn start(&self, launch: &Launch) -> io::Result<Spawned> {
        let program = find_program(launch)?;
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let output = pipe::Receiver::from_owned_fd(read)?;
        let tree = self.trees.give();
        let mut command = Command::new(&program);
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
            .stderr(write.try_clone()?)
            .stdout(write);
        sys::prepare_child(&mut command, launch.nofile);
        let child = command.spawn().map_err(|error| explained(error, &program))?;
        let leader = Arc::new(Leader::new(child)?);
        let exit = Arc::clone(&leader);
        let members = SessionMembers::new(Arc::clone(&leader), tree, Arc::clone(&self.tables));
        Ok(Spawned {
            tree: Box::new(OsTree::new(leader, Box::new(members))),
            exit: Box::pin(async move { exit.exited().await }),
            output: Box::new(output),
        })
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
    let mut refused = false;
    for folder in std::env::split_paths(path) {
        let file = launch.folder.join(folder).join(name);
        if !file.is_file() {
            continue;
        }
        if rustix::fs::access(&file, Access::EXEC_OK).is_ok() {
            return Ok(file);
        }
        refused = true;
    }
    let error = if refused { rustix::io::Errno::ACCESS } else { rustix::io::Errno::NOENT };
    Err(error.into())
}

/// The error, with what the first line of a script asks for if that is what is missing: execve(2) gives the same
/// error as for a missing program.
fn explained(error: io::Error, program: &Path) -> io::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return error;
    }
    match missing_interpreter(program, None) {
        Some(text) => io::Error::new(io::ErrorKind::NotFound, text),
        None => error,
    }
}
