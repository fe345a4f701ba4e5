//! Who `user` of a service is on this machine.

use std::{fs, path::Path, process::Stdio, time::Duration};

use pmesh_threads::{Threads, Unanswered};
use rustix::process::geteuid;
use tokio::process::Command;
use tracing::debug;

use crate::{UserAccount, user_account::number};

/// How long reading the lists of users may take.
const FILES_LIMIT: Duration = Duration::from_secs(10);

/// How long a directory service may take to say who somebody is.
const ASKING_LIMIT: Duration = Duration::from_secs(5);

/// How much two names have in common of which one is taken for a slip of the other.
const NEAR: f64 = 0.85;

/// Why nothing can be started as the user of a service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("its `user` is unknown on this machine: {user}{}", near.as_ref().map_or_else(String::new, |near| format!("; did you mean {near}?")))]
    Unknown { user: String, near: Option<String> },
    #[error(
        "its `user` is {user}, and the server runs as user id {own}: only root can start the processes of somebody else; run the server as root, or as {user}"
    )]
    NotRoot { user: String, own: u32 },
    #[error("cannot read who its `user` is")]
    Unanswered(#[source] Unanswered),
}

/// Who `user` is: its name or number; none where that is whom the server runs as anyway.
///
/// # Errors
///
/// [`AccountError`].
pub(crate) async fn find(user: &str, threads: &Threads) -> Result<Option<UserAccount>, AccountError> {
    let read = threads.run(FILES_LIMIT, |_| (file("/etc/passwd"), file("/etc/group")));
    let (passwd, group) = read.await.map_err(AccountError::Unanswered)?;
    let account = match UserAccount::find(user, &passwd, &group) {
        Some(account) => account,
        None => match asked_for(user).await {
            Some(account) => account,
            // A number needs no account, as in a container.
            None => match number(user) {
                Some(uid) => UserAccount::of_number(uid),
                None => return Err(unknown(user, &passwd)),
            },
        },
    };
    let own = geteuid().as_raw();
    if account.uid == own {
        return Ok(None);
    }
    if own != 0 {
        return Err(AccountError::NotRoot { user: account.shown(), own });
    }
    Ok(Some(account))
}

/// What is wrong with a `user` for this machine, in one line, as far as its own lists say; none if nothing is. Blocks on
/// the disk.
pub fn user_mistake(user: &str) -> Option<String> {
    let passwd = file("/etc/passwd");
    let is_known = number(user).is_some() || UserAccount::find(user, &passwd, "").is_some();
    (!is_known).then(|| unknown(user, &passwd).to_string())
}

fn unknown(user: &str, passwd: &str) -> AccountError {
    let names = passwd.lines().filter_map(|line| line.split(':').next());
    let near = names
        .map(|name| (strsim::jaro_winkler(user, name), name))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    AccountError::Unknown { user: user.to_owned(), near: near.map(|(_, name)| name.to_owned()) }
}

fn file(path: &str) -> String {
    let bytes = fs::read(Path::new(path)).unwrap_or_else(|error| {
        debug!(%error, path, "cannot read who is who");
        Vec::new()
    });
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A user that this machine has from elsewhere, such as LDAP (nsswitch.conf(5)).
async fn asked_for(user: &str) -> Option<UserAccount> {
    let passwd = asked("getent", &["passwd", "--", user]).await?;
    let account = UserAccount::find(user, &passwd, "")?;
    let groups = asked("id", &["-G", "--", user]).await.unwrap_or_default();
    let groups: Vec<u32> = groups.split_ascii_whitespace().filter_map(number).collect();
    Some(if groups.contains(&account.gid) {
        account.with(|account| account.groups = groups)
    } else {
        account
    })
}

async fn asked(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(ASKING_LIMIT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        ended => {
            debug!(?ended, program, "no answer to who somebody is");
            None
        }
    }
}
