//! Header fields: what is passed on, what is added, what is removed.

use std::net::IpAddr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{self, CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, TRANSFER_ENCODING, UPGRADE},
};
use pmesh_sessions::says_forwarded;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What the head of a request takes at first, in bytes.
const USUAL_HEAD: usize = 768;

/// The other end of a client's connection.
#[derive(Debug)]
pub(crate) struct ClientPeer {
    /// IPv4 addresses as such, also where they came in over IPv6.
    pub(crate) ip: IpAddr,
    /// `ip` as a field's value.
    ip_text: String,
    /// Whether it is a proxy whose word counts.
    pub(crate) is_trusted: bool,
    /// Whether it is a process of our own user or of root, on this machine.
    pub(crate) is_internal: bool,
}

impl ClientPeer {
    pub(crate) fn new(ip: IpAddr, is_trusted: bool, is_internal: bool) -> Self {
        let ip = ip.to_canonical();
        Self { ip, ip_text: ip.to_string(), is_trusted, is_internal }
    }
}

/// What is said about a request besides its own fields.
pub(crate) struct About<'a> {
    pub(crate) peer: &'a ClientPeer,
    /// The client behind the peer, else the peer.
    pub(crate) client: IpAddr,
    pub(crate) request_id: &'a HeaderValue,
    /// The protocol that the client wants and the upstream is asked for.
    pub(crate) upgrade: Option<&'a HeaderValue>,
    /// Whether the upstream is asked first whether it wants the body.
    pub(crate) asks_first: bool,
    pub(crate) body: BodySize,
}

/// The size of a request's body, as the upstream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodySize {
    /// No body, and nothing was said about one.
    Unsaid,
    Length(u64),
    /// It comes in chunks.
    Unknown,
}

/// The client's own request id, if it is 1 to 128 visible characters.
pub(crate) fn kept_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    let id = values
        .next()
        .filter(|id| matches!(id.len(), 1..=128) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    id.filter(|_| values.next().is_none())
}

/// Whether a client waits to be told that its body is wanted. hyper tells it once the body is read.
pub(crate) fn asks_first(version: Version, headers: &HeaderMap) -> bool {
    let says = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    version > Version::HTTP_10 && headers.get(header::EXPECT).is_some_and(says)
}

/// What an upgrade asks for, if a request asks for one that is passed on.
///
/// `h2c` is not: what follows would be requests that nobody routed (RFC 9113 has dropped it).
pub(crate) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE)?;
    let mut options = headers.get_all(CONNECTION).iter().flat_map(options_of);
    if !options.any(|option| option.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let is_h2c = |protocol: &str| protocol.trim().eq_ignore_ascii_case("h2c");
    (!wanted.to_str().ok()?.split(',').any(is_h2c)).then(|| wanted.clone())
}

