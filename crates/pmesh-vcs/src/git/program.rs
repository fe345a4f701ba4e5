//! How the `git` program is run: as whom, with which environment, with which settings.

use std::{
    cell::Cell,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::io::Errno;

use super::{
    account::{self, User},
    before_git::{self, LookScope},
    cause,
    child::{ChildEnd, ChildLimits, EndReason, LeftLocks, Output, RunningChild},
    configuration::Configuration,
    deadline::Deadline,
    executable,
    git_limits::GitLimits,
    http_remote::{CONCEALED, SETTINGS_FILE},
    ids,
    opened::OpenedRepo,
    owner::{self, OwnedPlaces},
    readers::Readers,
};
use crate::{Cancel, VcsError, redact};

/// The most that is kept of what git prints, in bytes.
const OUTPUT_LIMIT: usize = 4 << 20;

/// The longest message that an error carries, in bytes.
const MESSAGE_LIMIT: usize = 2048;

/// Keeps a git command from tidying up (`gc`) in passing.
const NO_GC: &str = "gc.auto=0";

/// For the command that is to tidy up: it does so in the foreground, so that it ends with the command, and on one
/// processor.
const ONLY_HERE: [&str; 3] = ["gc.autoDetach=false", "maintenance.autoDetach=false", "pack.threads=1"];

/// What every call gets: nothing of the repository's own that runs programs behind our back, nothing that starts
/// work in the background, and nothing that lets a remote choose what this machine asks.
const SETTINGS: [&str; 8] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    NO_GC,
    "maintenance.auto=false",
    // Also of alternates that a remote names (`objects/info/http-alternates`): git asks them only if it follows all.
    "http.followRedirects=false",
    "transfer.bundleURI=false",
];

/// Hands the child's stdin to git as [`SETTINGS_FILE`]. The shell becomes git.
const WITH_SETTINGS: &str = r#"exec 9<&0 </dev/null; exec "$0" "$@""#;

/// Variables that tie git to another repository, or change what it prints or does. Those that `git rev-parse
/// --local-env-vars` prints (a test compares), but `GIT_CONFIG_COUNT`: git keeps that one too where it clears the
/// others, because a user's settings (a proxy, a CA) travel in it.
const REMOVED: [&str; 20] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CURL_VERBOSE",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Whether a variable of the server's environment is passed on to git: not what is between the server and its own
/// supervisor (systemd(1), "Environment Variables in Spawned Processes") or its own alone.
fn is_passed_on(name: &OsStr) -> bool {
    const PREFIXES: [&[u8]; 4] = [b"GIT_TRACE", b"PMESH_", b"WATCHDOG_", b"LISTEN_"];
    !REMOVED.iter().any(|removed| name == *removed)
        && name != "NOTIFY_SOCKET"
        && !PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix))
}

/// What a git that runs as another user gets of the server's environment, and nothing else of it.
const OF_ANOTHER: [&str; 10] = [
    "PATH",
    "LANG",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// The environment of git before what the call itself adds, out of the server's own.
fn environment(
    server: impl Iterator<Item = (OsString, OsString)>,
    another: Option<&User>,
) -> Vec<(OsString, OsString)> {
    let mut kept: Vec<_> = server
        .filter(|(name, _)| match another {
            None => is_passed_on(name),
            Some(_) => OF_ANOTHER.iter().any(|kept| name == *kept),
        })
        .collect();
    // Without an account there is no HOME, and so no keys and no credentials.
    if let Some(account) = another.and_then(|user| user.account.as_ref()) {
        kept.push(("HOME".into(), account.home.clone().into()));
    }
    for (name, value) in [("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0")] {
        kept.push((name.into(), value.into()));
    }
    kept
}

/// What a command gets beside its arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// In its environment.
    pub(super) variables: Vec<(&'static str, OsString)>,
    /// Not in its environment.
    pub(super) removed: &'static [&'static str],
    /// What git reads as [`SETTINGS_FILE`].
    pub(super) settings: Option<Vec<u8>>,
}

