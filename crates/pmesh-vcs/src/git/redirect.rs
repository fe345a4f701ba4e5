//! Whether a remote's redirect is followed, and what it says.
//!
//! git itself follows none. A remote may otherwise have this machine ask any address that it likes, and be told
//! what came back.

use std::net::Ipv4Addr;

use super::address::Address;

/// The address to which a remote has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedirectTarget {
    /// The URL to fetch from, without a user.
    pub(super) url: String,
    /// Whether it is the host that was asked, so that the same credentials are for it.
    pub(super) is_same_host: bool,
}

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("which is no URL of HTTP")]
    NoUrl,
    #[error("which is no repository")]
    NoRepository,
    #[error("which names a user")]
    User,
    #[error("which is not encrypted")]
    LesserScheme,
    #[error("which is neither the same host nor https to a public name")]
    NotPublic,
}

/// How the requests for a repository end (gitprotocol-http(5)).
const TAILS: [&str; 3] = ["/info/refs?service=git-upload-pack", "/info/refs", "/git-upload-pack"];

/// Where the `Location` of an answer leads that `asked` gave when its repository was to be fetched.
///
/// It is followed to the same host and port, and by https to a public name; never to a lesser scheme. What a public
/// name resolves to is not looked at: a stranger's machine in our network cannot show a certificate for it, so
/// it gets no request.
///
/// # Errors
///
/// Why it is not followed.
pub(super) fn target(asked: &Address<'_>, location: &str) -> Result<RedirectTarget, Refused> {
    let absolute = resolved(asked, location);
    let Some(Ok(new)) = Address::parse(&absolute) else { return Err(Refused::NoUrl) };
    if !absolute.is_ascii() {
        return Err(Refused::NoUrl);
    }
    if new.user.is_some() {
        return Err(Refused::User);
    }
    let Some(port) = new.effective_port() else { return Err(Refused::NoUrl) };
    if asked.is_encrypted() && !new.is_encrypted() {
        return Err(Refused::LesserScheme);
    }
    let has_same_name = name(new.host) == name(asked.host);
    let has_same_port = asked.effective_port() == Some(port)
        || (!asked.is_encrypted() && asked.effective_port() == Some(80) && new.is_encrypted() && port == 443);
    let is_same_host = has_same_name && has_same_port;
    let is_public = new.is_encrypted() && is_public_name(new.host);
    if !is_same_host && !is_public {
        return Err(Refused::NotPublic);
    }
    let base = TAILS.iter().find_map(|tail| new.path.strip_suffix(tail)).ok_or(Refused::NoRepository)?;
    if base.contains(['?', '#']) {
        return Err(Refused::NoRepository);
    }
    let url = Address { scheme: if new.is_encrypted() { "https" } else { "http" }, path: base, ..new };
    Ok(RedirectTarget { url: url.without_user(), is_same_host })
}

