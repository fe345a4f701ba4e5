//! A remote that is asked by HTTP: what git is told about it, without telling it to anybody else.
//!
//! What stands in git's arguments can be read by everybody on this machine, and what stands in its environment by
//! every process of the same user (proc(5)). So what could be a secret is handed to git in a file that has no name.

use gix::bstr::{BStr, BString, ByteSlice};

use super::{
    address::{Address, NoAddress},
    configuration::Configuration,
    redirect::{self, RedirectTarget, Refused},
};
use crate::redact;

/// The file of [`HttpRemote::settings`], as git and every process that it starts finds it.
pub(super) const SETTINGS_FILE: &str = "/proc/self/fd/9";

/// A remote that is asked by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpRemote {
    name: String,
    /// The URL as the configuration has it, byte for byte.
    configured: String,
    /// The URL that is asked, with its user.
    asked: String,
    /// `remote.<name>.proxy` and `.proxyAuthMethod`.
    proxy: Vec<(&'static str, String)>,
    /// What the URLs, the proxy and the headers of the configuration make secret.
    secrets: Vec<String>,
    /// Whether a program would be asked for the password that a URL does not have (gitcredentials(7)).
    has_askpass: bool,
    /// Whether it is a stranger, to whom the configured remote has sent us.
    is_strange: bool,
}

impl HttpRemote {
    /// The remote `name` at `url`, if HTTP is how it is asked. `is_anothers` is whether git runs as another user than
    /// the server, whose environment is not for it.
    ///
    /// # Errors
    ///
    /// For a URL of HTTP that nobody could ask.
    pub(super) fn of(
        config: &Configuration,
        name: &BStr,
        url: &BStr,
        is_anothers: bool,
    ) -> Result<Option<Self>, NoAddress> {
        let asked = rewritten(config, url);
        let (Ok(configured), Ok(asked)) = (url.to_str(), asked.to_str()) else {
            let is_http = asked.to_ascii_lowercase().starts_with(b"http");
            return if is_http { Err(NoAddress::Characters) } else { Ok(None) };
        };
        let Some(address) = Address::parse(asked).transpose()? else { return Ok(None) };
        let user = redact::percent_decoded(address.user.unwrap_or_default());
        if configured.chars().any(char::is_control) || user.iter().any(|b| b"\n\r\0".contains(b)) {
            return Err(NoAddress::Characters);
        }
        let proxy: Vec<_> = ["proxy", "proxyAuthMethod"]
            .into_iter()
            .filter_map(|key| {
                Some((
                    key,
                    config.value_of("remote", name, &key.to_ascii_lowercase())?.to_str_lossy().into_owned(),
                ))
            })
            .collect();
        let mut secrets = redact::secrets_of(configured);
        secrets.extend(redact::secrets_of(asked));
        secrets.extend(proxy.iter().flat_map(|(_, proxy)| secrets_of_proxy(proxy)));
        secrets.extend(secrets_of_settings(config));
        if let Some(user) = address.user {
            let whole = if user.contains(':') { user.to_owned() } else { format!("{user}:") };
            secrets.push(redact::basic(&redact::percent_decoded(&whole)));
        }
        let is_set =
            |name: &str| !is_anothers && std::env::var_os(name).is_some_and(|program| !program.is_empty());
        Ok(Some(Self {
            name: name.to_str_lossy().into_owned(),
            configured: configured.to_owned(),
            asked: asked.to_owned(),
            proxy,
            secrets,
            has_askpass: is_set("GIT_ASKPASS")
                || is_set("SSH_ASKPASS")
                || config.value("core.askpass").is_some(),
            is_strange: false,
        }))
    }

    /// Where `location`, said by this remote, leads.
    pub(super) fn target(&self, location: &str) -> Result<RedirectTarget, Refused> {
        redirect::target(&self.address(), location)
    }

