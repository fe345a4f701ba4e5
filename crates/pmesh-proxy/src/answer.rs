//! The front's own answers: a page, JSON or plain text, as the client asked for.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION,
        RETRY_AFTER,
    },
};

use crate::{answer_body::AnswerBody, bad_answer::BadAnswer};

/// Seconds after which a client may try again that was answered 503.
const RETRY_AFTER_SECONDS: u16 = 5;

/// What an own answer's form depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerForm {
    pub(crate) format: Format,
    /// HEAD: the same head, no body.
    pub(crate) is_head: bool,
}

/// The form of an own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Html,
    Json,
    Text,
}

/// Why the front answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The request breaks the protocol or can be read in two ways; the connection closes.
    Malformed(&'static str),
    /// A file asked for by something else than GET and HEAD.
    MethodNotAllowed(&'static str),
    /// CONNECT or TRACE; the connection closes, because what follows is no request.
    MethodRefused,
    TargetTooLong,
    Blocked,
    UnknownHost,
    NoRoute,
    /// The client sent nothing of its body for too long; the connection closes.
    BodyRests,
    /// Its upstreams were stopped, or its key leads nowhere.
    Stopped,
    /// Waited too long for an upstream, or too many wait.
    NoUpstream,
    /// Waited for an upstream when the front began to end.
    Ending,
    /// No descriptor of our own was left for long.
    NoDescriptor,
    /// No thread of our own was there for it, or a disk hangs.
    Busy,
    /// No upstream could be reached, or it sent no answer.
    BadUpstream,
    /// What it sent is no answer that may be passed on; never [`BadAnswer::Nothing`], which is no answer at all.
    BadAnswer(BadAnswer),
    UpstreamTooSlow,
    /// A handler of the front failed.
    Broken,
    /// A range of a file that begins behind its end; the file has so many bytes.
    BeyondEnd {
        len: u64,
    },
    /// `status CODE` of the manifest.
    Status(StatusCode),
}

impl Reason {
    /// The client broke off, or what it sent is no body.
    pub(crate) const BROKEN_BODY: Self = Self::Malformed("the body of the request is broken or incomplete");

    fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed(_) | Self::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::BodyRests => StatusCode::REQUEST_TIMEOUT,
            Self::Blocked => StatusCode::FORBIDDEN,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Stopped | Self::NoUpstream | Self::Ending | Self::NoDescriptor | Self::Busy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::BadUpstream | Self::BadAnswer(_) => StatusCode::BAD_GATEWAY,
            Self::UpstreamTooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BeyondEnd { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Status(status) => status,
        }
    }

    /// For programs.
    fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "bad_request",
            Self::MethodNotAllowed(_) | Self::MethodRefused => "method_not_allowed",
            Self::TargetTooLong => "uri_too_long",
            Self::BodyRests => "request_timeout",
            Self::Blocked => "blocked",
            Self::UnknownHost => "unknown_host",
            Self::NoRoute => "route_not_found",
            Self::Stopped => "service_stopped",
            Self::NoUpstream => "no_upstream",
            Self::Ending => "shutting_down",
            Self::NoDescriptor => "no_descriptor",
            Self::Busy => "busy",
            Self::BadUpstream => "bad_upstream",
            Self::BadAnswer(_) => "bad_answer",
            Self::UpstreamTooSlow => "upstream_timeout",
            Self::Broken => "internal",
            Self::BeyondEnd { .. } | Self::Status(_) => "status",
        }
    }

    /// For people.
    fn sentence(self) -> &'static str {
        match self {
            Self::Malformed(what) => what,
            Self::MethodNotAllowed(_) | Self::MethodRefused => "this cannot be done with that method",
            Self::TargetTooLong => "the address is too long",
            Self::BodyRests => "the rest of the request did not come in time",
            Self::Blocked => "requests from your address are blocked for a while",
            Self::UnknownHost => "this server does not know that host",
            Self::NoRoute => "nothing is here",
            Self::Stopped => "this service is stopped",
            Self::NoUpstream => "this service is not ready; try again in a moment",
            Self::Ending => "this server is about to end; try again in a moment",
            Self::NoDescriptor | Self::Busy => "this server has too much to do; try again in a moment",
            Self::BadUpstream => "this service did not answer",
            Self::BadAnswer(why) => why.for_visitors(),
            Self::UpstreamTooSlow => "this service did not answer in time",
            Self::Broken => "something went wrong here",
            Self::BeyondEnd { .. } | Self::Status(_) => {
                self.status().canonical_reason().unwrap_or("no reason is given")
            }
        }
    }
}

impl AnswerForm {
    pub(crate) fn by(method: &Method, headers: &HeaderMap) -> Self {
        Self { format: Format::accepted(headers), is_head: method == Method::HEAD }
    }

