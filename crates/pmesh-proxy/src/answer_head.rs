//! The head of an upstream's answer: its fields, and where the body ends (RFC 9112, section 6).

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
};

use hyper::ext::ReasonPhrase;

use crate::{
    bad_answer::{BadAnswer, MAX_FIELDS, MAX_HEAD},
    header,
};

/// Fields that the front adds to an answer.
const ADDED_FIELDS: usize = 2;

/// The head of an answer, without what is for one connection alone.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    pub(crate) status: StatusCode,
    /// The words behind the status, where they are others than usual.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BodyEnd,
    /// Whether the connection may be used again behind the body.
    pub(crate) is_kept: bool,
    /// What the upstream switches to, of 101, or would have the client switch to, of 426.
    pub(crate) protocol: Option<HeaderValue>,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// Where the last chunk says so.
    Chunked,
    /// Where the connection does.
    Close,
}

/// A field of a head: where its name and its value begin and end.
#[derive(Clone, Copy, Default)]
struct Field {
    name: (u16, u16),
    value: (u16, u16),
}

/// Takes a head off the front of the buffer, if a whole one is there; of interim answers (1xx but 101) only the
/// status is told. `to_head`: it answers HEAD, and has no body whatever it says about one.
pub(crate) fn take(
    buffer: &mut BytesMut,
    to_head: bool,
    mut on_interim: impl FnMut(StatusCode),
) -> Result<Option<AnswerHead>, BadAnswer> {
    loop {
        match take_one(buffer, to_head)? {
            Some(head)
                if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                on_interim(head.status);
            }
            other => return Ok(other),
        }
    }
}

fn take_one(buffer: &mut BytesMut, to_head: bool) -> Result<Option<AnswerHead>, BadAnswer> {
    let mut fields = [Field::default(); MAX_FIELDS];
    let mut space = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let read = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, buffer, &mut space)
        .map_err(|error| BadAnswer::of_head(error, buffer))?;
    let httparse::Status::Complete(length) = read else {
        return if buffer.len() > MAX_HEAD { Err(BadAnswer::HeadTooLong) } else { Ok(None) };
    };
    let is_http_11 = parsed.version == Some(1);
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(BadAnswer::StatusLine)?;
    let reason = unusual_reason(status, parsed.reason.unwrap_or_default(), buffer);
    let base = buffer.as_ptr().addr();
    let within = |part: &[u8]| {
        let begin = part.as_ptr().addr() - base;
        let end = begin + part.len();
        u16::try_from(begin)
            .and_then(|begin| Ok((begin, u16::try_from(end)?)))
            .map_err(|_| BadAnswer::HeadTooLong)
    };
    let count = parsed.headers.len();
    for (field, header) in fields.iter_mut().zip(parsed.headers.iter()) {
        *field = Field { name: within(header.name.as_bytes())?, value: within(header.value)? };
    }
    let head = buffer.split_to(length).freeze();

    let mut headers = HeaderMap::with_capacity(count + ADDED_FIELDS);
    let mut reading = Reading::default();
    let mut named: Option<Vec<HeaderName>> = None;
    let (mut protocol, mut length_value) = (None, None);
    for field in fields.into_iter().take(count) {
        let range = |(begin, end): (u16, u16)| usize::from(begin)..usize::from(end);
        let name = HeaderName::from_bytes(&head[range(field.name)]).map_err(|_| BadAnswer::FieldName)?;
        let value = HeaderValue::from_maybe_shared(head.slice(range(field.value)))
            .map_err(|_| BadAnswer::FieldValue)?;
        if name == CONTENT_LENGTH {
            let length = reading.add_length(&value)?;
            length_value = Some(if value.as_bytes().contains(&b',') { length.into() } else { value });
        } else if name == TRANSFER_ENCODING {
            reading.add_coding(&value)?;
        } else if name == UPGRADE {
            protocol = Some(value);
        } else if name == http::header::CONNECTION {
            let options = header::options_of(&value);
            reading.add_options(options.clone());
            named.get_or_insert_default().extend(header::fields_named_by(options));
        } else if !header::is_hop_by_hop(&name) {
            headers.append(name, value);
        }
    }
    for name in named.unwrap_or_default() {
        headers.remove(name);
    }
    let body = if to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        BodyEnd::Empty
    } else {
        reading.body_end(is_http_11)?
    };
    // Passed on once, and only without a transfer coding, which would overrule it (RFC 9112, section 6.3).
    if let Some(length) = length_value.filter(|_| !reading.is_chunked) {
        headers.insert(CONTENT_LENGTH, length);
    }
    // An app that announces content with a 204 may send it too, and it would be read as the next answer.
    let lies = status == StatusCode::NO_CONTENT && (reading.is_chunked || reading.length.unwrap_or(0) > 0);
    let is_kept = reading.is_kept(is_http_11) && body != BodyEnd::Close && !lies;
    Ok(Some(AnswerHead { status, reason, headers, body, is_kept, protocol }))
}