    /// The URL to which `location` leads, whatever it is.
    pub(super) fn resolved(&self, location: &str) -> String {
        redirect::resolved(&self.address(), location)
    }

    /// The same remote at the place to which it has sent us. Its credentials are for its host alone.
    pub(super) fn at(&self, target: &RedirectTarget) -> Self {
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
    pub(super) fn secrets(&self) -> &[String] {
        &self.secrets
    }

    fn address(&self) -> Address<'_> {
        match Address::parse(&self.asked) {
            Some(Ok(address)) => address,
            _ => unreachable!("only what was parsed is kept"),
        }
    }

    /// Writes what git is told of this remote; `id` tells it from others in the same file.
    fn tell(&self, file: &mut Vec<u8>, id: usize) {
        let address = self.address();
        let url = address.without_user();
        // The user may have set it for this very URL, which is more than what is set for all (git-config(1), "http.<url>.*").
        section(file, "http", Some(&url), &[("followRedirects", b"false")]);
        if self.is_strange {
            // The certificate is all that says who that is.
            section(file, "http", Some(&url), &[("extraHeader", b""), ("sslVerify", b"true")]);
            section(file, "credential", None, &[("helper", b"")]);
        }
        if redact::url(&url) != url {
            self.conceal(file, &address, &url);
        } else if url != self.configured {
            section(file, "url", Some(&url), &[("insteadOf", self.configured.as_bytes())]);
        }
        if let Some(user) = address.user {
            self.credentials(file, id, &address.origin(), user);
        }
    }

    /// Keeps the URL out of the arguments of git's helper for HTTP, where everybody could read it. `insteadOf` gives the
    /// URL that git asks a transport of ours (`CONCEALED::origin`), for which git runs an alias; that starts the helper
    /// with the name of a remote, whose URL the helper reads from the configuration. What git appends to the alias is a
    /// comment there.
    fn conceal(&self, file: &mut Vec<u8>, address: &Address<'_>, url: &str) {
        let name = format!("{CONCEALED}-{}", self.name);
        let place = format!("{name}:");
        let visible = format!("{CONCEALED}::{}", address.origin());
        section(file, "url", Some(&visible), &[("insteadOf", self.configured.as_bytes())]);
        section(file, "url", Some(url), &[("insteadOf", place.as_bytes())]);
        section(file, "remote", Some(&name), &[("url", place.as_bytes())]);
        for (key, value) in &self.proxy {
            section(file, "remote", Some(&name), &[(key, value.as_bytes())]);
        }
        let alias = format!(r#"!exec git remote-https "{CONCEALED}-$1" #"#);
        section(file, "alias", None, &[(&format!("remote-{CONCEALED}"), alias.as_bytes())]);
        section(file, "protocol", Some(CONCEALED), &[("allow", b"always")]);
    }

    /// Who we are, for [`helper`] to tell. A password that the URL does not have comes from the user's own helpers.
    fn credentials(&self, file: &mut Vec<u8>, id: usize, origin: &str, user: &str) {
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name, Some(password)),
            None => (user, None),
        };
        let name = redact::percent_decoded(name);
        match password {
            Some(password) => {
                told(file, id, "username", &name);
                told(file, id, "password", &redact::percent_decoded(password));
                // The empty one drops those before it: they are not asked, and do not learn of it.
                section(
                    file,
                    "credential",
                    Some(origin),
                    &[("helper", b""), ("helper", helper(id).as_bytes())],
                );
            }
            None => {
                section(file, "credential", Some(origin), &[("username", &name)]);
                // A token may stand in the place of the name, and needs no password.
                if !self.has_askpass {
                    told(file, id, "password", b"");
                    section(file, "credential", Some(origin), &[("helper", helper(id).as_bytes())]);
                }
            }
        }
    }
}

