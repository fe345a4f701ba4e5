//! Keeping others out: who is let in, which names the API answers to, and what a browser may not do.
//!
//! Other users: loopback is open to every user of the machine, and to whoever a proxy on it speaks for.
//! DNS rebinding: a page of the attacker whose name resolves to this machine sends its own name as
//! `Host`. Cross-site requests: a page anywhere can make a browser send requests here, but not without
//! the headers that say so.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Uri, header, request};
use pmesh_sessions::{PeerOwner, PeerSocket, says_forwarded};

use crate::{
    authority::{name_and_port, normal_name},
    error::{ApiError, Code},
    listener::Listener,
    near_miss::quoted,
    token::Token,
};

/// The access rules of one API.
#[derive(Debug)]
pub(crate) struct AccessRules {
    /// Further names that the API answers to, in lower case, without port.
    host_names: Vec<String>,
    token: Option<Token>,
    who: Who,
}

/// Who is let in over TCP without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The processes of this user, and of root.
    User(u32),
    /// Those of every user of this machine (`--api-open`).
    AnyLocalUser,
}

impl AccessRules {
    pub(crate) fn new(host_names: &[String], token: Option<Token>, who: Who) -> Self {
        Self { host_names: host_names.iter().map(|name| normal_name(name)).collect(), token, who }
    }

    /// Whether the `pm3` host is on: not while a token is asked for.
    pub(crate) fn serve_front_host(&self) -> bool {
        self.token.is_none()
    }

    /// Whether a request with these headers shows a token that would be compared over TCP.
    pub(crate) fn compares_token(&self, headers: &HeaderMap) -> bool {
        self.token.is_some() && headers.contains_key(header::AUTHORIZATION)
    }

    /// Checks all that does not depend on the route.
    pub(crate) fn check(&self, head: &request::Parts, listener: &Listener) -> Result<(), ApiError> {
        self.check_caller(listener, &head.headers)?;
        let host = host_of(head)?;
        match listener {
            Listener::Tcp { .. } | Listener::FrontHost { .. } => self.check_host(&head.uri, host)?,
            Listener::Unix { .. } => {}
        }
        check_site(&head.headers, host)?;
        match (listener, &self.token) {
            (Listener::Tcp { .. }, Some(token)) => check_token(&head.headers, token),
            (Listener::Tcp { .. } | Listener::Unix { .. } | Listener::FrontHost { .. }, _) => Ok(()),
        }
    }

    /// Whether who has connected here would be let in, as far as that can be told without a request.
    pub(crate) fn would_let_in(&self, listener: &Listener) -> bool {
        let shows_token = self.token.is_some() && matches!(listener, Listener::Tcp { .. });
        !shows_token && self.check_owner(listener).is_ok()
    }

    /// Over TCP and on the `pm3` host: the caller's user, and that it speaks for nobody else. The right token
    /// stands for all of it.
    fn check_caller(&self, listener: &Listener, headers: &HeaderMap) -> Result<(), ApiError> {
        self.check_owner(listener)?;
        match listener {
            Listener::Unix { .. } => return Ok(()),
            Listener::Tcp { .. } if self.token.is_some() => return Ok(()),
            Listener::Tcp { .. } | Listener::FrontHost { .. } => {}
        }
        match headers.keys().find(|name| says_forwarded(name.as_str())) {
            Some(name) => not_internal(&format!(
                "the request was forwarded (its {name} header says so), and the API does not know for whom; use the \
                 API's own listener on this machine, or start the server with --api-token-file FILE"
            )),
            None => Ok(()),
        }
    }

