//! Downloading the followed remote branch.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    time::Duration,
};

use gix::bstr::ByteSlice;

use super::{
    cause,
    child::{EndReason, Output},
    deadline::Deadline,
    http_remote::HttpRemote,
    network,
    opened::OpenedRepo,
    program::{Extra, message},
    redirect,
    repo::GitRepo,
    state,
    tracked_branch::{self, TrackedBranch},
};
use crate::{Cancel, Fetched, Moved, VcsError, redact};

pub(super) fn fetch(repo: &GitRepo, limit: Duration, cancel: &Cancel) -> Result<Fetched, VcsError> {
    if cancel.is_cancelled() {
        return Err(VcsError::Cancelled);
    }
    let is_anothers = repo.program(cancel).is_anothers()?;
    let upstream = repo.read(cancel, upstream_to_fetch)?;
    let config = repo.program(cancel).configuration()?;
    let (name, url) = (upstream.remote.as_bstr(), upstream.url.as_bstr());
    let remote = HttpRemote::of(&config, name, url, is_anothers)
        .map_err(|why| VcsError::Fetch { url: upstream.shown_url(), message: why.to_string() })?;
    let ssh = network::ssh_command(&config, is_anothers);
    let until = Deadline::after(limit);
    let asking = Asking { repo, upstream: &upstream, ssh, until, cancel };
    let failed = match asking.fetch(remote.as_ref())? {
        output if output.status.success() => return Ok(Fetched::default()),
        output => output,
    };
    let secrets = remote.as_ref().map(HttpRemote::secrets).unwrap_or_default().to_vec();
    let Some(remote) = remote.filter(|_| may_be_redirect(&failed.stderr)) else {
        return Err(asking.failure(&failed, &secrets)?);
    };
    let Some(location) = asking.location(&remote)? else { return Err(asking.failure(&failed, &secrets)?) };
    let name = upstream.remote.to_str_lossy();
    let there = redact::text(&redact::url(&remote.resolved(&location)), &secrets);
    let target = remote.target(&location).map_err(|refused| VcsError::Fetch {
        url: upstream.shown_url(),
        message: format!(
            "it redirects to {there}, {refused}; if that is right, `git remote set-url {name} <URL>` to where the repository is"
        ),
    })?;
    let url = redact::text(&redact::url(&target.url), &secrets);
    let moved = Moved { command: format!("git remote set-url {name} {url}"), url };
    tracing::warn!(remote = %name, to = moved.url, remedy = moved.command, "the remote has moved");
    match asking.fetch(Some(&remote.at(&target)))? {
        output if output.status.success() => Ok(Fetched { moved_to: Some(moved) }),
        output => Err(match asking.failure(&output, &secrets)? {
            VcsError::Fetch { url, message } => {
                let message = format!(
                    "it redirects to {}: {message}; `{}` makes git ask there",
                    moved.url, moved.command
                );
                VcsError::Fetch { url, message }
            }
            other => other,
        }),
    }
}

/// What all commands of one fetch have in common.
struct Asking<'a> {
    repo: &'a GitRepo,
    upstream: &'a TrackedBranch,
    ssh: Option<OsString>,
    until: Deadline,
    cancel: &'a Cancel,
}

impl Asking<'_> {
    fn fetch(&self, remote: Option<&HttpRemote>) -> Result<Output, VcsError> {
        let mut refspec = OsString::from("+");
        refspec.push(OsStr::from_bytes(&self.upstream.source));
        refspec.push(":");
        refspec.push(OsStr::from_bytes(&self.upstream.tracking));
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
        args.push(OsStr::from_bytes(&self.upstream.remote));
        args.push(&refspec);
        self.run("fetch", &args, &network::extra(self.ssh.clone(), remote))
    }

    /// Asks `remote` once more, for nothing but where it redirects to. git shows the headers of the answers, so this
    /// goes through the proxies, certificates and credentials of the user like every other request.
    fn location(&self, remote: &HttpRemote) -> Result<Option<String>, VcsError> {
        let args = ["--quiet", "--"].map(OsStr::new);
        let args: Vec<_> = args
            .into_iter()
            .chain([&self.upstream.remote, &self.upstream.source].map(|word| OsStr::from_bytes(word)))
            .collect();
        let mut extra = network::extra(self.ssh.clone(), Some(remote));
        extra.variables.extend(
            [("GIT_TRACE_CURL", "2"), ("GIT_TRACE_CURL_NO_DATA", "1")]
                .map(|(name, value)| (name, value.into())),
        );
        let output = self.run("ls-remote", &args, &extra)?;
        Ok(redirect::location(&output.stderr.to_str_lossy()).map(str::to_owned))
    }

    /// Runs a command within what is left of the time.
    fn run(&self, command: &'static str, args: &[&OsStr], extra: &Extra) -> Result<Output, VcsError> {
        match self.repo.program(self.cancel).run_limited(command, args, extra, self.until)? {
            Ok(output) => Ok(output),
            Err(EndReason::TimedOut) => {
                Err(VcsError::FetchTimeout { url: self.upstream.shown_url(), after: self.until.limit })
            }
            Err(EndReason::Cancelled) => Err(VcsError::Cancelled),
        }
    }

    /// Why a fetch has failed that ended so.
    fn failure(&self, output: &Output, secrets: &[String]) -> Result<VcsError, VcsError> {
        let lock = self.repo.read(self.cancel, |opened| Ok(state::fetch_lock(&opened.repo)))?;
        if let Some(lock) = lock {
            return Ok(state::locked(lock));
        }
        if let Some(cause) = cause::here(&self.repo.root, &output.stderr, secrets) {
            return Ok(cause);
        }
        // The exit status is the same for every failure. The text is that of the C locale.
        if output.stderr.to_str_lossy().to_lowercase().contains("couldn't find remote ref") {
            return Ok(VcsError::NoRemoteBranch {
                remote: self.upstream.remote.to_str_lossy().into_owned(),
                branch: self.upstream.branch(),
            });
        }
        let mut secrets = secrets.to_vec();
        secrets.extend(redact::secrets_of(&self.upstream.url.to_str_lossy()));
        Ok(VcsError::Fetch { url: self.upstream.shown_url(), message: message(&output.stderr, &secrets) })
    }
}

/// Whether it is worth asking for a redirect: git says the status of an answer that it could not use.
fn may_be_redirect(stderr: &[u8]) -> bool {
    ["301", "302", "303", "307", "308"].iter().any(|status| stderr.contains_str(status))
}

/// The upstream of the head, or why there is none.
fn upstream_to_fetch(opened: &OpenedRepo) -> Result<TrackedBranch, VcsError> {
    let (repo, damaged) = (&opened.repo, |error| opened.damaged(error));
    if let Some(upstream) = tracked_branch::of_head(repo).map_err(damaged)? {
        return Ok(upstream);
    }
    let head = super::commit::head(opened)?;
    match head.commit {
        Some(_) if repo.head_name().map_err(damaged)?.is_some() => {
            Err(VcsError::NoRemote { branch: head.branch })
        }
        // During a rebase or a bisect the head is detached as well; what helps then is to end that.
        Some(commit) => Err(match state::in_progress(repo) {
            Some(operation) => VcsError::InProgress { operation },
            None => VcsError::Detached { commit },
        }),
        None => Err(VcsError::NoRemote { branch: head.branch }),
    }
}
