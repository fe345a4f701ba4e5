//! A remote that is asked by HTTP: what git is told about it, without telling it to anybody else.
//!
//! What stands in git's arguments can be read by everybody on this machine, and what stands in its environment by
//! every process of the same user (proc(5)). So what could be a secret is handed to git in a file that has no name.

use gix::{
    bstr::{BStr, BString, ByteSlice},
    config::File,
};

use super::{
    address::{Address, NoAddress},
    redirect::{self, Refused, Target},
    upstream::Upstream,
};
use crate::{VcsError, redact};

/// The file of [`HttpRemote::settings`], as git and every process that it starts finds it.
pub(super) const SETTINGS_FILE: &str = "/proc/self/fd/9";

/// A remote that is asked by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpRemote {
    /// The URL as the configuration has it, byte for byte.
    configured: String,
    /// The URL that is asked, with its user.
    asked: String,
    /// Whether a program would be asked for the password that a URL does not have (gitcredentials(7)).
    has_askpass: bool,
    /// Whether it is a stranger, to whom the configured remote has sent us.
    is_strange: bool,
}

impl HttpRemote {
    /// The remote of `upstream`, if HTTP is how it is asked. `is_anothers` is whether git runs as another user than the
    /// server, whose environment is not for it.
    ///
    /// # Errors
    ///
    /// [`VcsError::Fetch`] for a URL of HTTP that nobody could ask.
    pub(super) fn of(
        config: &File,
        upstream: &Upstream,
        is_anothers: bool,
    ) -> Result<Option<Self>, VcsError> {
        let asked = rewritten(config, upstream.url.as_bstr());
        let unfit = |why: NoAddress| VcsError::Fetch { url: upstream.shown_url(), message: why.to_string() };
        let (Ok(configured), Ok(asked)) = (upstream.url.to_str(), asked.to_str()) else {
            let is_http = asked.to_ascii_lowercase().starts_with(b"http");
            return if is_http { Err(unfit(NoAddress::Characters)) } else { Ok(None) };
        };
        let address = match Address::parse(asked) {
            None => return Ok(None),
            Some(address) => address.map_err(unfit)?,
        };
        let user = redact::percent_decoded(address.user.unwrap_or_default());
        if configured.chars().any(char::is_control) || user.iter().any(|b| b"\n\r\0".contains(b)) {
            return Err(unfit(NoAddress::Characters));
        }
        let is_set =
            |name: &str| !is_anothers && std::env::var_os(name).is_some_and(|program| !program.is_empty());
        Ok(Some(Self {
            configured: configured.to_owned(),
            asked: asked.to_owned(),
            has_askpass: is_set("GIT_ASKPASS")
                || is_set("SSH_ASKPASS")
                || config.string("core.askPass").is_some(),
            is_strange: false,
        }))
    }

    /// Where `location`, said by this remote, leads.
    pub(super) fn target(&self, location: &str) -> Result<Target, Refused> {
        redirect::target(&self.address(), location)
    }

    /// The URL to which `location` leads, whatever it is.
    pub(super) fn resolved(&self, location: &str) -> String {
        redirect::resolved(&self.address(), location)
    }

    /// The same remote at the place to which it has sent us. Its credentials are for its host alone.
    pub(super) fn at(&self, target: &Target) -> Self {
        let user = self.address().user.filter(|_| target.is_same_host);
        let asked = match Address::parse(&target.url) {
            Some(Ok(address)) => address.with_user(user),
            _ => target.url.clone(),
        };
        Self { asked, is_strange: !target.is_same_host, ..self.clone() }
    }

    /// Whether this is a stranger, to whom the configured remote has sent us: nothing that git or the user has for
    /// every host is for it.
    pub(super) fn is_strange(&self) -> bool {
        self.is_strange
    }

    /// What must not be shown.
    pub(super) fn secrets(&self) -> Vec<String> {
        let mut secrets = redact::secrets_of(&self.configured);
        secrets.extend(redact::secrets_of(&self.asked));
        secrets
    }