/// The head of a request as the upstream gets it (docs: "What an app sees"). `target` is in origin form.
pub(crate) fn toward_upstream(
    method: &Method,
    target: &str,
    host: &[u8],
    headers: &HeaderMap,
    about: &About<'_>,
) -> Bytes {
    let peer = about.peer;
    let mut head = Vec::with_capacity(USUAL_HEAD);
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    push(&mut head, "host", host);

    let named: Vec<HeaderName> =
        headers.get_all(CONNECTION).iter().flat_map(|value| fields_named_by(options_of(value))).collect();
    let mut is_forwarded = false;
    // What a trusted proxy says about itself and its client.
    let (mut chain, mut names_proto, mut names_host) = (Vec::new(), false, false);
    for (name, value) in headers {
        is_forwarded |= says_forwarded(name.as_str());
        // An expectation is passed on where there is a body that can wait for it.
        let is_ours_to_say = [HOST, CONTENT_LENGTH, CONNECTION, header::EXPECT].contains(name);
        if is_ours_to_say || is_hop_by_hop(name) || named.contains(name) || is_forged(name, peer.is_trusted) {
            continue;
        }
        if *name == X_FORWARDED_FOR {
            chain.extend_from_slice(value.as_bytes());
            chain.extend_from_slice(b", ");
            continue;
        }
        names_proto |= *name == X_FORWARDED_PROTO;
        names_host |= *name == X_FORWARDED_HOST;
        push(&mut head, name.as_str(), value.as_bytes());
    }
    chain.extend_from_slice(peer.ip_text.as_bytes());
    push(&mut head, X_FORWARDED_FOR.as_str(), &chain);
    if !names_proto {
        push(&mut head, X_FORWARDED_PROTO.as_str(), b"http");
    }
    if !names_host {
        push(&mut head, X_FORWARDED_HOST.as_str(), host);
    }
    push(&mut head, X_REQUEST_ID.as_str(), about.request_id.as_bytes());
    if about.client == peer.ip {
        push(&mut head, "p-ip", peer.ip_text.as_bytes());
    } else {
        push(&mut head, "p-ip", about.client.to_string().as_bytes());
    }
    if peer.is_internal && !is_forwarded {
        push(&mut head, "p-internal", b"1");
    }
    match about.body {
        BodySize::Unsaid => {}
        BodySize::Length(length) => {
            push(&mut head, CONTENT_LENGTH.as_str(), length.to_string().as_bytes());
        }
        BodySize::Unknown => push(&mut head, TRANSFER_ENCODING.as_str(), b"chunked"),
    }
    if about.asks_first {
        push(&mut head, header::EXPECT.as_str(), b"100-continue");
    }
    if let Some(protocol) = about.upgrade {
        push(&mut head, CONNECTION.as_str(), b"upgrade");
        push(&mut head, UPGRADE.as_str(), protocol.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    Bytes::from(head)
}

fn push(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// Says in the fields of an answer that its connection closes behind it.
pub(crate) fn close_behind(answer: &mut HeaderMap) {
    // An upgrade that is offered stays one of this connection.
    let options = if answer.contains_key(UPGRADE) { "close, upgrade" } else { "close" };
    answer.insert(CONNECTION, HeaderValue::from_static(options));
}

/// Whether the fields of an answer say so.
pub(crate) fn says_close(answer: &HeaderMap) -> bool {
    answer.get_all(CONNECTION).iter().flat_map(options_of).any(|option| option.eq_ignore_ascii_case("close"))
}

/// Whether a field is for one connection alone, as is `Connection` itself (RFC 9110, section 7.6.1).
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    const ONE_HOP: [HeaderName; 8] = [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        // Trailer fields are dropped.
        header::TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    ONE_HOP.contains(name)
}

/// The options of one `Connection` field.
pub(crate) fn options_of(value: &HeaderValue) -> impl Iterator<Item = &str> + Clone {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

/// The fields that options of `Connection` name: they too are for one connection alone.
pub(crate) fn fields_named_by<'a>(
    options: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = HeaderName> {
    let is_usual = |option: &str| {
        ["keep-alive", "close", "upgrade"].iter().any(|usual| option.eq_ignore_ascii_case(usual))
    };
    options
        .filter(move |option| !is_usual(option))
        .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
        .filter(|name| !is_protected(name))
}

/// Fields that end-to-end meaning hangs on: naming them in `Connection` removes nothing.
fn is_protected(name: &HeaderName) -> bool {
    const PROTECTED: [HeaderName; 16] = [
        HOST,
        CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::AUTHORIZATION,
        header::WWW_AUTHENTICATE,
        header::COOKIE,
        header::SET_COOKIE,
        header::LOCATION,
        header::CACHE_CONTROL,
        header::VARY,
        header::ORIGIN,
        header::STRICT_TRANSPORT_SECURITY,
        header::CONTENT_SECURITY_POLICY,
        header::VIA,
    ];
    PROTECTED.contains(name) || is_ours(name.as_str())
}

/// Names under which the front, and nobody else, tells the app about the client.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("p-")
        || [X_REQUEST_ID, FORWARDED, X_REAL_IP, CF_CONNECTING_IP].iter().any(|ours| name == ours.as_str())
}

/// Whether a client sends this under a name of the front's, or under one that programs take for such a name, or
/// for one that frames a request or names a proxy. Of a trusted proxy its word about the client stays.
///
/// CGI and WSGI write `_` for each sign in a name, and put `HTTP_` before it: to them `Content_Length` is a length, and
/// `Proxy` the variable `HTTP_PROXY` (CVE-2016-5385).
fn is_forged(name: &HeaderName, is_trusted: bool) -> bool {
    let text = name.as_str();
    if text.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-') {
        let sign_of = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '-' };
        let spelled: String = text.chars().map(sign_of).collect();
        return is_ours(&spelled) || says_forwarded(&spelled) || is_for_one_hop(&spelled);
    }
    text == "proxy" || (is_ours(text) && !(is_trusted && !text.starts_with("p-") && *name != X_REQUEST_ID))
}

/// Whether a field of this name frames a message or is for one connection.
fn is_for_one_hop(name: &str) -> bool {
    name == CONTENT_LENGTH.as_str()
        || HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| is_hop_by_hop(&name))
}