/// The reason phrase, if it is another one than hyper writes by itself. `parsed` is empty where it has other
/// letters than those of ASCII, which it may have (RFC 9112, section 4).
fn unusual_reason(status: StatusCode, parsed: &str, head: &[u8]) -> Option<ReasonPhrase> {
    /// What stands before it: `HTTP/1.1 200`.
    const BEFORE: usize = 12;
    match (status.canonical_reason(), parsed) {
        (Some(usual), parsed) if usual == parsed => None,
        (usual, "") => {
            let line = head.get(BEFORE..).unwrap_or_default().split(|byte| matches!(byte, b'\r' | b'\n'));
            let raw = line.into_iter().next().unwrap_or_default().trim_ascii();
            // Without words the status has its usual ones.
            let is_said = usual.is_none() || !raw.is_empty();
            is_said.then(|| ReasonPhrase::try_from(raw).ok()).flatten()
        }
        (_, parsed) => ReasonPhrase::try_from(parsed.as_bytes()).ok(),
    }
}

/// What fields say about the body and the connection.
#[derive(Default)]
struct Reading {
    length: Option<u64>,
    is_chunked: bool,
    says_close: bool,
    says_keep_alive: bool,
}

impl Reading {
    /// One number, however often it is said (RFC 9110, section 8.6).
    fn add_length(&mut self, value: &HeaderValue) -> Result<u64, BadAnswer> {
        for text in value.to_str().map_err(|_| BadAnswer::Length)?.split(',').map(str::trim) {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let length = text.parse().ok().filter(|_| is_number).ok_or(BadAnswer::Length)?;
            if self.length.is_some_and(|known| known != length) {
                return Err(BadAnswer::Length);
            }
            self.length = Some(length);
        }
        self.length.ok_or(BadAnswer::Length)
    }

