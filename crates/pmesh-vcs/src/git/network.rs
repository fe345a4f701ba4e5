//! What a command of git gets that goes to the network.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use super::{
    configuration::Configuration,
    http_remote::{self, HttpRemote},
    program::Extra,
};

/// What a command gets that goes to the network: an ssh that asks nothing ([`ssh_command`]), and what only git may know of
/// a remote.
pub(super) fn extra(ssh: Option<OsString>, remote: Option<&HttpRemote>) -> Extra {
    let mut variables: Vec<_> = ssh.into_iter().map(|ssh| ("GIT_SSH_COMMAND", ssh)).collect();
    // Where there is no terminal, any other kind of ssh can only ask by a program that opens a window (ssh(1)).
    variables.push(("SSH_ASKPASS_REQUIRE", "never".into()));
    let mut removed: &'static [&'static str] = &[];
    if remote.is_some_and(HttpRemote::is_strange) {
        // Who answers for one host would answer for another as well; a certificate is asked for.
        variables.push(("GIT_ASKPASS", "false".into()));
        removed = &["GIT_SSL_NO_VERIFY"];
    }
    Extra { variables, removed, settings: remote.map(|remote| http_remote::settings([remote])) }
}

/// The ssh command that git would use, told to ask nothing and not to wait for ever. `None` if it may be one
/// that does not take OpenSSH's options.
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

/// Appends the options; what the command says itself goes first and wins (`ssh_config(5)`). A command of another name may
/// be a script that takes a host and a command and nothing else: git finds that out when it runs it (git-config(1),
/// "ssh.variant").
fn asking_nothing(mut command: OsString, variant: Option<&OsStr>) -> Option<OsString> {
    let is_openssh = match variant.map(OsStr::as_bytes) {
        None | Some(b"auto") => {
            let program = first_word(command.as_bytes());
            let name = program.rsplit(|&b| b == b'/').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"ssh") || name.eq_ignore_ascii_case(b"ssh.exe")
        }
        Some(variant) => variant == b"ssh",
    };
    is_openssh.then(|| {
        command.push(" -oBatchMode=yes -oConnectTimeout=10");
        command
    })
}

/// The program of a command: its first word, without its quotes.
fn first_word(command: &[u8]) -> Vec<u8> {
    let mut word = Vec::new();
    let mut quote = None;
    let mut bytes = command.trim_ascii_start().iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (Some(b'\''), byte) => word.push(byte),
            (_, b'\\') => word.extend(bytes.next()),
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, byte) if byte.is_ascii_whitespace() => break,
            (_, byte) => word.push(byte),
        }
    }
    word
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
        let quoted = "'/opt/my ssh/bin/ssh' -4";
        assert_eq!(appended(quoted, None), Some(format!("{quoted} {options}")));
        assert_eq!(appended("/opt/TortoisePlink.exe -batch", None), None);
    }

    #[test]
    fn a_command_of_another_name_is_left_to_git() {
        let appended =
            |command: &str, variant: Option<&str>| asking_nothing(command.into(), variant.map(OsStr::new));
        assert_eq!(appended("/srv/ssh-wrapper ssh", None), None);
        assert_eq!(appended("KEY=1 ssh", Some("auto")), None);
        assert_eq!(appended("wrapper", Some("simple")), None);
    }

    #[test]
    fn a_program_becomes_one_word_of_the_shell() {
        assert_eq!(quoted(OsStr::new("/opt/my ssh's/ssh")), r"'/opt/my ssh'\''s/ssh'");
    }
}