/// A file in memory that no path leads to but those of the processes that have inherited it (`memfd_create(2)`).
fn nameless(content: &[u8]) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
    let mut file = File::from(memfd_create("pmesh-git", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(content)?;
    // Git opens the file by its path in `/proc`, maybe as another user. Everybody may read it: who comes to that path at
    // all is decided by its folder.
    fchmod(&file, Mode::from_raw_mode(0o444))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// The `git` program for one repository, and for one piece of work there.
pub(super) struct Program<'a> {
    pub(super) git: &'a Path,
    pub(super) root: &'a Path,
    pub(super) readers: &'a Readers,
    pub(super) limits: GitLimits,
    /// Ends every command.
    pub(super) cancel: &'a Cancel,
    /// Of all commands together.
    pub(super) deadline: Deadline,
    /// What of the configuration must not be shown.
    pub(super) secrets: Vec<String>,
    /// What git gets where it may bring objects that are not here: of the remotes that have them.
    pub(super) promisors: Extra,
    /// How far the repository has been looked at for what is no file.
    pub(super) looked_at: Cell<LookScope>,
}

impl<'a> Program<'a> {
    /// The same for another piece of work, with an end and a time of its own.
    pub(super) fn instead<'b>(&self, cancel: &'b Cancel, deadline: Deadline) -> Program<'b>
    where
        'a: 'b,
    {
        let Self { git, root, readers, limits, .. } = *self;
        let (secrets, promisors) = (self.secrets.clone(), self.promisors.clone());
        let looked_at = self.looked_at.clone();
        Program { git, root, readers, limits, cancel, deadline, secrets, promisors, looked_at }
    }

    /// Runs a command that stays on this machine.
    pub(super) fn run(&self, command: &'static str, args: &[&OsStr]) -> Result<Output, VcsError> {
        let running = self.start(command, args, &self.promisors, Stdio::null())?;
        self.end(running)
    }

    /// As [`run`](Self::run); an exit status other than 0 is an error.
    pub(super) fn succeed(&self, command: &'static str, args: &[&OsStr]) -> Result<Vec<u8>, VcsError> {
        let output = self.run(command, args)?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(command, &output.stderr)) }
    }

    /// The error for a command that has failed with these words: a cause on this machine has one of its own.
    pub(super) fn failed(&self, command: &'static str, stderr: &[u8]) -> VcsError {
        let other = || VcsError::Git { command, message: message(stderr, &self.secrets) };
        cause::here(self.root, stderr, &self.secrets).unwrap_or_else(other)
    }

    /// The configuration as git sees it.
    pub(super) fn configuration(&self) -> Result<Configuration, VcsError> {
        let reading = self.instead(self.cancel, self.deadline.within(self.limits.read));
        Ok(Configuration::parse(&reading.succeed("config", &["--list", "-z"].map(OsStr::new))?))
    }

    /// Runs a command that may go to the network, and says what its end within `time` was.
    pub(super) fn run_limited(
        &self,
        command: &'static str,
        args: &[&OsStr],
        extra: &Extra,
        time: Deadline,
    ) -> Result<Result<Output, EndReason>, VcsError> {
        self.instead(self.cancel, time).finish(self.start(command, args, extra, Stdio::null())?)
    }

    /// Waits for a command of [`start`](Self::start).
    pub(super) fn end(&self, running: RunningChild) -> Result<Output, VcsError> {
        self.finish(running)?.map_err(|why| match why {
            EndReason::TimedOut => {
                VcsError::Timeout { root: self.root.to_owned(), after: self.deadline.limit }
            }
            EndReason::Cancelled => VcsError::Cancelled,
        })
    }

    fn finish(&self, running: RunningChild) -> Result<Result<Output, EndReason>, VcsError> {
        let limits = ChildLimits {
            time: self.deadline.left(),
            cancel: self.cancel,
            grace: self.limits.grace,
            output_bytes: OUTPUT_LIMIT,
        };
        match running.finish(&limits).map_err(|source| self.cannot_run(source))? {
            ChildEnd::Exited(output) => Ok(Ok(output)),
            ChildEnd::Cut(why, locks) => {
                self.unlock(locks);
                Ok(Err(why))
            }
        }
    }

    /// Removes what a git of ours that was killed had locked: nobody else holds it, and nobody could tell that.
    pub(super) fn unlock(&self, locks: LeftLocks) {
        if locks.is_empty() {
            return;
        }
        let root = self.root.to_owned();
        let removing = self.readers.run(self.root, self.limits.read, &Cancel::new(), move |_, _| {
            let directories = OwnedPlaces::at(&root)?.directories;
            // `/proc` shows paths without links.
            let folders: Vec<_> = directories.map_or(Vec::new(), |(git, common)| vec![git, common]);
            let folders: Vec<_> = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
            for lock in locks.iter().filter(|lock| folders.iter().any(|folder| lock.starts_with(folder))) {
                match std::fs::remove_file(lock) {
                    Ok(()) => {
                        tracing::info!(path = %lock.display(), "a git that was killed had left its lock");
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        tracing::warn!(%error, path = %lock.display(), "a lock of ours stays behind");
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = removing {
            tracing::warn!(%error, "the locks of a git that was killed stay behind");
        }
    }

    /// Starts a command. One that has [`Extra::settings`] has no other stdin.
    pub(super) fn start(
        &self,
        command: &'static str,
        args: &[&OsStr],
        extra: &Extra,
        stdin: Stdio,
    ) -> Result<RunningChild, VcsError> {
        let git =
            executable::find(self.git).ok_or_else(|| self.cannot_run(io::ErrorKind::NotFound.into()))?;
        // The folder that is looked at is the one git starts in: whatever its path leads to by then, git is
        // there as the user whose it is. All that can be gained by putting something else in the place of `.git` is
        // that git fails, as that user.
        let (look, another) = self.look()?;
        self.look_for_what_blocks(command)?;
        let (stdin, words): (_, &[&str]) = match &extra.settings {
            Some(settings) => {
                let file = nameless(settings).map_err(|source| self.cannot_run(source))?;
                (file.into(), &["/bin/sh", "-c", WITH_SETTINGS])
            }
            None => (stdin, &[]),
        };
        // A session of its own leaves no terminal that ssh or a credential helper could ask on. The
        // program becomes git without a fork, because it is no group leader when it starts.
        let mut process = if let Some(setsid) = executable::find(Path::new("setsid")) {
            let mut process = Command::new(setsid);
            process.args(words).arg(&git);
            process
        } else {
            let mut words = words.iter().map(OsStr::new).chain([git.as_os_str()]);
            let mut process = Command::new(words.next().unwrap_or(git.as_os_str()));
            process.args(words).process_group(0);
            process
        };
        process.env_clear().envs(environment(std::env::vars_os(), another.as_ref()));
        if let Some(parent) = self.root.parent() {
            // Should the repository vanish, git must not go on in one above it.
            process.env("GIT_CEILING_DIRECTORIES", parent);
        }
        // A list of the transports that are allowed (git(1)) has to have the one that leaves HTTP its URL.
        if let Some(mut allowed) = std::env::var_os("GIT_ALLOW_PROTOCOL")
            && extra.settings.is_some()
            && another.is_none()
            && allowed.as_bytes().split(|&b| b == b':').any(|one| one.starts_with(b"http"))
        {
            allowed.push(":");
            allowed.push(CONCEALED);
            process.env("GIT_ALLOW_PROTOCOL", allowed);
        }
        process.envs(extra.variables.iter().map(|(name, value)| (name, value)));
        for name in extra.removed {
            process.env_remove(name);
        }
        if let Some(user) = &another {
            ids::run_as(&mut process, user);
        }
        // Whoever starts it waits for it, on the same thread.
        ids::end_with_this_thread(&mut process);

        // The child has the descriptor until it becomes another program (`proc_pid_fd(5)`).
        process.current_dir(format!("/proc/self/fd/{}", look.work_tree.as_raw_fd()));
        let tidies_up = command == "maintenance";
        let only_here = ONLY_HERE.iter().filter(|_| tidies_up);
        for setting in SETTINGS.iter().filter(|&&setting| !tidies_up || setting != NO_GC).chain(only_here) {
            process.arg("-c").arg(setting);
        }
        if extra.settings.is_some() {
            process.arg("-c").arg(format!("include.path={SETTINGS_FILE}"));
        }
        process.arg(command).args(args);
        tracing::debug!(command, root = %self.root.display(), "git");
        RunningChild::start(&mut process, stdin, self.limits.grace).map_err(|source| self.cannot_run(source))
    }

    /// Looks at the repository, and for the user as whom git runs, if that is another: files of root in a deploy user's
    /// repository would lock that user out, and what that repository is configured to run would run as root.
    fn look(&self) -> Result<(OwnedPlaces, Option<User>), VcsError> {
        let root = self.root.to_owned();
        self.readers.run_as_server(self.root, self.limits.read, self.cancel, move |_| {
            let look = OwnedPlaces::at(&root)?;
            let another = another(&root, &look)?;
            Ok((look, another))
        })
    }

    /// Looks for what would keep this command waiting, unless that has been done. What else is wrong git says itself.
    fn look_for_what_blocks(&self, command: &str) -> Result<(), VcsError> {
        let wanted = LookScope::wanted_by(command);
        if self.looked_at.get() >= wanted {
            return Ok(());
        }
        let root = self.root.to_owned();
        let looked = self.readers.run(self.root, self.limits.read, self.cancel, move |rights, stop| {
            before_git::look(&OpenedRepo::at(&root, rights, stop)?, wanted)
        });
        match looked {
            Err(error @ (VcsError::NotAFile { .. } | VcsError::Timeout { .. } | VcsError::Cancelled)) => {
                Err(error)
            }
            Ok(()) | Err(_) => {
                self.looked_at.set(wanted);
                Ok(())
            }
        }
    }

    /// Whether git runs as another user than the server, so that the server's own settings are not for it.
    pub(super) fn is_anothers(&self) -> Result<bool, VcsError> {
        Ok(self.look()?.1.is_some())
    }

    fn cannot_run(&self, source: io::Error) -> VcsError {
        let program = self.git.display().to_string();
        match Errno::from_io_error(&source) {
            Some(Errno::AGAIN | Errno::NOMEM) => VcsError::NoProcess { program, source },
            _ => VcsError::Program { program, source },
        }
    }
}

fn another(root: &Path, look: &OwnedPlaces) -> Result<Option<User>, VcsError> {
    let server = rustix::process::geteuid().as_raw();
    let owner = owner::runs_as(&look.places, server).map_err(|refusal| {
        let word = |uid| account::name(uid).unwrap_or_else(|| uid.to_string());
        refusal.into_error(&look.places, server, account::shown, word)
    })?;
    if owner == server {
        return Ok(None);
    }
    let group = look.places.first().map_or(owner, |work_tree| work_tree.gid);
    let user = User::of(owner, group);
    if user.account.is_none() {
        tracing::debug!(
            uid = owner,
            root = %root.display(),
            "the owner of the repository has no account here, so git runs without a HOME and finds no keys there"
        );
    }
    Ok(Some(user))
}

/// What git said, in one line and without credentials: its last words without advice.
pub(super) fn message(stderr: &[u8], secrets: &[String]) -> String {
    const LINES: usize = 6;
    // Git says this after every failure of a transport; the reason stands before it.
    const ADVICE: [&str; 3] =
        ["hint:", "Please make sure you have the correct access rights", "and the repository exists."];
    let said = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = said
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty() && !ADVICE.iter().any(|advice| line.starts_with(advice)))
        .collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("; ");
    let mut shown = redact::text(&last, secrets);
    if shown.is_empty() {
        shown.push_str("it gave no reason");
    }
    shown.truncate(shown.floor_char_boundary(MESSAGE_LIMIT));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_that_tie_git_to_a_repository_are_those_that_git_names() {
        let output = Command::new("git").args(["rev-parse", "--local-env-vars"]).output().unwrap();
        for name in String::from_utf8(output.stdout).unwrap().lines() {
            assert_eq!(is_passed_on(OsStr::new(name)), name == "GIT_CONFIG_COUNT", "{name}");
        }
    }

    #[test]
    fn a_users_own_settings_are_passed_on_and_traces_are_not() {
        for name in [
            "GIT_SSH_COMMAND",
            "GIT_ASKPASS",
            "GIT_SSL_CAINFO",
            "GIT_CONFIG_GLOBAL",
            "GIT_CONFIG_KEY_0",
            "PATH",
        ] {
            assert!(is_passed_on(OsStr::new(name)), "{name}");
        }
        for name in [
            "GIT_TRACE",
            "GIT_TRACE_CURL",
            "GIT_TRACE2_EVENT",
            "GIT_CURL_VERBOSE",
            "NOTIFY_SOCKET",
            "WATCHDOG_PID",
            "LISTEN_FDS",
            "PMESH_TOKEN_FILE",
        ] {
            assert!(!is_passed_on(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_git_of_another_user_gets_nothing_of_the_servers_environment_but_where_programs_and_proxies_are() {
        let server = [
            ("PATH", "/usr/bin"),
            ("HOME", "/root"),
            ("LANG", "de_DE.UTF-8"),
            ("https_proxy", "http://p"),
            ("NO_PROXY", "x"),
            ("GIT_SSH_COMMAND", "ssh -i /root/key"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_GLOBAL", "/root/config"),
            ("SSH_AUTH_SOCK", "/root/agent"),
            ("XDG_CONFIG_HOME", "/root/.config"),
            ("DATABASE_URL", "postgres://secret"),
            ("LD_PRELOAD", "/root/x.so"),
        ];
        let get = |another: Option<&User>| -> Vec<String> {
            let server = server.iter().map(|&(name, value)| (name.into(), value.into()));
            environment(server, another)
                .into_iter()
                .map(|(name, value)| format!("{}={}", name.display(), value.display()))
                .collect()
        };
        let account = account::Account { name: "deploy".into(), home: "/srv/deploy".into() };
        let deploy = User { uid: 1001, gid: 1001, groups: vec![1001], account: Some(account) };
        let own = ["LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0"];
        let kept = ["PATH=/usr/bin", "LANG=de_DE.UTF-8", "https_proxy=http://p", "NO_PROXY=x"];
        assert_eq!(get(Some(&deploy)), [&kept[..], &["HOME=/srv/deploy"], &own].concat());
        let unknown = User { account: None, ..deploy };
        assert_eq!(get(Some(&unknown)), [&kept[..], &own].concat());
        assert_eq!(get(None).len(), server.len() + own.len());
    }

    #[test]
    fn a_message_is_what_git_said_last_without_its_advice() {
        let stderr = b"hint: try again\nremote: no access\r\nfatal: unable to access 'https://t0ken@x/'\n\nPlease make \
            sure you have the correct access rights\nand the repository exists.\n";
        assert_eq!(message(stderr, &[]), "remote: no access; fatal: unable to access 'https://x/'");
        assert_eq!(message(b"\n", &[]), "it gave no reason");
    }
}
