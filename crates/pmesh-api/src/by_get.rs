//! What acts by GET, and from whom that is not taken: links and tricked programs send nothing else.

use http::{HeaderMap, HeaderValue, header};
use pmesh_sessions::Descent;

use crate::error::{ApiError, Code};

/// What acts by GET, and how a caller who may not act so does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByGet {
    Action,
    /// `fetch` of `/repo`: it sends our git to whatever host the remote names, with the credentials for it.
    Fetch,
}

impl ByGet {
    fn refused(self, code: Code, by: &str) -> Result<(), ApiError> {
        let (what, remedy) = match self {
            Self::Action => ("an action by GET", "use POST"),
            Self::Fetch => ("a fetch by GET", "ask `/repo/fetch` by POST"),
        };
        Err(ApiError::new(code, format!("{what} is not taken from {by}; {remedy}")))
    }
}

/// Refuses an action by GET of a process that this server has started, or may have: a program that was
/// tricked into a request (a git remote answers with a redirect to here) nearly always sends a GET.
pub(crate) fn check_no_descendant(what: ByGet, descent: Descent) -> Result<(), ApiError> {
    let by = match descent {
        Descent::Stranger => return Ok(()),
        Descent::Descends => "what the server has started itself, such as this app, build or git",
        Descent::Unknown => {
            "what the server has started itself, and it cannot be told whether that asks: its process has gone, or \
             its descriptors may not be read"
        }
    };
    what.refused(Code::GetFromService, by)
}

/// Refuses an action by GET of which anything says that a browser sends it: a link or an image on any
/// page does that, and browsers send no `Sec-Fetch-*` to plain-HTTP names such as `pm3`.
pub(crate) fn check_no_browser(what: ByGet, headers: &HeaderMap) -> Result<(), ApiError> {
    let is_browser_header = |name: &str| {
        name.starts_with("sec-fetch-")
            || ["origin", "referer", "accept-language", "upgrade-insecure-requests"].contains(&name)
    };
    let is_browser_agent = |value: &HeaderValue| {
        value.as_bytes().get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"mozilla/"))
    };
    let named = headers.keys().map(http::HeaderName::as_str).find(|name| is_browser_header(name));
    let agent = headers.get_all(header::USER_AGENT).iter().any(is_browser_agent);
    match named.or(agent.then_some("user-agent")) {
        Some(name) => what.refused(
            Code::CrossSite,
            &format!("a browser, and the request's {name} header says that it is one"),
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};
    use pmesh_sessions::Descent;

    use super::{ByGet, Code, check_no_browser, check_no_descendant};

    fn headers((name, value): (&str, &str)) -> HeaderMap {
        HeaderMap::from_iter([(name.parse::<HeaderName>().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn nothing_that_the_server_has_started_acts_by_get() {
        for (what, remedy) in [(ByGet::Action, "use POST"), (ByGet::Fetch, "by POST")] {
            assert_eq!(check_no_descendant(what, Descent::Stranger), Ok(()));
            for descent in [Descent::Descends, Descent::Unknown] {
                let refused = check_no_descendant(what, descent).unwrap_err();
                assert_eq!(refused.code, Code::GetFromService, "{descent:?}");
                assert!(refused.message.ends_with(remedy), "{}", refused.message);
            }
        }
    }

    #[test]
    fn an_action_by_get_is_not_taken_from_a_browser() {
        for sign in [
            ("origin", "http://pm3"),
            ("referer", "http://pm3/"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "none"),
            ("accept-language", "en"),
            ("upgrade-insecure-requests", "1"),
            ("user-agent", "Mozilla/5.0 (X11)"),
        ] {
            let refused = check_no_browser(ByGet::Action, &headers(sign)).unwrap_err();
            assert_eq!(refused.code, Code::CrossSite, "{sign:?}");
        }
        for harmless in [("user-agent", "curl/8.5"), ("accept", "*/*"), ("user-agent", "NotMozilla/5.0")] {
            assert_eq!(check_no_browser(ByGet::Action, &headers(harmless)), Ok(()), "{harmless:?}");
        }
    }
}