    fn check_owner(&self, listener: &Listener) -> Result<(), ApiError> {
        let owner = match listener {
            Listener::Unix { .. } => return Ok(()),
            Listener::Tcp { .. } if self.token.is_some() => return Ok(()),
            Listener::FrontHost { .. } if self.token.is_some() => {
                return not_internal(
                    "the API is not served at the host pm3 while it asks for a token; use its own listener",
                );
            }
            Listener::FrontHost { local, peer, .. }
                if !is_loopback(local.ip()) || !is_loopback(peer.ip()) =>
            {
                PeerOwner::NotAsked
            }
            Listener::Tcp { owner, .. } | Listener::FrontHost { owner, .. } => *owner,
        };
        match (owner, self.who) {
            (PeerOwner::NotAsked, _) => not_internal(
                "the API is served over the loopback interface only; use a listener on this machine, or start \
                     the server with --api-token-file FILE",
            ),
            (PeerOwner::Itself, _) => not_internal(
                "the server itself sent this request, so a route or a probe of the manifest leads to its own API; \
                     use the API's own listener on this machine",
            ),
            (PeerOwner::Unknown, Who::User(_)) => not_internal(
                "the kernel does not tell whose process sent this request, as after the caller has closed its \
                     connection; keep it open until the answer, or start the server with --api-open or \
                     --api-token-file FILE",
            ),
            (PeerOwner::Socket(PeerSocket { user, .. }), Who::User(own)) if !owner.is_of(own) => {
                not_internal(&format!(
                    "user id {user} sent this request, and the API is for user id {own}{}; start the server with \
                     --api-open for all users of this machine, or with --api-token-file FILE",
                    if own == 0 { "" } else { " and root" }
                ))
            }
            (PeerOwner::Socket(_) | PeerOwner::Unknown, _) => Ok(()),
        }
    }

    /// `Host` and, in an absolute request target, its authority: each that is there must be ours.
    fn check_host(&self, uri: &Uri, host: Option<&str>) -> Result<(), ApiError> {
        let refused = |message: String| Err(ApiError::new(Code::HostNotAllowed, message));
        let names: Vec<&str> =
            uri.authority().map(http::uri::Authority::as_str).into_iter().chain(host).collect();
        if names.is_empty() {
            return refused(
                "the request has no Host header; the API answers only to its own names".to_owned(),
            );
        }
        match names.into_iter().find(|name| !self.is_own(name)) {
            Some(name) => refused(format!(
                "the API does not answer to the host {}; use localhost, or allow the name with --api-host",
                quoted(name)
            )),
            None => Ok(()),
        }
    }

    fn is_own(&self, authority: &str) -> bool {
        let Some((name, _)) = name_and_port(authority) else { return false };
        name == "pm3"
            || name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(is_loopback)
            || self.host_names.contains(&name)
    }
}

fn not_internal(why: &str) -> Result<(), ApiError> {
    Err(ApiError::new(Code::NotInternal, why))
}

/// The value of `Host`; more than one is malformed (RFC 9112, 3.2).
fn host_of(head: &request::Parts) -> Result<Option<&str>, ApiError> {
    let malformed = |why: &str| ApiError::new(Code::BadRequest, format!("the request {why}"));
    let mut values = head.headers.get_all(header::HOST).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => {
            host.to_str().map(|host| Some(host.trim())).map_err(|_| malformed("has a Host that is not ASCII"))
        }
        (Some(_), Some(_)) => Err(malformed("has more than one Host")),
    }
}

/// Refuses what a page of another site sends. The listener's own origin is the name that the request
/// itself was sent to.
fn check_site(headers: &HeaderMap, host: Option<&str>) -> Result<(), ApiError> {
    let refused = |message: String| Err(ApiError::new(Code::CrossSite, message));
    for site in headers.get_all("sec-fetch-site") {
        let site = site.as_bytes().trim_ascii();
        if [&b"cross-site"[..], b"same-site"].iter().any(|other| site.eq_ignore_ascii_case(other)) {
            return refused(
                "a page of another site sent this request (its Sec-Fetch-Site header says so)".to_owned(),
            );
        }
    }
    let own = host.and_then(name_and_port);
    for origin in headers.get_all(header::ORIGIN) {
        let text = origin.to_str().unwrap_or_default().trim();
        let origin = text.strip_prefix("http://").and_then(name_and_port);
        if origin.is_none() || origin != own {
            let shown = quoted(text);
            return refused(format!("a page of another origin ({shown}) sent this request"));
        }
    }
    Ok(())
}

