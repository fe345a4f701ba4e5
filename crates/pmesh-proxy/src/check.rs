//! What hyper lets through and no program behind should see, and the host that a request names.

use std::borrow::Cow;

use http::{
    HeaderMap, Method, Uri, Version,
    header::{HOST, TRANSFER_ENCODING},
    request::Parts,
};

use crate::{answer::Reason, host};

/// The longest target of a request, in bytes; beyond it 414.
const MAX_TARGET: usize = 16 << 10;

/// Refuses what no program should see.
pub(crate) fn check(request: &Parts) -> Result<(), Reason> {
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return Err(Reason::MethodRefused);
    }
    let target = &request.uri;
    if target.path_and_query().map_or(0, |target| target.as_str().len()) > MAX_TARGET {
        return Err(Reason::TargetTooLong);
    }
    // hyper takes the last of several codings; whoever is behind us may take another one.
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Reason::Malformed("chunked, once, is the only transfer coding here"));
    }
    Ok(())
}

/// The name of the host that a request is for.
///
/// RFC 9112, section 3.2: exactly one `Host`, and the target's authority before it.
pub(crate) fn host_of(request: &Parts) -> Result<Cow<'_, str>, Reason> {
    let in_field = host_in_field(&request.headers, request.version)?;
    let target: &Uri = &request.uri;
    match target.authority() {
        None => Ok(in_field),
        Some(_) if !matches!(target.scheme_str(), Some("http" | "https")) => {
            Err(Reason::Malformed("the target of the request is no http address"))
        }
        Some(authority) => host::name_in(authority.as_str())
            .ok_or(Reason::Malformed("the target of the request names no host")),
    }
}

fn host_in_field(headers: &HeaderMap, version: Version) -> Result<Cow<'_, str>, Reason> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Reason::Malformed("the request names two hosts"));
    }
    let in_field = match host {
        None if version < Version::HTTP_11 => Some(Cow::Borrowed("")),
        None => None,
        Some(value) => value.to_str().ok().and_then(host::name_in),
    };
    in_field.ok_or(Reason::Malformed("the request names no host, or what it names is none"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(method: Method, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_no_program_should_see_is_refused() {
        let longest = format!("/{}", "x".repeat(MAX_TARGET - 1));
        let refused = |method, target: &str, fields: &[_]| check(&request(method, target, fields)).err();
        assert_eq!(refused(Method::GET, &longest, &[]), None);
        assert_eq!(refused(Method::GET, &(longest + "x"), &[]), Some(Reason::TargetTooLong));
        assert_eq!(refused(Method::TRACE, "/", &[]), Some(Reason::MethodRefused));
        assert_eq!(refused(Method::CONNECT, "site.test:443", &[]), Some(Reason::MethodRefused));
        let coding = "transfer-encoding";
        assert_eq!(refused(Method::POST, "/", &[(coding, "Chunked")]), None);
        for codings in [&[(coding, "gzip, chunked")][..], &[(coding, "chunked"), (coding, "chunked")]] {
            assert!(matches!(refused(Method::POST, "/", codings), Some(Reason::Malformed(_))), "{codings:?}");
        }
    }

    #[test]
    fn a_request_is_for_the_host_of_its_target_else_of_its_field() {
        for (target, fields, expected) in [
            ("/", &[("host", "A.test:80")][..], Some("a.test")),
            ("http://b.test/", &[("host", "a.test")], Some("b.test")),
            ("ftp://b.test/", &[("host", "a.test")], None),
            ("/", &[], None),
            ("/", &[("host", "a.test"), ("host", "a.test")], None),
            ("/", &[("host", "a b")], None),
        ] {
            let request = request(Method::GET, target, fields);
            assert_eq!(host_of(&request).as_deref().ok(), expected, "{target} {fields:?}");
        }
        let mut old = request(Method::GET, "/", &[]);
        old.version = Version::HTTP_10;
        assert_eq!(host_of(&old).as_deref(), Ok(""));
    }
}
