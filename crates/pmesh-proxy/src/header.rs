//! Header fields: what is passed on, what is added, what is removed.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONNECTION, FORWARDED, HOST, UPGRADE},
};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
const P_IP: HeaderName = HeaderName::from_static("p-ip");
const P_INTERNAL: HeaderName = HeaderName::from_static("p-internal");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// Whether the peer is a proxy whose word counts.
    pub(crate) is_trusted: bool,
    /// The client behind it, else the peer.
    pub(crate) client: IpAddr,
}

/// Fields that say that somebody passed the request on.
pub(crate) fn was_forwarded(headers: &HeaderMap) -> bool {
    [X_FORWARDED_FOR, FORWARDED, X_REAL_IP, header::VIA, CF_CONNECTING_IP]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// The client's own request id, if it is 1 to 128 visible characters.
pub(crate) fn kept_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    let id = values
        .next()
        .filter(|id| matches!(id.len(), 1..=128) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    id.filter(|_| values.next().is_none())
}

/// What an upgrade asks for, if a request asks for one that is passed on.
///
/// `h2c` is not: what follows would be requests that nobody routed (RFC 9113 has dropped it).
pub(crate) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_named = connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    let wanted = headers.get(UPGRADE).filter(|_| is_named)?;
    let is_h2c = |protocol: &str| protocol.trim().eq_ignore_ascii_case("h2c");
    (!wanted.to_str().ok()?.split(',').any(is_h2c)).then(|| wanted.clone())
}

/// Turns what the client sent into what the upstream gets (docs: "What an app sees").
pub(crate) fn toward_upstream(headers: &mut HeaderMap, sender: Sender, request_id: &HeaderValue) {
    let is_internal = sender.peer.to_canonical().is_loopback() && !was_forwarded(headers);
    remove_hop_by_hop(headers);
    remove_forged(headers, sender.is_trusted);
    // hyper answers 100 by itself when the upstream begins to take the body.
    headers.remove(header::EXPECT);

    let peer = sender.peer.to_canonical();
    let mut chain = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    let chain = if chain.is_empty() {
        ip_value(peer)
    } else {
        chain.extend_from_slice(peer.to_string().as_bytes());
        HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).unwrap_or_else(|_| ip_value(peer))
    };
    headers.insert(X_FORWARDED_FOR, chain);
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
    headers.insert(P_IP, ip_value(sender.client));
    if is_internal {
        headers.insert(P_INTERNAL, HeaderValue::from_static("1"));
    }
}

/// Turns what the upstream answered into what the client gets.
pub(crate) fn toward_client(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

fn ip_value(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).expect("an address is visible ASCII")
}

/// Removes what is for one connection alone (RFC 9110, section 7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_options(headers)
            .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
            .filter(|name| !is_protected(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &header::PROXY_AUTHENTICATE,
        &header::PROXY_AUTHORIZATION,
        &header::TE,
        &header::TRANSFER_ENCODING,
        &UPGRADE,
    ] {
        headers.remove(name);
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
}

/// Fields that end-to-end meaning hangs on: naming them in `Connection` removes nothing.
fn is_protected(name: &HeaderName) -> bool {
    const PROTECTED: [HeaderName; 16] = [
        HOST,
        header::CONTENT_LENGTH,
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

/// Removes what a client sends under the front's names, and under names that CGI and WSGI read as them:
/// `_` and `-` are one letter there. Of a trusted proxy its word about the client stays.
fn remove_forged(headers: &mut HeaderMap, is_trusted: bool) {
    let is_forged = |name: &HeaderName| {
        let text = name.as_str();
        if text.contains('_') {
            is_ours(&text.replace('_', "-"))
        } else {
            is_ours(text) && !(is_trusted && !text.starts_with("p-") && name != X_REQUEST_ID)
        }
    };
    let forged: Vec<HeaderName> = headers.keys().filter(|name| is_forged(name)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}