/// `location` as an absolute URL (RFC 3986, 5.2); dot segments are left to whoever asks.
pub(super) fn resolved(asked: &Address<'_>, location: &str) -> String {
    let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| {
        scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    if has_scheme {
        return location.to_owned();
    }
    if location.starts_with("//") {
        return format!("{}:{location}", asked.scheme);
    }
    if location.starts_with('/') {
        return format!("{}{location}", asked.origin());
    }
    // What was asked for is `info/refs` below the repository.
    format!("{}/info/{location}", asked.without_user().trim_end_matches('/'))
}

/// Whether a host is a name of the public DNS: no IP literal in any spelling, more than one label, and none of the
/// names that stand for this machine or this network (RFC 6761, 6762, 7686, 8375, 9476; ICANN's `internal`).
pub(super) fn is_public_name(host: &str) -> bool {
    const NOT_PUBLIC: [&str; 18] = [
        "alt",
        "arpa",
        "corp",
        "domain",
        "example",
        "home",
        "host",
        "internal",
        "intranet",
        "invalid",
        "lan",
        "local",
        "localdomain",
        "localhost",
        "mail",
        "onion",
        "private",
        "test",
    ];
    let name = name(host);
    let labels: Vec<_> = name.split('.').collect();
    let is_label = |label: &&str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let Some(last) = labels.last().filter(|_| labels.len() > 1 && labels.iter().all(is_label)) else {
        return false;
    };
    // A last label that is a number makes an IPv4 address of it: 127.1, 0x7f.0.0.1 (inet_aton(3)).
    let is_number = last.starts_with(|c: char| c.is_ascii_digit());
    !is_number && name.parse::<Ipv4Addr>().is_err() && !NOT_PUBLIC.contains(last)
}

/// A host as names are compared: in lower case, without the dot of the root.
fn name(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    host.strip_suffix('.').map_or(host.clone(), str::to_owned)
}

/// The last answer of a remote that is a redirect, out of what `GIT_TRACE_CURL` has printed (git(1)): its
/// `Location`. None if the last answer is no redirect, or says nowhere.
pub(super) fn location(trace: &str) -> Option<&str> {
    const MARK: &str = "<= Recv header: ";
    let mut is_redirect = false;
    let mut location = None;
    for line in trace.lines() {
        let Some(at) = line.find(MARK) else { continue };
        let header = line[at + MARK.len()..].trim();
        if header.starts_with("HTTP/") {
            let status = header.split_ascii_whitespace().nth(1).unwrap_or_default();
            is_redirect = ["301", "302", "303", "307", "308"].contains(&status);
            location = None;
        } else if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("location")
        {
            location = Some(value.trim());
        }
    }
    location.filter(|location| is_redirect && !location.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "/info/refs?service=git-upload-pack";

    fn followed(asked: &str, location: &str) -> Result<(String, bool), Refused> {
        let asked = Address::parse(asked).unwrap().unwrap();
        target(&asked, location).map(|target| (target.url, target.is_same_host))
    }

    #[test]
    fn a_redirect_is_followed_on_the_same_host_and_by_https_to_a_public_name() {
        for (asked, location, url, is_same_host) in [
            ("https://a.org/x.git", "https://a.org/y.git", "https://a.org/y.git", true),
            ("https://a.org/x.git", "https://A.org:443/y.git", "https://A.org:443/y.git", true),
            ("https://bot:t@a.org/x.git", "https://a.org./y.git", "https://a.org./y.git", true),
            ("http://a.org/x.git", "https://a.org/x.git", "https://a.org/x.git", true),
            (
                "http://127.0.0.1:3000/x.git",
                "http://127.0.0.1:3000/y.git",
                "http://127.0.0.1:3000/y.git",
                true,
            ),
            ("http://10.0.0.7/x.git", "https://10.0.0.7/x.git", "https://10.0.0.7/x.git", true),
            ("http://git/x.git", "/y.git", "http://git/y.git", true),
            ("http://git/x.git", "//git/y.git", "http://git/y.git", true),
            ("https://a.org/x.git", "https://b.org/x.git", "https://b.org/x.git", false),
            ("http://a.org/x.git", "https://github.com/x/y", "https://github.com/x/y", false),
            ("http://a.org:3000/x.git", "https://a.org/x.git", "https://a.org/x.git", false),
            ("https://a.org/x.git", "HTTPS://b.org:8443/x", "https://b.org:8443/x", false),
        ] {
            let location = format!("{location}{TAIL}");
            assert_eq!(followed(asked, &location), Ok((url.to_owned(), is_same_host)), "{asked} {location}");
        }
        let asked = "http://a.org/x.git";
        assert_eq!(followed(asked, "http://a.org/y/git-upload-pack").unwrap().0, "http://a.org/y");
        assert_eq!(followed(asked, "http://a.org/y/info/refs").unwrap().0, "http://a.org/y");
        assert_eq!(followed(asked, &format!("../../y{TAIL}")).unwrap().0, "http://a.org/x.git/info/../../y");
    }

    #[test]
    fn every_other_redirect_is_refused() {
        use Refused::{LesserScheme, NoRepository, NoUrl, NotPublic, User};
        for (asked, location, why) in [
            ("http://127.0.0.1:3000/x", "http://127.0.0.1:9870/service/stop?wait=false", NotPublic),
            ("http://127.0.0.1:3000/x", "http://127.0.0.1:9870/service/stop/info/refs", NotPublic),
            ("http://127.0.0.1:9870/x", "http://127.0.0.1:9870/service/stop?x=/info/refs", NoRepository),
            ("https://a.org/x", "http://a.org/x/info/refs", LesserScheme),
            ("https://a.org/x", "http://127.0.0.1/x/info/refs", LesserScheme),
            ("http://a.org/x", "http://b.org/x/info/refs", NotPublic),
            ("http://a.org/x", "http://a.org:81/x/info/refs", NotPublic),
            ("https://a.org/x", "https://127.0.0.1/x/info/refs", NotPublic),
            ("https://a.org/x", "https://router.lan/x/info/refs", NotPublic),
            ("https://a.org/x", "https://u:p@a.org/x/info/refs", User),
            ("https://a.org/x", "https://a.org@127.0.0.1/x/info/refs", User),
            ("https://a.org/x", "https://a.org\\@127.0.0.1/x/info/refs", NoUrl),
            ("https://a.org/x", "https://a.org:99999/x/info/refs", NoUrl),
            ("https://a.org/x", "https://ä.org/x/info/refs", NoUrl),
            ("https://a.org/x", "file:///etc/passwd/info/refs", NoUrl),
            ("https://a.org/x", "ext::sh -c id/info/refs", NoUrl),
            ("https://a.org/x", "git://a.org/x/info/refs", NoUrl),
            ("https://a.org/x", "ssh://a.org/x/info/refs", NoUrl),
            ("https://a.org/x", "https:/x/info/refs", NoUrl),
            ("https://a.org/x", "https://a.org/login?to=/x/info/refs", NoRepository),
            ("https://a.org/x", "https://a.org/login", NoRepository),
            ("https://a.org/x", "", NoRepository),
        ] {
            assert_eq!(followed(asked, location), Err(why), "{asked} {location}");
        }
    }

    #[test]
    fn a_public_name_is_no_address_and_none_of_this_machine_or_network() {
        for name in [
            "github.com",
            "GitHub.com",
            "github.com.",
            "git.a-b.co.uk",
            "xn--bcher-kva.example.org",
            "1.2.fm",
        ] {
            assert!(is_public_name(name), "{name}");
        }
        for name in [
            "localhost",
            "localhost.",
            "git",
            "git.",
            "a.localhost",
            "printer.local",
            "db.internal",
            "router.LAN",
            "x.home.arpa",
            "1.0.0.127.in-addr.arpa",
            "x.test",
            "x.onion",
            "127.0.0.1",
            "127.1",
            "127.0.0.1.",
            "0x7f.0.0.0x1",
            "2130706433",
            "1.1.1.1",
            "169.254.169.254",
            "[::1]",
            "[2606:4700::1111]",
            "a..org",
            ".org",
            "",
            "a b.org",
        ] {
            assert!(!is_public_name(name), "{name}");
        }
    }

    #[test]
    fn the_location_is_that_of_the_last_answer() {
        let trace = "\
02:23:00.1 http.c:684              => Send header: GET /x/info/refs HTTP/1.1
02:23:00.2 http.c:684              <= Recv header: HTTP/1.1 401 Unauthorized
02:23:00.2 http.c:684              <= Recv header: Location: http://elsewhere/
02:23:00.2 http.c:684              <= Recv header:
02:23:00.3 http.c:684              <= Recv header: HTTP/2 301
02:23:00.3 http.c:672              <= Recv header, 0000000083 bytes (0x00000053)
02:23:00.3 http.c:684              <= Recv header: x: <= Recv header: location: http://wrong/
02:23:00.3 http.c:684              <= Recv header: location:  https://a.org/y/info/refs
fatal: unable to access 'http://a.org/x/': The requested URL returned error: 301
";
        assert_eq!(location(trace), Some("https://a.org/y/info/refs"));
        assert_eq!(
            location("1 http.c:684 <= Recv header: HTTP/1.1 200 OK\n2 <= Recv header: Location: x"),
            None
        );
        assert_eq!(location("1 http.c:684 <= Recv header: HTTP/1.1 302 Found\n"), None);
        assert_eq!(location(""), None);
    }
}
