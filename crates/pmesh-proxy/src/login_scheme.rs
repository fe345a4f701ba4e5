//! Schemes that log in a connection rather than a request: whoever sends the next request over it is taken for
//! the same user (NTLM; RFC 4559, section 6).

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};

/// Whether a request logs in its connection.
pub(crate) fn in_request(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().any(names_one)
}

/// Whether an answer asks for that. Its connection may be half-way through it.
pub(crate) fn in_answer(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED && headers.get_all(WWW_AUTHENTICATE).iter().any(names_one)
}

/// Whether one of the challenges or credentials in a field is of such a scheme.
fn names_one(value: &HeaderValue) -> bool {
    schemes_of(value.as_bytes())
        .any(|scheme| scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate"))
}

/// The schemes of a list of challenges (RFC 9110, section 11.6.1). Commas stand between challenges as well as
/// between their parameters; what an equals sign follows is the name of one of these.
fn schemes_of(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut in_quotes, mut is_escaped) = (false, false);
    let elements = value.split(move |byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_quotes => is_escaped = true,
            b'"' => in_quotes = !in_quotes,
            b',' => return !in_quotes,
            _ => {}
        }
        false
    });
    elements.filter_map(|element| {
        let element = element.trim_ascii();
        let end = element.iter().position(|byte| b" \t=".contains(byte)).unwrap_or(element.len());
        let (word, rest) = element.split_at(end);
        (!rest.trim_ascii_start().starts_with(b"=")).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    #[test]
    fn a_scheme_is_found_among_others_and_nothing_else_is_taken_for_one() {
        for (value, expected) in [
            ("NTLM", true),
            ("ntlm TlRMTVNTUAABAAAA=", true),
            ("Negotiate", true),
            ("NEGOTIATE YII=", true),
            ("Basic realm=\"x\", NTLM", true),
            ("Digest realm=\"a, b\", qop=\"auth\" , Negotiate", true),
            ("Basic realm=\"\\\", NTLM\"", false),
            ("Basic realm=\"x, NTLM, y\"", false),
            ("Basic NTLM=1", false),
            ("Basic a=b, NTLM = c", false),
            ("NTLMv3", false),
            ("Bearer NTLM", false),
            ("", false),
        ] {
            assert_eq!(names_one(&HeaderValue::from_static(value)), expected, "{value}");
        }
    }

    #[test]
    fn it_counts_in_its_own_field_and_in_an_answer_that_refuses() {
        let with = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        assert!(in_request(&with(AUTHORIZATION, "NTLM x")));
        assert!(!in_request(&with(COOKIE, "NTLM x")) && !in_request(&with(AUTHORIZATION, "Basic x")));
        assert!(in_answer(StatusCode::UNAUTHORIZED, &with(WWW_AUTHENTICATE, "Negotiate")));
        assert!(!in_answer(StatusCode::OK, &with(WWW_AUTHENTICATE, "Negotiate")));
    }
}
