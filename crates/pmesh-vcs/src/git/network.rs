//! What a command of git gets that goes to the network.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use gix::bstr::ByteSlice;

use super::{
    configuration::Configuration,
    http_remote::{self, HttpRemote},
    program::Extra,
};

/// What a command gets that goes to the network: an ssh that asks nothing ([`ssh_command`]), and what only git may know of
/// a remote.
pub(super) fn extra(ssh: Option<OsString>, remote: Option<&HttpRemote>) -> Extra {
    let mut variables: Vec<_> = ssh.into_iter().map(|ssh| ("GIT_SSH_COMMAND", ssh)).collect();
    let mut removed: &'static [&'static str] = &[];
    if remote.is_some_and(HttpRemote::is_strange) {
        // Who answers for one host would answer for another as well; a certificate is asked for.
        variables.push(("GIT_ASKPASS", "false".into()));
        removed = &["GIT_SSL_NO_VERIFY"];
    }
    Extra { variables, removed, settings: remote.map(|remote| http_remote::settings([remote])) }
}

/// The ssh command that git would use, told to ask nothing and not to wait for ever. `None` if it is one that does not
/// take OpenSSH's options.
pub(super) fn ssh_command(config: &Configuration, is_anothers: bool) -> Option<OsString> {
    // What is set for the server's user is none of another's.
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty() && !is_anothers);
    let configured = |key: &str| {
        config.value(key).filter(|value| !value.is_empty()).map(|value| OsString::from_vec(value.to_vec()))
    };
    // In this order by git(1), "GIT_SSH", and git-config(1), "core.sshCommand" and "ssh.variant".
    let command =
        variable("GIT_SSH_COMMAND").or_else(|| configured("core.sshcommand")).unwrap_or_else(|| {
            variable("GIT_SSH").map_or_else(|| OsString::from("ssh"), |program| quoted(&program))
        });
    let variant = variable("GIT_SSH_VARIANT").or_else(|| configured("ssh.variant"));
    asking_nothing(command, variant.as_deref())
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