/// The remotes from which git may have to bring objects that a partial clone left there (gitformat-promisor(5)).
/// One that nobody could ask is none.
pub(super) fn promisors(config: &Configuration, is_anothers: bool) -> Vec<HttpRemote> {
    let mut known: Vec<&BStr> = Vec::new();
    let urls = config.all("remote", "url").filter_map(|(name, url)| Some((name?, url)));
    urls.filter(|(name, _)| {
        let is_first = !known.contains(name);
        known.push(name);
        let is_set = |key| config.value_of("remote", name, key).is_some();
        is_first && (is_set("promisor") || is_set("partialclonefilter"))
    })
    .filter_map(|(name, url)| HttpRemote::of(config, name, url, is_anothers).ok().flatten())
    .collect()
}

/// What is in [`SETTINGS_FILE`], in the syntax of git-config(1).
pub(super) fn settings<'a>(remotes: impl IntoIterator<Item = &'a HttpRemote>) -> Vec<u8> {
    let mut file = Vec::new();
    for (id, remote) in remotes.into_iter().enumerate() {
        remote.tell(&mut file, id);
    }
    file
}

/// The transport, and the beginning of the names of remotes, whose URL is in [`SETTINGS_FILE`] alone.
pub(super) const CONCEALED: &str = "pmesh-concealed";

