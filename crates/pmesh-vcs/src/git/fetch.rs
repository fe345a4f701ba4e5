//! Downloading the followed remote branch.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    time::Duration,
};

use gix::bstr::ByteSlice;

use super::{
    GitRepo,
    child::Ended,
    program::{Program, message},
    state,
    upstream::{self, Upstream},
};
use crate::{Cancel, VcsError, redact};

pub(super) fn fetch(repo: &GitRepo, limit: Duration, cancel: &Cancel) -> Result<(), VcsError> {
    if cancel.is_cancelled() {
        return Err(VcsError::Cancelled);
    }
    let upstream = upstream_to_fetch(repo)?;
    let git = repo.program();
    let mut refspec = OsString::from("+");
    refspec.push(OsStr::from_bytes(&upstream.source));
    refspec.push(":");
    refspec.push(OsStr::from_bytes(&upstream.tracking));
    // Exactly one branch, to exactly one place. Tags, pruning and FETCH_HEAD are the user's own business.
    let args = [
        "--quiet",
        "--no-tags",
        "--no-prune",
        "--no-recurse-submodules",
        "--no-write-fetch-head",
        "--no-auto-maintenance",
        "--refmap=",
        "--",
    ];
    let mut args: Vec<_> = args.iter().map(OsStr::new).collect();
    args.push(OsStr::from_bytes(&upstream.remote));
    args.push(&refspec);

    let variables = variables(&git)?;
    let output = match git.run_limited("fetch", &args, &variables, limit, cancel)? {
        Ended::Exited(output) if output.status.success() => return Ok(()),
        Ended::Exited(output) => output,
        Ended::TimedOut => return Err(VcsError::FetchTimeout { url: upstream.shown_url(), after: limit }),
        Ended::Cancelled => return Err(VcsError::Cancelled),
    };
    if let Some(lock) = state::fetch_lock(&repo.open()?) {
        return Err(state::locked(lock));
    }
    // The exit status is the same for every failure. The text is that of the C locale.
    if output.stderr.to_str_lossy().to_lowercase().contains("couldn't find remote ref") {
        return Err(VcsError::NoRemoteBranch {
            remote: upstream.remote.to_str_lossy().into_owned(),
            branch: upstream.branch(),
        });
    }
    let secrets = redact::secrets_of(&upstream.url.to_str_lossy());
    Err(VcsError::Fetch { url: upstream.shown_url(), message: message(&output.stderr, &secrets) })
}

/// What a command that goes to the network gets in its environment: an ssh that asks nothing.
pub(super) fn variables(git: &Program<'_>) -> Result<Vec<(&'static str, OsString)>, VcsError> {
    Ok(ssh_command(git)?.into_iter().map(|ssh| ("GIT_SSH_COMMAND", ssh)).collect())
}

/// The upstream of the head, or why there is none.
fn upstream_to_fetch(repo: &GitRepo) -> Result<Upstream, VcsError> {
    let opened = repo.open()?;
    let damaged = |error| repo.damaged(error);
    if let Some(upstream) = upstream::of_head(&opened).map_err(damaged)? {
        return Ok(upstream);
    }
    let head = super::commit::head(&opened).map_err(damaged)?;
    match head.commit {
        Some(_) if opened.head_name().map_err(damaged)?.is_some() => {
            Err(VcsError::NoRemote { branch: head.branch })
        }
        // During a rebase or a bisect the head is detached as well; what helps then is to end that.
        Some(commit) => Err(match state::in_progress(&opened) {
            Some(operation) => VcsError::InProgress { operation },
            None => VcsError::Detached { commit },
        }),
        None => Err(VcsError::NoRemote { branch: head.branch }),
    }
}

/// The ssh command that git would use, told to ask nothing and not to wait for ever. `None` if it is one that does not
/// take OpenSSH's options.
fn ssh_command(git: &Program<'_>) -> Result<Option<OsString>, VcsError> {
    // What is set for the server's user is none of another's.
    let is_anothers = git.is_anothers()?;
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty() && !is_anothers);
    let configured = |name: &str| -> Result<Option<OsString>, VcsError> {
        let output = git.run("config", &["--get", name].map(OsStr::new))?;
        let value = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
        Ok((output.status.success() && !value.is_empty()).then(|| OsString::from_vec(value.to_vec())))
    };
    // In this order by git(1), "GIT_SSH", and git-config(1), "core.sshCommand" and "ssh.variant".
    let command = match variable("GIT_SSH_COMMAND") {
        Some(command) => command,
        None => match configured("core.sshCommand")? {
            Some(command) => command,
            None => variable("GIT_SSH").map_or_else(|| OsString::from("ssh"), |program| quoted(&program)),
        },
    };
    let variant = match variable("GIT_SSH_VARIANT") {
        Some(variant) => Some(variant),
        None => configured("ssh.variant")?,
    };
    Ok(asking_nothing(command, variant.as_deref()))
}

/// Appends the options; what the command says itself goes first and wins (`ssh_config(5)`).
fn asking_nothing(mut command: OsString, variant: Option<&OsStr>) -> Option<OsString> {
    let is_openssh = match variant.map(OsStr::as_bytes) {
        None | Some(b"auto") => {
            let lower = command.as_bytes().to_ascii_lowercase();
            !lower.contains_str("plink") && !lower.contains_str("putty")
        }
        Some(variant) => variant == b"ssh",
    };
    is_openssh.then(|| {
        command.push(" -oBatchMode=yes -oConnectTimeout=10");
        command
    })
}

/// A word for the shell to which git hands its ssh command.
fn quoted(word: &OsStr) -> OsString {
    let mut quoted = b"'".to_vec();
    for &byte in word.as_bytes() {
        if byte == b'\'' {
            quoted.extend_from_slice(b"'\\''");
        } else {
            quoted.push(byte);
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_openssh_command_is_told_to_ask_nothing() {
        let appended = |command: &str, variant: Option<&str>| {
            asking_nothing(command.into(), variant.map(OsStr::new)).map(|it| it.into_string().unwrap())
        };
        let options = "-oBatchMode=yes -oConnectTimeout=10";
        assert_eq!(appended("ssh", None), Some(format!("ssh {options}")));
        let deploy_key = "ssh -i /srv/key -oConnectTimeout=3";
        assert_eq!(appended(deploy_key, Some("auto")), Some(format!("{deploy_key} {options}")));
        assert_eq!(appended("wrapper", Some("ssh")), Some(format!("wrapper {options}")));
        assert_eq!(appended("/opt/TortoisePlink.exe -batch", None), None);
        assert_eq!(appended("wrapper", Some("simple")), None);
    }

    #[test]
    fn a_program_becomes_one_word_of_the_shell() {
        assert_eq!(quoted(OsStr::new("/opt/my ssh's/ssh")), r"'/opt/my ssh'\''s/ssh'");
    }
}