fn check_token(headers: &HeaderMap, token: &Token) -> Result<(), ApiError> {
    let refused = |code, message: &str, challenge| {
        let challenge = HeaderValue::from_static(challenge);
        Err(ApiError::new(code, message).with_header(header::WWW_AUTHENTICATE, challenge))
    };
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| {
        let value = value.as_bytes();
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
    });
    match shown {
        None => refused(
            Code::TokenRequired,
            "this API asks for a token; send `Authorization: Bearer <token>`",
            "Bearer",
        ),
        Some(shown) if token.is(shown) => Ok(()),
        Some(_) => refused(
            Code::TokenWrong,
            "the token is not the one in the server's token file",
            "Bearer error=\"invalid_token\"",
        ),
    }
}

/// Whether an address is this machine's loopback, also an IPv4 one in IPv6 clothes.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use http::{Request, request};
    use pmesh_sessions::{PeerOwner, PeerSocket, UnixPeer};

    use super::{AccessRules, Code, Listener, Who};
    use crate::token::Token;

    /// The server's user here.
    const OWN: u32 = 1000;

    fn of_user(user: u32) -> PeerOwner {
        PeerOwner::Socket(PeerSocket { user, inode: 4711 })
    }

    fn tcp_of(owner: PeerOwner) -> Listener {
        Listener::Tcp {
            local: "127.0.0.1:9870".parse().unwrap(),
            peer: "127.0.0.1:5000".parse().unwrap(),
            owner,
        }
    }

    fn tcp() -> Listener {
        tcp_of(of_user(OWN))
    }

    fn front_of(local: &str, peer: &str, owner: PeerOwner) -> Listener {
        Listener::FrontHost { local: local.parse().unwrap(), peer: peer.parse().unwrap(), owner }
    }

    fn front(local: &str, peer: &str) -> Listener {
        front_of(local, peer, of_user(OWN))
    }

    fn unix() -> Listener {
        Listener::Unix { caller: UnixPeer::now(Some(1)), user: 0 }
    }

    fn head(target: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn check(rules: &AccessRules, listener: Listener, headers: &[(&str, &str)]) -> Option<Code> {
        rules.check(&head("/repo", headers), &listener).err().map(|error| error.code)
    }

    fn open() -> AccessRules {
        AccessRules::new(&["Node7.example".to_owned(), "2001:db8::7".to_owned()], None, Who::User(OWN))
    }

    #[test]
    fn over_loopback_the_servers_user_and_root_are_let_in_and_nobody_else() {
        let for_all = AccessRules::new(&[], None, Who::AnyLocalUser);
        for (owner, own_user, any_user) in [
            (of_user(OWN), None, None),
            (of_user(0), None, None),
            (of_user(1001), Some(Code::NotInternal), None),
            // The kernel has no row for it, or one without an inode, or a listener has the port of a peer that is gone:
            // none of them counts as root.
            (PeerOwner::Unknown, Some(Code::NotInternal), None),
            (PeerOwner::Itself, Some(Code::NotInternal), Some(Code::NotInternal)),
            (PeerOwner::NotAsked, Some(Code::NotInternal), Some(Code::NotInternal)),
        ] {
            for listener in [tcp_of(owner), front_of("127.0.0.1:80", "127.0.0.1:5", owner)] {
                assert_eq!(check(&open(), listener, &[("host", "pm3")]), own_user, "{listener:?}");
                assert_eq!(check(&for_all, listener, &[("host", "pm3")]), any_user, "{listener:?}");
            }
        }
        let of_root = AccessRules::new(&[], None, Who::User(0));
        assert_eq!(check(&of_root, tcp_of(of_user(0)), &[("host", "pm3")]), None);
        assert_eq!(check(&of_root, tcp(), &[("host", "pm3")]), Some(Code::NotInternal));
    }

    #[test]
    fn who_is_not_let_in_is_told_what_would_let_them_in() {
        for (owner, words) in [
            (of_user(1001), &["user id 1001", "user id 1000 and root", "--api-open", "--api-token-file"][..]),
            (PeerOwner::Unknown, &["keep it open", "--api-open", "--api-token-file"]),
            (PeerOwner::Itself, &["the server itself", "own listener"]),
            (PeerOwner::NotAsked, &["loopback", "--api-token-file"]),
        ] {
            let refused = open().check(&head("/repo", &[("host", "pm3")]), &tcp_of(owner)).unwrap_err();
            for word in words {
                assert!(refused.message.contains(word), "{word:?} is not in {}", refused.message);
            }
        }
    }

    #[test]
    fn a_forwarded_request_is_refused_over_tcp_and_at_the_front_whoever_forwards_it() {
        let for_all = AccessRules::new(&[], None, Who::AnyLocalUser);
        for name in
            ["X-Forwarded-For", "Forwarded", "X_Real_IP", "Via", "CF-Connecting-IP", "X-Original-Host"]
        {
            let headers = [("host", "pm3"), (name, "127.0.0.1")];
            for listener in [tcp(), front("127.0.0.1:80", "127.0.0.1:5"), tcp_of(of_user(0))] {
                for rules in [&open(), &for_all] {
                    assert_eq!(check(rules, listener, &headers), Some(Code::NotInternal), "{name}");
                }
            }
            assert_eq!(check(&open(), unix(), &headers), None, "{name}");
        }
    }

    #[test]
    fn over_tcp_the_host_must_be_a_name_of_the_api() {
        for host in [
            "pm3",
            "PM3",
            "pm3:9870",
            "localhost",
            "localhost.",
            "LocalHost:1",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]",
            "[::1]:9870",
            "[::ffff:127.0.0.1]:1",
            "node7.example:9870",
            "[2001:DB8::7]:9870",
            "localhost:",
        ] {
            assert_eq!(check(&open(), tcp(), &[("host", host)]), None, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "pm3.evil.example",
            "evil.pm3",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[2001:db8::8]",
            "0.0.0.0",
            "[::]",
            "localhost:x",
            "localhost:99999",
            "user@localhost",
            "localhost/",
            "[::1",
            "::1",
            "[localhost]",
            "localhost localhost",
            "localhost..",
            "2130706433",
            "127.1",
        ] {
            assert_eq!(check(&open(), tcp(), &[("host", host)]), Some(Code::HostNotAllowed), "{host}");
        }
        assert_eq!(check(&open(), tcp(), &[]), Some(Code::HostNotAllowed));
    }

    #[test]
    fn an_absolute_target_must_name_the_api_as_well() {
        let refused = |target, headers: &[(&str, &str)]| {
            open().check(&head(target, headers), &tcp()).err().map(|error| error.code)
        };
        assert_eq!(refused("http://pm3/repo", &[]), None);
        assert_eq!(refused("http://pm3/repo", &[("host", "localhost")]), None);
        assert_eq!(refused("http://evil.example/repo", &[("host", "pm3")]), Some(Code::HostNotAllowed));
        assert_eq!(refused("http://pm3/repo", &[("host", "evil.example")]), Some(Code::HostNotAllowed));
    }

    #[test]
    fn two_hosts_are_malformed() {
        let headers = [("host", "pm3"), ("host", "pm3")];
        assert_eq!(check(&open(), tcp(), &headers), Some(Code::BadRequest));
        assert_eq!(check(&open(), unix(), &headers), Some(Code::BadRequest));
    }

    #[test]
    fn over_the_unix_socket_any_host_will_do() {
        for headers in [&[][..], &[("host", "evil.example")], &[("host", "")]] {
            assert_eq!(check(&open(), unix(), headers), None, "{headers:?}");
        }
    }

    #[test]
    fn the_front_host_is_for_loopback() {
        let headers = [("host", "pm3")];
        for (local, peer) in [
            ("127.0.0.1:80", "127.0.0.1:5"),
            ("[::1]:80", "[::1]:5"),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.2]:5"),
        ] {
            assert_eq!(check(&open(), front(local, peer), &headers), None, "{local} {peer}");
        }
        for (local, peer) in [
            ("127.0.0.1:80", "10.0.0.9:5"),
            ("10.0.0.1:80", "127.0.0.1:5"),
            ("[::]:80", "[::1]:5"),
            ("[::1]:80", "[::127.0.0.1]:5"),
            ("[::1]:80", "[64:ff9b::127.0.0.1]:5"),
        ] {
            assert_eq!(
                check(&open(), front(local, peer), &headers),
                Some(Code::NotInternal),
                "{local} {peer}"
            );
        }
    }

    #[test]
    fn a_request_of_another_site_is_refused_on_every_listener() {
        for listener in [tcp(), unix(), front("127.0.0.1:80", "127.0.0.1:5")] {
            for other in [
                ("origin", "http://evil.example"),
                ("origin", "https://pm3:9870"),
                ("origin", "http://pm3:9871"),
                ("origin", "http://pm3"),
                ("origin", "http://localhost:9870"),
                ("origin", "null"),
                ("origin", ""),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-site", "same-site"),
                ("sec-fetch-site", "Same-Site"),
            ] {
                let headers = [("host", "pm3:9870"), other];
                assert_eq!(
                    check(&open(), listener, &headers),
                    Some(Code::CrossSite),
                    "{listener:?} {other:?}"
                );
            }
            for own in
                [("origin", "http://pm3:9870"), ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none")]
            {
                assert_eq!(check(&open(), listener, &[("host", "pm3:9870"), own]), None, "{own:?}");
            }
            let default_port = [("host", "pm3"), ("origin", "http://pm3:80")];
            assert_eq!(check(&open(), listener, &default_port), None);
        }
    }

    fn with_token() -> AccessRules {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "0123456789abcdef\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        AccessRules::new(&[], Some(Token::read(&path).unwrap()), Who::User(OWN))
    }

    #[test]
    fn whether_a_peer_would_be_let_in_is_known_before_its_request_unless_it_may_show_a_token() {
        let front = |owner| front_of("127.0.0.1:80", "127.0.0.1:5", owner);
        for (listener, without_token, with_a_token) in [
            (tcp_of(of_user(OWN)), true, false),
            (tcp_of(of_user(1001)), false, false),
            (front(of_user(OWN)), true, false),
            (front(of_user(1001)), false, false),
            (unix(), true, true),
        ] {
            assert_eq!(open().would_let_in(&listener), without_token, "{listener:?}");
            assert_eq!(with_token().would_let_in(&listener), with_a_token, "{listener:?}");
        }
    }

    #[test]
    fn a_token_that_is_shown_is_compared_where_the_api_has_one() {
        let shows = head("/repo", &[("authorization", "Bearer x")]).headers;
        let shows_none = head("/repo", &[("host", "pm3")]).headers;
        for (rules, headers, compares) in [
            (with_token(), &shows, true),
            (with_token(), &shows_none, false),
            (open(), &shows, false),
            (open(), &shows_none, false),
        ] {
            assert_eq!(rules.compares_token(headers), compares, "{rules:?} {headers:?}");
        }
    }

    #[test]
    fn with_a_token_tcp_asks_for_it_and_the_front_host_is_off() {
        let rules = with_token();
        let with = |value: &str| {
            rules
                .check(&head("/repo", &[("host", "pm3"), ("authorization", value)]), &tcp())
                .map_err(|error| error.code)
        };
        assert_eq!(with("Bearer 0123456789abcdef"), Ok(()));
        assert_eq!(with("bearer  0123456789abcdef "), Ok(()));
        for owner in [of_user(1001), PeerOwner::Unknown, PeerOwner::Itself, PeerOwner::NotAsked] {
            let forwarded = [("host", "pm3"), ("via", "1.1 x"), ("authorization", "Bearer 0123456789abcdef")];
            assert_eq!(check(&rules, tcp_of(owner), &forwarded), None, "the token stands for {owner:?}");
        }
        for wrong in ["Bearer 0123456789abcdeF", "Bearer ", "Bearer 0123456789abcdef0"] {
            assert_eq!(with(wrong), Err(Code::TokenWrong), "{wrong}");
        }
        for none in ["", "Basic 0123456789abcdef", "0123456789abcdef", "Bearer"] {
            assert_eq!(with(none), Err(Code::TokenRequired), "{none}");
        }
        let refused = rules.check(&head("/repo", &[("host", "pm3")]), &tcp()).unwrap_err();
        assert_eq!(refused.code, Code::TokenRequired);
        assert_eq!(refused.headers[0].0, "www-authenticate");
        assert_eq!(check(&rules, unix(), &[]), None);
        assert!(!rules.serve_front_host() && open().serve_front_host());
        let front = front("127.0.0.1:80", "127.0.0.1:5");
        assert_eq!(check(&rules, front, &[("host", "pm3")]), Some(Code::NotInternal));
    }
}
