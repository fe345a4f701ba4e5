//! Whether the begin of another head has come behind a request (pipelining, RFC 9112, section 9.3.2).

/// What follows the head of a request as its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    Exact(u64),
    /// It comes in chunks, which end in an empty line.
    Chunks,
}

/// Whether bytes behind a request are the begin of another one, for whoever passes bytes on to be read and does not
/// read them.
///
/// Heads end in an empty line, as chunked bodies do: where nothing came behind that, nothing is under way. Behind a
/// body of a given length that says nothing, and what came behind the head is counted. A head that came behind another
/// request is not looked at again: behind such a body nothing is found.
#[derive(Debug)]
pub(crate) struct NextHead {
    line: Line,
    /// How many bytes came behind the last head, if its end was seen.
    behind: Option<u64>,
    body: BodyLength,
}

/// What has come of the line that the next byte is of. Lines of a head may end in a bare LF (RFC 9112, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Nothing but line ends since an empty line: they are of no head (RFC 9112, section 2.2).
    First,
    /// Nothing but a CR, behind another line.
    Empty,
    Begun,
}

impl Line {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::First, b'\r' | b'\n') | (Self::Empty, b'\n') => Self::First,
            (Self::Empty, b'\r') | (Self::Begun, b'\n') => Self::Empty,
            _ => Self::Begun,
        }
    }

    fn after_all(self, bytes: &[u8]) -> Self {
        /// An empty line and the end of the one before it: what came earlier changes nothing.
        const ENOUGH: usize = 4;
        let (begin, last) = match bytes.len().checked_sub(ENOUGH + 1) {
            Some(before) => (Self::Begun, bytes.get(before + 1..).unwrap_or_default()),
            None => (self, bytes),
        };
        last.iter().fold(begin, |line, byte| line.after(*byte))
    }
}

impl NextHead {
    pub(crate) fn new() -> Self {
        Self { line: Line::First, behind: None, body: BodyLength::Exact(0) }
    }

    /// Bytes came while a head was waited for.
    pub(crate) fn on_head_bytes(&mut self, bytes: &[u8]) {
        let is_first = |byte: &u8| self.line == Line::First && matches!(byte, b'\r' | b'\n');
        let begin = bytes.iter().position(|byte| !is_first(byte)).unwrap_or(bytes.len());
        let bytes = bytes.get(begin..).unwrap_or_default();
        // Nearly always it is one head and nothing else.
        if !bytes.is_empty() && self.line.after_all(bytes) == Line::First {
            (self.line, self.behind) = (Line::First, Some(0));
            return;
        }
        for (at, byte) in bytes.iter().enumerate() {
            let before = self.line;
            self.line = before.after(*byte);
            if (before, self.line) == (Line::Empty, Line::First) {
                self.behind = Some(0);
                return self.on_later_bytes(bytes.get(at + 1..).unwrap_or_default());
            }
        }
    }

    /// Bytes came while a request was under way.
    pub(crate) fn on_later_bytes(&mut self, bytes: &[u8]) {
        self.behind = self.behind.map(|behind| behind + bytes.len() as u64);
        self.line = self.line.after_all(bytes);
    }

    /// A head is whole, and this is its body.
    pub(crate) fn on_head(&mut self, body: BodyLength) {
        self.body = body;
    }