    fn address(&self) -> Address<'_> {
        match Address::parse(&self.asked) {
            Some(Ok(address)) => address,
            _ => unreachable!("only what was parsed is kept"),
        }
    }

    /// What is in [`SETTINGS_FILE`], in the syntax of git-config(1).
    pub(super) fn settings(&self) -> Vec<u8> {
        let address = self.address();
        let url = address.without_user();
        let mut file = Vec::new();
        // The user may have set it for this very URL, which is more than what is set for all (git-config(1), "http.<url>.*").
        section(&mut file, "http", Some(&url), &[("followRedirects", b"false")]);
        if self.is_strange {
            // The certificate is all that says who that is.
            section(&mut file, "http", Some(&url), &[("extraHeader", b""), ("sslVerify", b"true")]);
            section(&mut file, "credential", None, &[("helper", b"")]);
        }
        if url != self.configured {
            section(&mut file, "url", Some(&url), &[("insteadOf", self.configured.as_bytes())]);
        }
        if let Some(user) = address.user {
            self.credentials(&mut file, &address.origin(), user);
        }
        file
    }

    /// Who we are, for [`HELPER`] to tell. A password that the URL does not have comes from the user's own helpers.
    fn credentials(&self, file: &mut Vec<u8>, origin: &str, user: &str) {
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name, Some(password)),
            None => (user, None),
        };
        let name = redact::percent_decoded(name);
        match password {
            Some(password) => {
                told(file, "username", &name);
                told(file, "password", &redact::percent_decoded(password));
                // The empty one drops those before it: they are not asked, and do not learn of it.
                section(file, "credential", Some(origin), &[("helper", b""), ("helper", HELPER.as_bytes())]);
            }
            None => {
                section(file, "credential", Some(origin), &[("username", &name)]);
                // A token may stand in the place of the name, and needs no password.
                if !self.has_askpass {
                    told(file, "password", b"");
                    section(file, "credential", Some(origin), &[("helper", HELPER.as_bytes())]);
                }
            }
        }
    }
}

/// Prints what [`told`] has written (gitcredentials(7), "CUSTOM HELPERS").
const HELPER: &str = r#"!f() { test "$1" = get && sed -n 's/^#pmesh //p' /proc/self/fd/9; }; f"#;

/// A line for [`HELPER`]; to git it is a comment.
fn told(file: &mut Vec<u8>, key: &str, value: &[u8]) {
    for part in [b"#pmesh ", key.as_bytes(), b"=", value, b"\n"] {
        file.extend_from_slice(part);
    }
}

fn section(file: &mut Vec<u8>, name: &str, of: Option<&str>, values: &[(&str, &[u8])]) {
    file.push(b'[');
    file.extend_from_slice(name.as_bytes());
    if let Some(of) = of {
        file.push(b' ');
        quoted(file, of.as_bytes());
    }
    file.extend_from_slice(b"]\n");
    for (key, value) in values {
        file.extend_from_slice(key.as_bytes());
        file.extend_from_slice(b" = ");
        quoted(file, value);
        file.push(b'\n');
    }
}

/// A value, or the name of a subsection (git-config(1), "Syntax"). It has no line break.
fn quoted(file: &mut Vec<u8>, value: &[u8]) {
    file.push(b'"');
    for &byte in value {
        if byte == b'"' || byte == b'\\' {
            file.push(b'\\');
        }
        file.push(byte);
    }
    file.push(b'"');
}