/// A credential helper that prints what [`told`] has written (gitcredentials(7), "CUSTOM HELPERS").
fn helper(id: usize) -> String {
    format!(r#"!f() {{ test "$1" = get && sed -n 's/^#{id} //p' {SETTINGS_FILE}; }}; f"#)
}

/// A line for [`helper`]; to git it is a comment.
fn told(file: &mut Vec<u8>, id: usize, key: &str, value: &[u8]) {
    for part in [b"#", id.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"] {
        file.extend_from_slice(part);
    }
}

/// Secrets that are not of one remote: in the proxy's URL, and in header fields, which a remote may send back.
fn secrets_of_settings(config: &Configuration) -> Vec<String> {
    let proxies = config.all("http", "proxy");
    let headers = config.all("http", "extraheader");
    proxies
        .flat_map(|(_, proxy)| secrets_of_proxy(&proxy.to_str_lossy()))
        .chain(headers.flat_map(|(_, header)| redact::secrets_of_header(&header.to_str_lossy())))
        .collect()
}

/// A proxy may be named without its scheme (`curl_easy_setopt(3)`, `CURLOPT_PROXY`).
fn secrets_of_proxy(proxy: &str) -> Vec<String> {
    if proxy.contains("://") {
        redact::secrets_of(proxy)
    } else {
        redact::secrets_of(&format!("http://{proxy}"))
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
fn rewritten(config: &Configuration, url: &BStr) -> BString {
    let mut best: Option<(usize, &BStr)> = None;
    for (base, prefix) in config.all("url", "insteadof") {
        if let Some(base) = base
            && url.starts_with(prefix)
            && best.is_none_or(|(longest, _)| prefix.len() > longest)
        {
            best = Some((prefix.len(), base));
        }
    }
    match best {
        Some((length, base)) => [base.as_bytes(), &url[length..]].concat().into(),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Command};

    use super::*;

    fn remote(config: &str, has_askpass: bool) -> HttpRemote {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(config.as_bytes()).unwrap();
        let git =
            Command::new("git").args(["config", "--list", "-z", "--file"]).arg(file.path()).output().unwrap();
        let config = Configuration::parse(&git.stdout);
        let remote =
            HttpRemote::of(&config, "origin".into(), config.value("remote.origin.url").unwrap(), false);
        HttpRemote { has_askpass, ..remote.unwrap().unwrap() }
    }

    fn settings(remote: &HttpRemote) -> String {
        String::from_utf8(super::settings([remote])).unwrap()
    }

    #[test]
    fn a_password_goes_by_a_helper_of_its_host_and_the_users_helpers_are_not_asked() {
        let configured = "[remote \"origin\"]\nurl = \"https://b%6ft:s%40\\\"t@example.org:8443/app.git\"\n";
        assert_eq!(
            settings(&remote(configured, false)),
            "[http \"https://example.org:8443/app.git\"]\nfollowRedirects = \"false\"\n\
             [url \"https://example.org:8443/app.git\"]\ninsteadOf = \"https://b%6ft:s%40\\\"t@example.org:8443/app.git\"\n\
             #0 username=bot\n#0 password=s@\"t\n\
             [credential \"https://example.org:8443\"]\nhelper = \"\"\n\
             helper = \"!f() { test \\\"$1\\\" = get && sed -n 's/^#0 //p' /proc/self/fd/9; }; f\"\n"
        );
    }

    #[test]
    fn a_name_alone_is_told_to_the_users_helpers_and_needs_no_password_where_nobody_else_would_be_asked() {
        let configured = "[remote \"origin\"]\nurl = https://t0ken@example.org/app.git\n";
        let text = settings(&remote(configured, false));
        assert!(
            text.contains("[credential \"https://example.org\"]\nusername = \"t0ken\"\n#0 password=\n"),
            "{text}"
        );
        assert!(!text.contains("helper = \"\""), "{text}");
        assert!(!settings(&remote(configured, true)).contains("#0"));
    }

    #[test]
    fn what_the_user_rewrites_is_asked_without_its_user_as_well() {
        let configured = "[url \"https://tok:@example.org/\"]\ninsteadOf = https://example.org/\ninsteadOf = gh:\n\
                          [url \"https://wrong/\"]\ninsteadOf = gh\n[remote \"origin\"]\nurl = gh:app.git\n";
        let remote = remote(configured, false);
        let text = settings(&remote);
        assert!(
            text.contains(
                "[url \"https://example.org/app.git\"]\ninsteadOf = \"gh:app.git\"\n#0 username=tok\n"
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
    fn a_url_with_a_token_in_its_path_is_the_configurations_alone() {
        let configured = "[remote \"origin\"]\nurl = https://bot:pw@example.org/x7Kq9Zp2Lm4Rt8Wv/app.git\nproxy = http://p:1\n";
        let text = settings(&remote(configured, false));
        for part in [
            "[url \"pmesh-concealed::https://example.org\"]\ninsteadOf = \"https://bot:pw@example.org/x7Kq9Zp2Lm4Rt8Wv/app.git\"\n",
            "[url \"https://example.org/x7Kq9Zp2Lm4Rt8Wv/app.git\"]\ninsteadOf = \"pmesh-concealed-origin:\"\n",
            "[remote \"pmesh-concealed-origin\"]\nurl = \"pmesh-concealed-origin:\"\n",
            "[remote \"pmesh-concealed-origin\"]\nproxy = \"http://p:1\"\n",
            "remote-pmesh-concealed = \"!exec git remote-https \\\"pmesh-concealed-$1\\\" #\"\n",
            "[credential \"https://example.org\"]\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn header_and_proxy_secrets_are_known() {
        let configured = "[http]\nproxy = user:pr0xy@p:3128\n[http \"https://example.org\"]\nextraHeader = X-Token: h3ader\n\
                          [remote \"origin\"]\nurl = https://example.org/app.git\n";
        let remote = remote(configured, false);
        assert!(
            ["pr0xy", "h3ader"].iter().all(|secret| remote.secrets().iter().any(|known| known == secret)),
            "{remote:?}"
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
        assert!(settings(&remote.at(&target)).contains("#0 password=s3cret\n"));
    }

    #[test]
    fn a_url_that_no_helper_can_carry_is_refused() {
        for url in [
            "https://a%0ab@example.org/x",
            "https://user:pass/word@example.org/x",
            "https://example.org/\u{1b}[2J",
        ] {
            assert!(
                HttpRemote::of(&Configuration::default(), "origin".into(), url.into(), false).is_err(),
                "{url}"
            );
        }
    }
}