    /// The request is done with. Whether a part of another head has come, and not all of it.
    pub(crate) fn on_done(&mut self) -> bool {
        let has_begun = self.line != Line::First
            && match self.body {
                BodyLength::Chunks | BodyLength::Exact(0) => true,
                BodyLength::Exact(length) => self.behind.is_some_and(|behind| behind > length),
            };
        if !has_begun {
            self.line = Line::First;
        }
        self.behind = None;
        has_begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Whether another head has begun behind a request of which `first` came at once, or byte by byte, and `later`
    /// while it was under way.
    fn has_begun(first: &str, body: BodyLength, later: &str) -> bool {
        let of = |pieces: &[&[u8]], later: &[&[u8]]| {
            let mut next = NextHead::new();
            for piece in pieces {
                next.on_head_bytes(piece);
            }
            next.on_head(body);
            for piece in later {
                next.on_later_bytes(piece);
            }
            next.on_done()
        };
        let in_bytes: Vec<&[u8]> = later.as_bytes().chunks(1).collect();
        let at_once = of(&[first.as_bytes()], &[later.as_bytes()]);
        assert_eq!(of(&[first.as_bytes()], &in_bytes), at_once, "{first:?} {later:?} byte by byte");
        // However the head comes in two pieces, if what is read with it is all of the second one.
        let head = first.find("\r\n\r\n").map_or(first.len(), |end| end + 3);
        for cut in 1..head {
            let (begin, end) = first.as_bytes().split_at(cut);
            assert_eq!(of(&[begin, end], &[later.as_bytes()]), at_once, "{first:?} cut at {cut}");
        }
        at_once
    }

    #[test]
    fn a_part_of_a_head_behind_a_request_is_found() {
        use BodyLength::{Chunks, Exact};
        for (behind_head, body, later, expected) in [
            ("", Exact(0), "", false),
            ("GET /x", Exact(0), "", true),
            ("GET /x HTTP/1.1\r\n", Exact(0), "", true),
            ("GET /x HTTP/1.1\r\nHost: a\r\n\r", Exact(0), "", true),
            ("\r\n", Exact(0), "", false),
            ("", Exact(0), "GET /x", true),
            ("", Exact(0), GET, false),
            (GET, Exact(0), "G", true),
            ("abc", Exact(3), "", false),
            ("a", Exact(3), "bc", false),
            ("abcG", Exact(3), "", true),
            ("a", Exact(3), "bcG", true),
            ("abc", Exact(3), GET, false),
            ("\r\n\r\n", Exact(4), "", false),
            ("\r\n\r\nG", Exact(4), "", true),
            ("3\r\nabc\r\n0\r\n\r\n", Chunks, "", false),
            ("3\r\nabc", Chunks, "\r\n0\r\n\r\n", false),
            ("3\r\nabc", Chunks, "\r\n0\r\nA: b\r\n\r\n", false),
            ("3\r\nabc\r\n0\r\n\r\nG", Chunks, "", true),
            ("3\r\nabc", Chunks, "\r\n0\r\n\r\nG", true),
        ] {
            for head in [POST, "\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n"] {
                let first = format!("{head}{behind_head}");
                assert_eq!(has_begun(&first, body, later), expected, "{behind_head:?} {body:?} {later:?}");
            }
        }
        assert!(has_begun("GET / HTTP/1.1\nHost: a\n\nG", Exact(0), ""));
        assert!(!has_begun("GET / HTTP/1.1\nHost: a\n\n", Exact(0), ""));
    }

    #[test]
    fn a_part_of_a_head_is_found_behind_any_number_of_requests_and_its_rest_ends_it() {
        let mut next = NextHead::new();
        next.on_head_bytes(format!("{GET}{GET}GET /x HTTP/1.1\r\nHo").as_bytes());
        for _ in 0..2 {
            next.on_head(BodyLength::Exact(0));
            assert!(next.on_done());
        }
        next.on_head_bytes(b"st: a\r\n\r\nabcG");
        next.on_head(BodyLength::Exact(3));
        assert!(next.on_done());
        next.on_head_bytes(b"ET / HTTP/1.1\r\nHost: a\r\n\r\n");
        next.on_head(BodyLength::Exact(0));
        assert!(!next.on_done());
    }

    #[test]
    fn line_ends_behind_a_request_are_no_head_however_many_come_at_a_time() {
        for behind in ["\r", "\r\n", "\r\n\r", "\r\n\r\r", "\r\n\r\n\r\n"] {
            let mut next = NextHead::new();
            next.on_head_bytes(GET.as_bytes());
            next.on_head(BodyLength::Exact(0));
            next.on_later_bytes(behind.as_bytes());
            assert!(!next.on_done(), "{behind:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_no_head() {
        let mut next = NextHead::new();
        next.on_head_bytes(format!("{GET}{POST}ab").as_bytes());
        next.on_head(BodyLength::Exact(0));
        assert!(next.on_done());
        next.on_head(BodyLength::Exact(3));
        next.on_later_bytes(b"c");
        assert!(!next.on_done());
        next.on_head_bytes(GET.as_bytes());
        next.on_head(BodyLength::Exact(0));
        assert!(!next.on_done());
    }
}