/// `url` as git rewrites it: once, by the longest `url.<base>.insteadOf` with which it begins (git-config(1)).
fn rewritten(config: &File, url: &BStr) -> BString {
    let mut best: Option<(usize, &BStr)> = None;
    for section in config.sections_by_name("url").into_iter().flatten() {
        let Some(base) = section.header().subsection_name() else { continue };
        for prefix in section.values("insteadOf") {
            if url.starts_with(&prefix) && best.is_none_or(|(longest, _)| prefix.len() > longest) {
                best = Some((prefix.len(), base));
            }
        }
    }
    match best {
        Some((length, base)) => [base.as_bytes(), &url[length..]].concat().into(),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(config: &str, has_askpass: bool) -> HttpRemote {
        let config = File::try_from(config).unwrap();
        let url = config.string_by("remote", Some("origin".into()), "url").unwrap();
        let upstream = Upstream {
            remote: "origin".into(),
            url,
            source: "refs/heads/main".into(),
            tracking: "refs/remotes/origin/main".into(),
        };
        HttpRemote { has_askpass, ..HttpRemote::of(&config, &upstream, false).unwrap().unwrap() }
    }

    fn settings(remote: &HttpRemote) -> String {
        String::from_utf8(remote.settings()).unwrap()
    }

    #[test]
    fn a_password_goes_by_a_helper_of_its_host_and_the_users_helpers_are_not_asked() {
        let configured = "[remote \"origin\"]\nurl = \"https://b%6ft:s%40\\\"t@example.org:8443/app.git\"\n";
        assert_eq!(
            settings(&remote(configured, false)),
            "[http \"https://example.org:8443/app.git\"]\nfollowRedirects = \"false\"\n\
             [url \"https://example.org:8443/app.git\"]\ninsteadOf = \"https://b%6ft:s%40\\\"t@example.org:8443/app.git\"\n\
             #pmesh username=bot\n#pmesh password=s@\"t\n\
             [credential \"https://example.org:8443\"]\nhelper = \"\"\n\
             helper = \"!f() { test \\\"$1\\\" = get && sed -n 's/^#pmesh //p' /proc/self/fd/9; }; f\"\n"
        );
    }

    #[test]
    fn a_name_alone_is_told_to_the_users_helpers_and_needs_no_password_where_nobody_else_would_be_asked() {
        let configured = "[remote \"origin\"]\nurl = https://t0ken@example.org/app.git\n";
        let text = settings(&remote(configured, false));
        assert!(
            text.contains("[credential \"https://example.org\"]\nusername = \"t0ken\"\n#pmesh password=\n"),
            "{text}"
        );
        assert!(!text.contains("helper = \"\""), "{text}");
        assert!(!settings(&remote(configured, true)).contains("#pmesh"));
    }

    #[test]
    fn what_the_user_rewrites_is_asked_without_its_user_as_well() {
        let configured = "[url \"https://tok:@example.org/\"]\ninsteadOf = https://example.org/\ninsteadOf = gh:\n\
                          [url \"https://wrong/\"]\ninsteadOf = gh\n[remote \"origin\"]\nurl = gh:app.git\n";
        let remote = remote(configured, false);
        let text = settings(&remote);
        assert!(
            text.contains(
                "[url \"https://example.org/app.git\"]\ninsteadOf = \"gh:app.git\"\n#pmesh username=tok\n"
            ),
            "{text}"
        );
        assert!(remote.secrets().contains(&"tok".to_owned()));
    }

    #[test]
    fn a_remote_without_secrets_is_asked_as_it_is() {
        let configured = "[remote \"origin\"]\nurl = https://example.org/app.git\n";
        assert_eq!(
            settings(&remote(configured, false)),
            "[http \"https://example.org/app.git\"]\nfollowRedirects = \"false\"\n"
        );
    }

    #[test]
    fn a_stranger_gets_nothing_that_is_for_the_configured_remote() {
        let configured = "[remote \"origin\"]\nurl = https://bot:s3cret@example.org/app.git\n";
        let remote = remote(configured, false);
        let target = remote.target("https://b.org/app.git/info/refs?service=git-upload-pack").unwrap();
        let there = remote.at(&target);
        assert!(there.is_strange());
        assert_eq!(
            settings(&there),
            "[http \"https://b.org/app.git\"]\nfollowRedirects = \"false\"\n\
             [http \"https://b.org/app.git\"]\nextraHeader = \"\"\nsslVerify = \"true\"\n[credential]\nhelper = \"\"\n\
             [url \"https://b.org/app.git\"]\ninsteadOf = \"https://bot:s3cret@example.org/app.git\"\n"
        );
        let target = remote.target("/new.git/info/refs").unwrap();
        assert!(settings(&remote.at(&target)).contains("#pmesh password=s3cret\n"));
    }

    #[test]
    fn a_url_that_no_helper_can_carry_is_refused() {
        for url in [
            "https://a%0ab@example.org/x",
            "https://user:pass/word@example.org/x",
            "https://example.org/\u{1b}[2J",
        ] {
            let upstream = Upstream {
                remote: "origin".into(),
                url: url.into(),
                source: "refs/heads/main".into(),
                tracking: "refs/remotes/origin/main".into(),
            };
            let refused = HttpRemote::of(&File::default(), &upstream, false);
            assert!(matches!(refused, Err(VcsError::Fetch { .. })), "{url}");
        }
    }
}
