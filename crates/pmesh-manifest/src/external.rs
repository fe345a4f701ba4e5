//! `!Proxy`: addresses that somebody else keeps running.

use pmesh_proxy::LoadBalancing;
use pmesh_supervisor::{ExternalAddress, ExternalSpec};

use crate::{
    balancing::balancing,
    elsewhere, host,
    mistake::quoted,
    monitor::{MonitoredKind, monitor},
    not_served::Feature,
    report::Report,
    value::{KeyedMap, Value},
};

const WANTED: &str = "an address such as `10.0.0.2:8080`, `http://app.internal:8080`, `[::1]:8080` or a port";

pub(crate) fn external(value: &Value, report: &mut Report<'_>) -> (ExternalSpec, LoadBalancing) {
    let mut spec = ExternalSpec::default();
    let mut spread = LoadBalancing::default();
    if !value.is_map() {
        spec.addresses = upstreams(value, report);
        return (spec, spread);
    }
    let mut table = KeyedMap::of(value, report, "a map of upstreams, monitor, lb");
    match table.take("upstreams") {
        Some(value) => spec.addresses = upstreams(&value, report),
        None => {
            value.mistake(report, "`upstreams` is missing; expected where to hand requests on to".to_owned());
        }
    }
    if let Some(value) = table.take("monitor") {
        spec.monitor = monitor(&value, MonitoredKind::Addresses, report);
    }
    if let Some(value) = table.take("lb") {
        spread = balancing(&value, report);
    }
    table.end_with(elsewhere::PROXY, report);
    (spec, spread)
}

fn upstreams(value: &Value, report: &mut Report<'_>) -> Vec<ExternalAddress> {
    let mut addresses: Vec<ExternalAddress> = Vec::new();
    if value.is_empty() {
        value.mistake(report, "expected at least one upstream, found none".to_owned());
        return addresses;
    }
    for item in value.one_or_many() {
        let Some(text) = item.text(report, WANTED) else { continue };
        if text.starts_with("https://") {
            item.not_served(report, Feature::HttpsUpstream);
            continue;
        }
        match address(text) {
            None => item.expected(report, WANTED),
            Some(address) if addresses.contains(&address) => {
                item.mistake(report, format!("{} is there twice", quoted(text)));
            }
            Some(address) => addresses.push(address),
        }
    }
    addresses
}

/// The address in `text`; a bare port is one of this machine, and `http://host` has port 80.
fn address(text: &str) -> Option<ExternalAddress> {
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    if let Some(port) = port(text) {
        return Some(ExternalAddress::new("127.0.0.1", port));
    }
    let (authority, default_port) = match text.strip_prefix("http://") {
        Some(rest) => (rest.strip_suffix('/').unwrap_or(rest), Some(80)),
        None => (text, None),
    };
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let host: std::net::Ipv6Addr = host.parse().ok()?;
        let port = if rest.is_empty() { default_port } else { port(rest.strip_prefix(':')?) }?;
        return Some(ExternalAddress::new(host.to_string(), port));
    }
    let (name, port) = match authority.split_once(':') {
        Some((name, text)) => (name, port(text)?),
        None => (authority, default_port?),
    };
    let host = host::parse(name).ok()?;
    Some(ExternalAddress::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_hosts_with_ports() {
        for (text, written) in [
            ("8080", "127.0.0.1:8080"),
            ("10.0.0.2:80", "10.0.0.2:80"),
            ("App.internal:80", "app.internal:80"),
            ("http://app:8080", "app:8080"),
            ("http://app/", "app:80"),
            ("[::1]:9", "[::1]:9"),
            ("http://[0:0::1]", "[::1]:80"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), Some(written), "{text}");
        }
        for bad in [
            "",
            "0",
            "70000",
            "app",
            ":80",
            "app:",
            "app:x",
            "app:+1",
            "::1:80",
            "[::1]",
            "http://a:80/x",
            "a b:80",
            "ftp://a:80",
        ] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