    /// The page for `reason`.
    pub(crate) fn page(self, reason: Reason) -> Response<AnswerBody> {
        let (status, code, sentence) = (reason.status(), reason.code(), reason.sentence());
        let (content_type, text) = match self.format {
            Format::Html => ("text/html; charset=utf-8", html_page(status, sentence)),
            Format::Json => (
                "application/json; charset=utf-8",
                format!("{{\"error\":\"{sentence}\",\"code\":\"{code}\"}}\n"),
            ),
            Format::Text => (
                "text/plain; charset=utf-8",
                format!("{} {}: {sentence}\n", status.as_u16(), name_of(status)),
            ),
        };
        let mut answer = self.content(status, content_type, text);
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match reason {
            Reason::Malformed(_) | Reason::BodyRests => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Reason::MethodRefused => {
                headers
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Reason::MethodNotAllowed(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Reason::Ending => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
                // Said here: the end may be seen by the request before its connection sees it.
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Reason::NoUpstream | Reason::NoDescriptor | Reason::Busy => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            Reason::BeyondEnd { len } => {
                let range = format!("bytes */{len}");
                headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits"));
            }
            Reason::TargetTooLong
            | Reason::Blocked
            | Reason::UnknownHost
            | Reason::NoRoute
            | Reason::Stopped
            | Reason::BadUpstream
            | Reason::BadAnswer(_)
            | Reason::UpstreamTooSlow
            | Reason::Broken
            | Reason::Status(_) => {}
        }
        answer
    }

    /// `return CODE "text"` of the manifest.
    pub(crate) fn text(self, status: StatusCode, text: &str) -> Response<AnswerBody> {
        self.content(status, "text/plain; charset=utf-8", text.to_owned())
    }

    /// `redirect "url"` of the manifest, and a folder without its slash; there is none if `to` is no field value.
    pub(crate) fn redirect(self, status: StatusCode, to: &str) -> Result<Response<AnswerBody>, Reason> {
        let location = HeaderValue::from_str(to).map_err(|_| Reason::Broken)?;
        let mut answer = self.text(status, &format!("{to}\n"));
        answer.headers_mut().insert(LOCATION, location);
        Ok(answer)
    }

    fn content(self, status: StatusCode, content_type: &'static str, text: String) -> Response<AnswerBody> {
        let mut answer = Response::new(AnswerBody::Empty);
        *answer.status_mut() = status;
        // These have no content, whatever they say about it (RFC 9110, sections 15.2, 15.3.5, 15.4.5).
        if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return answer;
        }
        if !text.is_empty() {
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        if !self.is_head && !text.is_empty() {
            *answer.body_mut() = AnswerBody::bytes(Bytes::from(text));
        }
        answer
    }
}

fn name_of(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

fn html_page(status: StatusCode, sentence: &str) -> String {
    let (number, name) = (status.as_u16(), name_of(status));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{number} {name}</title>\n\
         <h1>{number} {name}</h1>\n<p>{sentence}</p>\n</html>\n"
    )
}

impl Format {
    /// What `Accept` weighs most (RFC 9110, section 12.5.1); plain text where it names none of the three.
    fn accepted(headers: &HeaderMap) -> Self {
        let mut best = (Self::Text, 0.0);
        for value in headers.get_all(ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let format = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                    "text/html" | "application/xhtml+xml" => Self::Html,
                    "application/json" => Self::Json,
                    "text/plain" => Self::Text,
                    _ => continue,
                };
                let weight = parts
                    .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                    .map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0));
                if weight > best.1 {
                    best = (format, weight);
                }
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_for(accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Format::accepted(&headers)
    }

    #[test]
    fn an_answer_has_the_form_that_the_client_likes_best() {
        assert_eq!(
            format_for("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            Format::Html
        );
        assert_eq!(format_for("application/json"), Format::Json);
        assert_eq!(format_for("application/json, text/plain, */*"), Format::Json);
        assert_eq!(format_for("text/html;q=0.5, application/json"), Format::Json);
        assert_eq!(format_for("text/html;q=0, */*"), Format::Text);
        assert_eq!(format_for("*/*"), Format::Text);
        assert_eq!(format_for("image/png"), Format::Text);
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn a_status_without_content_gets_none() {
        let asked = AnswerForm { format: Format::Text, is_head: false };
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
            let answer = asked.page(Reason::Status(status));
            assert!(
                answer.headers().get(CONTENT_LENGTH).is_none() && matches!(answer.body(), AnswerBody::Empty)
            );
        }
    }

    #[test]
    fn what_is_no_address_is_never_put_into_a_field() {
        let asked = AnswerForm { format: Format::Text, is_head: false };
        let answer = asked.redirect(StatusCode::FOUND, "/a\r\nSet-Cookie: b");
        assert_eq!(answer.err().map(Reason::status), Some(StatusCode::INTERNAL_SERVER_ERROR));
    }
}
