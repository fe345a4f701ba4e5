//! How the `git` program is run: as whom, with which environment, with which settings.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::child::{Ended, Limits, Output, Running};
use crate::{Cancel, VcsError, redact};

/// The time limit of commands that do not go to the network. Filters (LFS) may do, hence minutes.
const LOCAL_LIMIT: Duration = Duration::from_mins(10);

/// The most that is kept of what git prints, in bytes.
const OUTPUT_LIMIT: usize = 4 << 20;

/// The longest message that an error carries, in bytes.
const MESSAGE_LIMIT: usize = 2048;

/// What every call gets: nothing of the repository's own that runs programs behind our back, and
/// nothing that starts work in the background.
const SETTINGS: [&str; 6] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
];

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

/// The `git` program for one repository.
pub(super) struct Program<'a> {
    pub(super) git: &'a Path,
    pub(super) root: &'a Path,
    pub(super) git_dir: &'a Path,
}

impl Program<'_> {
    /// Runs a command that stays on this machine.
    pub(super) fn run(&self, command: &'static str, args: &[&OsStr]) -> Result<Output, VcsError> {
        let limits = Limits { time: LOCAL_LIMIT, cancel: None, output_bytes: OUTPUT_LIMIT };
        let running = self.start(command, args, &[], Stdio::null())?;
        self.end(command, running, &limits)
    }

    /// As [`run`](Self::run); an exit status other than 0 is an error.
    pub(super) fn succeed(&self, command: &'static str, args: &[&OsStr]) -> Result<Vec<u8>, VcsError> {
        let output = self.run(command, args)?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(VcsError::Git { command, message: message(&output.stderr, &[]) })
        }
    }

    /// Runs a command that may go to the network.
    pub(super) fn run_limited(
        &self,
        command: &'static str,
        args: &[&OsStr],
        variables: &[(&str, OsString)],
        time: Duration,
        cancel: &Cancel,
    ) -> Result<Ended, VcsError> {
        let limits = Limits { time, cancel: Some(cancel), output_bytes: OUTPUT_LIMIT };
        let running = self.start(command, args, variables, Stdio::null())?;
        running.finish(&limits).map_err(|source| self.cannot_run(source))
    }

    /// Waits for a command of [`start`](Self::start) that stays on this machine.
    pub(super) fn end(
        &self,
        command: &'static str,
        running: Running,
        limits: &Limits<'_>,
    ) -> Result<Output, VcsError> {
        match running.finish(limits).map_err(|source| self.cannot_run(source))? {
            Ended::Exited(output) => Ok(output),
            Ended::TimedOut => Err(VcsError::Git {
                command,
                message: format!("it did not end within {} s", limits.time.as_secs()),
            }),
            Ended::Cancelled => Err(VcsError::Cancelled),
        }
    }

    pub(super) fn local_limits() -> Limits<'static> {
        Limits { time: LOCAL_LIMIT, cancel: None, output_bytes: OUTPUT_LIMIT }
    }

    /// Starts a command.
    pub(super) fn start(
        &self,
        command: &'static str,
        args: &[&OsStr],
        variables: &[(&str, OsString)],
        stdin: Stdio,
    ) -> Result<Running, VcsError> {
        let git = in_path(self.git).ok_or_else(|| self.cannot_run(io::ErrorKind::NotFound.into()))?;
        // A session of its own leaves no terminal that ssh or a credential helper could ask on. The
        // program becomes git without a fork, because it is no group leader when it starts.
        let mut process = if let Some(setsid) = in_path(Path::new("setsid")) {
            let mut process = Command::new(setsid);
            process.arg(&git);
            process
        } else {
            let mut process = Command::new(&git);
            process.process_group(0);
            process
        };
        process.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)));
        process.envs([("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0")]);
        if let Some(parent) = self.root.parent() {
            // Should the repository vanish, git must not go on in one above it.
            process.env("GIT_CEILING_DIRECTORIES", parent);
        }
        if let Some(owner) = self.owner()? {
            process.uid(owner.uid).gid(owner.gid);
            process.env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME").env_remove("SSH_AUTH_SOCK");
            match owner.account {
                Some(account) => {
                    process.env("HOME", account.home).env("USER", &account.name).env("LOGNAME", account.name)
                }
                None => process.env_remove("HOME").env_remove("USER").env_remove("LOGNAME"),
            };
        }
        process.envs(variables.iter().map(|(name, value)| (name, value)));

        // The folder from which the server was started may be gone.
        process.current_dir("/").arg("-C").arg(self.root);
        for setting in SETTINGS {
            process.arg("-c").arg(setting);
        }
        let mut safe = OsString::from("safe.directory=");
        safe.push(self.root);
        process.arg("-c").arg(safe).arg(command).args(args);
        tracing::debug!(command, root = %self.root.display(), "git");
        Running::start(&mut process, stdin).map_err(|source| self.cannot_run(source))
    }

    /// The user as whom git runs, if that is another: files of root in a deploy user's repository
    /// would lock that user out, and what that repository is configured to run would run as root.
    fn owner(&self) -> Result<Option<Owner>, VcsError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let metadata =
            std::fs::metadata(self.git_dir).map_err(|source| VcsError::io(self.git_dir, source))?;
        if metadata.uid() == 0 {
            return Ok(None);
        }
        let account = Account::of(metadata.uid());
        if account.is_none() {
            tracing::warn!(
                uid = metadata.uid(),
                root = %self.root.display(),
                "the owner of the repository has no account here, so git runs without a HOME and finds no keys there"
            );
        }
        let gid = account.as_ref().map_or(metadata.gid(), |account| account.gid);
        Ok(Some(Owner { uid: metadata.uid(), gid, account }))
    }

    fn cannot_run(&self, source: io::Error) -> VcsError {
        VcsError::Program { program: self.git.display().to_string(), source }
    }
}