    /// `chunked` alone: nothing else was asked for (the front sends no `TE`).
    fn add_coding(&mut self, value: &HeaderValue) -> Result<(), BadAnswer> {
        if self.is_chunked || !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(BadAnswer::Coding);
        }
        self.is_chunked = true;
        Ok(())
    }

    fn add_options<'a>(&mut self, options: impl Iterator<Item = &'a str>) {
        for option in options {
            self.says_close |= option.eq_ignore_ascii_case("close");
            self.says_keep_alive |= option.eq_ignore_ascii_case("keep-alive");
        }
    }

    fn body_end(&self, is_http_11: bool) -> Result<BodyEnd, BadAnswer> {
        match (self.is_chunked, self.length) {
            (true, _) if !is_http_11 => Err(BadAnswer::OldCoding),
            (true, _) => Ok(BodyEnd::Chunked),
            (false, Some(0)) => Ok(BodyEnd::Empty),
            (false, Some(length)) => Ok(BodyEnd::Length(length)),
            (false, None) => Ok(BodyEnd::Close),
        }
    }

    /// Whether the connection may be used again. Not where there is both a coding and a length: where the answer ends would
    /// be a matter of dispute (RFC 9112, section 6.3).
    fn is_kept(&self, is_http_11: bool) -> bool {
        !self.says_close
            && (is_http_11 || self.says_keep_alive)
            && !(self.is_chunked && self.length.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<AnswerHead>, BadAnswer> {
        take(&mut BytesMut::from(text), false, |_| {})
    }

    /// Where the body ends and whether the connection is kept.
    fn end(text: &str) -> Result<(BodyEnd, bool), BadAnswer> {
        read(text).map(|head| head.map(|head| (head.body, head.is_kept)).expect("a whole head"))
    }

    #[test]
    fn a_head_is_taken_whole_and_what_follows_is_left() {
        let mut buffer = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a\r\n");
        assert!(take(&mut buffer, false, |_| {}).unwrap().is_none());
        buffer.extend_from_slice(b"Set-Cookie: b\r\nContent-Length: 4\r\n\r\nbody");
        let head = take(&mut buffer, false, |_| {}).unwrap().unwrap();
        assert_eq!((head.status, head.body, head.is_kept), (StatusCode::OK, BodyEnd::Length(4), true));
        assert_eq!(head.headers["content-type"], "text/plain");
        assert_eq!(head.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(buffer, "body");
    }

    #[test]
    fn interim_answers_are_dropped_and_a_switch_is_none() {
        let head = read(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
             HTTP/1.1 204 No Content\r\n\r\n",
        );
        let head = head.unwrap().unwrap();
        assert_eq!((head.status, head.body, head.is_kept), (StatusCode::NO_CONTENT, BodyEnd::Empty, true));
        let switch = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: y\r\n\r\n";
        let head = read(switch).unwrap().unwrap();
        assert_eq!(head.protocol.unwrap(), "websocket");
        assert_eq!(head.headers.len(), 1);
    }

    #[test]
    fn the_end_of_a_body_is_where_rfc_9112_says() {
        for (fields, expected) in [
            ("1.1 200 OK\r\nContent-Length: 0\r\n", Ok((BodyEnd::Empty, true))),
            ("1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n", Ok((BodyEnd::Length(5), true))),
            ("1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", Ok((BodyEnd::Chunked, true))),
            (
                "1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                Ok((BodyEnd::Chunked, false)),
            ),
            ("1.1 200 OK\r\n", Ok((BodyEnd::Close, false))),
            ("1.1 204 No Content\r\nContent-Length: 0\r\n", Ok((BodyEnd::Empty, true))),
            ("1.1 204 No Content\r\nContent-Length: 5\r\n", Ok((BodyEnd::Empty, false))),
            ("1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", Ok((BodyEnd::Empty, false))),
            ("1.1 304 Not Modified\r\nContent-Length: 5\r\n", Ok((BodyEnd::Empty, true))),
            ("1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n", Ok((BodyEnd::Length(5), false))),
            ("1.0 200 OK\r\nContent-Length: 5\r\n", Ok((BodyEnd::Length(5), false))),
            ("1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n", Ok((BodyEnd::Length(5), true))),
            ("1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", Err(BadAnswer::OldCoding)),
            ("1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n", Err(BadAnswer::Length)),
            ("1.1 200 OK\r\nContent-Length: +5\r\n", Err(BadAnswer::Length)),
            ("1.1 200 OK\r\nContent-Length:\r\n", Err(BadAnswer::Length)),
            ("1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n", Err(BadAnswer::Length)),
            ("1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", Err(BadAnswer::Coding)),
            (
                "1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Err(BadAnswer::Coding),
            ),
            ("1.1 200 OK\r\nContent-Length : 5\r\n", Err(BadAnswer::SpaceBeforeColon)),
            ("1.1 2000 OK\r\n", Err(BadAnswer::StatusLine)),
        ] {
            assert_eq!(end(&format!("HTTP/{fields}\r\n")), expected, "{fields:?}");
        }
        let to_head = take(&mut BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), true, |_| {});
        let head = to_head.unwrap().unwrap();
        assert_eq!((head.body, head.is_kept), (BodyEnd::Empty, true));
        assert_eq!(head.headers[CONTENT_LENGTH], "5", "what a GET would get");
    }

    #[test]
    fn fields_of_one_connection_stay_there() {
        let head = read(
            "HTTP/1.1 200 OK\r\nConnection: X-Mine, Content-Type\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
             Content-Type: a/b\r\nProxy-Authenticate: Basic\r\nContent-Length: 1\r\n\r\n",
        );
        let head = head.unwrap().unwrap();
        assert!(head.headers.contains_key("content-type") && head.headers.contains_key("content-length"));
        assert_eq!(head.headers.len(), 2, "{:?}", head.headers);
    }

    #[test]
    fn a_head_has_an_end() {
        assert_eq!(
            read(&format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(MAX_HEAD))).err(),
            Some(BadAnswer::HeadTooLong)
        );
        let fields = "X: y\r\n".repeat(MAX_FIELDS + 1);
        assert_eq!(read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).err(), Some(BadAnswer::TooManyFields));
    }

    #[test]
    fn a_head_that_is_refused_says_why() {
        for (head, why) in [
            ("SSH-2.0-OpenSSH_9.2p1\r\n", BadAnswer::StatusLine),
            ("HTTP/2.0 200 OK\r\n\r\n", BadAnswer::StatusLine),
            ("HTTP/1.1 20 OK\r\n\r\n", BadAnswer::StatusLine),
            ("HTTP/1.1 200 OK\r\nA: b\r\nC : d\r\n\r\n", BadAnswer::SpaceBeforeColon),
            ("HTTP/1.1 200 OK\r\nA\t: b\r\n\r\n", BadAnswer::SpaceBeforeColon),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", BadAnswer::FoldedField),
            ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", BadAnswer::FoldedField),
            ("HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", BadAnswer::FieldName),
            ("HTTP/1.1 200 OK\r\n: c\r\n\r\n", BadAnswer::FieldName),
            ("HTTP/1.1 200 OK\r\nA\r\n\r\n", BadAnswer::FieldName),
            ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", BadAnswer::FieldValue),
            ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", BadAnswer::FieldValue),
            ("HTTP/1.1 200 OK\rA: b\r\n\r\n", BadAnswer::StatusLine),
        ] {
            assert_eq!(read(head).err(), Some(why), "{head:?}");
        }
    }
}