struct Owner {
    uid: u32,
    gid: u32,
    account: Option<Account>,
}

/// A line of passwd(5).
#[derive(Debug, PartialEq)]
struct Account {
    name: OsString,
    gid: u32,
    home: PathBuf,
}

impl Account {
    /// The account of a user, from the file or from wherever this machine has its users (LDAP, say).
    fn of(uid: u32) -> Option<Self> {
        let file = std::fs::read("/etc/passwd").unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot read /etc/passwd");
            Vec::new()
        });
        Self::find(&file, uid).or_else(|| Self::find(&Self::asked(uid)?, uid))
    }

    /// What getent(1) says of a user; it is the program that asks what nsswitch.conf(5) names.
    fn asked(uid: u32) -> Option<Vec<u8>> {
        const LIMIT: Duration = Duration::from_secs(5);
        let mut getent = Command::new(in_path(Path::new("getent"))?);
        getent.args(["passwd", &uid.to_string()]).current_dir("/").process_group(0);
        let limits = Limits { time: LIMIT, cancel: None, output_bytes: OUTPUT_LIMIT };
        match Running::start(&mut getent, Stdio::null()).and_then(|running| running.finish(&limits)) {
            Ok(Ended::Exited(output)) => Some(output.stdout),
            ended => {
                tracing::debug!(?ended, "getent does not answer");
                None
            }
        }
    }

    fn find(passwd: &[u8], uid: u32) -> Option<Self> {
        passwd.split(|&b| b == b'\n').find_map(|line| {
            let fields: Vec<_> = line.split(|&b| b == b':').collect();
            let [name, _, of, gid, _, home, ..] = fields[..] else { return None };
            let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u32>().ok();
            (number(of)? == uid).then_some(())?;
            Some(Self {
                name: OsStr::from_bytes(name).to_owned(),
                gid: number(gid)?,
                home: PathBuf::from(OsStr::from_bytes(home)),
            })
        })
    }
}

/// The file that running `program` would execute.
fn in_path(program: &Path) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(is_program);
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(is_program)
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
    fn an_account_is_found_by_its_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\ndeploy:x:1001:100::/srv/deploy:/bin/sh\n";
        let account = Account { name: "deploy".into(), gid: 100, home: "/srv/deploy".into() };
        assert_eq!(Account::find(passwd, 1001), Some(account));
        assert_eq!(Account::find(passwd, 7), None);
    }

    #[test]
    fn an_account_that_no_file_has_is_asked_for() {
        let line = Account::asked(0).expect("this machine has getent");
        assert_eq!(Account::find(&line, 0), Account::of(0));
        assert!(Account::of(0).is_some());
        assert_eq!(Account::of(u32::MAX - 7), None);
    }

    #[test]
    fn a_message_is_what_git_said_last_without_its_advice() {
        let stderr = b"hint: try again\nremote: no access\r\nfatal: unable to access 'https://t0ken@x/'\n\nPlease make \
            sure you have the correct access rights\nand the repository exists.\n";
        assert_eq!(message(stderr, &[]), "remote: no access; fatal: unable to access 'https://x/'");
        assert_eq!(message(b"\n", &[]), "it gave no reason");
    }
}
