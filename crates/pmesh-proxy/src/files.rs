//! Static files: from a path to an answer, read from disk each time, never from outside their folder.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        IF_RANGE, LAST_MODIFIED, RANGE,
    },
};
use hyper::body::{Body, Frame, SizeHint};
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description,
};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    answer::{Asked, Reason},
    beneath::{self, Opened},
    body::{AnswerBody, BoxError},
    content_type,
    path::{self, Path},
    spec::{FilesSpec, NotFound},
};

/// What is read at a time, in bytes; a file up to this size is read in one go with its opening.
const CHUNK: u64 = 128 << 10;
/// RFC 9110, section 5.6.7.
const HTTP_DATE: &[BorrowedFormatItem<'static>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// What looking for a file brought.
pub(crate) enum Found {
    Answer(Response<AnswerBody>),
    /// The next route is tried.
    Nothing,
    /// The same, but where no other route wants it, 405 says more than 404.
    OtherMethod,
}

/// Looks for the file of a path and answers with it.
///
/// Files are for GET and HEAD. Anything else goes to the next route where a miss does, and is 405 where
/// a miss is 404. A folder without its slash is sent to where the slash is, so that relative links in
/// its index lead into it.
pub(crate) async fn find(
    files: &Arc<FilesSpec>,
    method: &Method,
    headers: &HeaderMap,
    path: &Path<'_>,
    query: Option<&str>,
    asked: Asked,
) -> Found {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return match files.not_found {
            NotFound::NextRoute => Found::OtherMethod,
            NotFound::Default | NotFound::File(_) => {
                Found::Answer(asked.answer(Reason::MethodNotAllowed("GET, HEAD")))
            }
        };
    }
    let wanted = inside_folder(&path.forwarded);
    let spec = files.clone();
    let looked = spawn_blocking(move || look(&spec, wanted.as_deref())).await;
    match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(Look::File(file)) => Found::Answer(file.answer(StatusCode::OK, headers, asked)),
        Ok(Look::Folder) => {
            // Two slashes in front would be another host.
            let folder = format!("/{}/", path.forwarded.trim_matches('/'));
            let to = query.map_or_else(|| folder.clone(), |query| format!("{folder}?{query}"));
            Found::Answer(asked.redirect(StatusCode::MOVED_PERMANENTLY, &to))
        }
        Ok(Look::NotFound(file)) => {
            Found::Answer(file.answer(StatusCode::NOT_FOUND, &HeaderMap::new(), asked))
        }
        Ok(Look::Nothing) => match files.not_found {
            NotFound::NextRoute => Found::Nothing,
            NotFound::Default | NotFound::File(_) => Found::Answer(asked.answer(Reason::NoRoute)),
        },
        Err(error) => {
            tracing::error!(%error, folder = %files.folder.display(), "a file cannot be read");
            Found::Answer(asked.answer(Reason::Broken))
        }
    }
}

/// The path below the folder that a request's path stands for, percent-decoded; it ends with `/` where
/// that does. `None` where no file can be: an encoded slash, nothing between two slashes, or a name that
/// begins with a dot (`.git`, `.env`) but for `.well-known` (RFC 8615).
fn inside_folder(path: &str) -> Option<Vec<u8>> {
    let decoded = path::percent_decode(path.strip_prefix('/')?.as_bytes()).ok()?;
    if decoded.iter().filter(|byte| **byte == b'/').count() != path.matches('/').count() - 1 {
        return None;
    }
    let mut segments = decoded.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if (segment.is_empty() && !is_last) || (segment.starts_with(b".") && segment != b".well-known") {
            return None;
        }
    }
    Some(decoded)
}

/// What is on the disk.
enum Look {
    File(Box<Ready>),
    /// A folder with an index, asked for without its slash.
    Folder,
    /// The page for a miss.
    NotFound(Box<Ready>),
    Nothing,
}

/// Blocks on the disk.
fn look(spec: &FilesSpec, wanted: Option<&[u8]>) -> io::Result<Look> {
    if let Some(wanted) = wanted {
        let (name, has_slash) = match wanted.strip_suffix(b"/") {
            Some(name) => (name, true),
            None => (wanted, wanted.is_empty()),
        };
        match beneath::open(&spec.folder, name)? {
            Opened::File(file) if !has_slash => return Ready::new(file, name).map(Box::new).map(Look::File),
            Opened::Folder => {
                let mut index = name.to_vec();
                if !name.is_empty() {
                    index.push(b'/');
                }
                index.extend_from_slice(spec.index.trim_start_matches('/').as_bytes());
                if let Opened::File(file) = beneath::open(&spec.folder, &index)? {
                    if !has_slash {
                        return Ok(Look::Folder);
                    }
                    return Ready::new(file, &index).map(Box::new).map(Look::File);
                }
            }
            Opened::File(_) | Opened::Nothing => {}
        }
    }
    if let NotFound::File(page) = &spec.not_found {
        let page = page.trim_start_matches('/').as_bytes();
        if let Opened::File(file) = beneath::open(&spec.folder, page)? {
            return Ready::new(file, page).map(Box::new).map(Look::NotFound);
        }
    }
    Ok(Look::Nothing)
}

/// A file that can be answered with.
struct Ready {
    file: File,
    len: u64,
    modified: SystemTime,
    content_type: &'static str,
    /// All of it, where that is little.
    content: Option<Bytes>,
}

impl Ready {
    fn new(file: File, name: &[u8]) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let len = metadata.len();
        let content = (len <= CHUNK).then(|| read_at(&file, 0, len)).transpose()?;
        let content_type = content_type::of(&String::from_utf8_lossy(name));
        Ok(Self { file, len, modified: metadata.modified()?, content_type, content })
    }

    fn answer(self, status: StatusCode, headers: &HeaderMap, asked: Asked) -> Response<AnswerBody> {
        let modified = OffsetDateTime::from(self.modified);
        let tag = format!("W/\"{:x}-{:x}\"", modified.unix_timestamp_nanos(), self.len);
        let mut answer = Response::new(AnswerBody::Empty);
        *answer.status_mut() = status;
        let fields = answer.headers_mut();
        fields.insert(ETAG, HeaderValue::try_from(tag.as_str()).expect("hexadecimal digits and quotes"));
        if let Some(date) = modified.format(HTTP_DATE).ok().and_then(|date| HeaderValue::try_from(date).ok())
        {
            fields.insert(LAST_MODIFIED, date);
        }
        if status == StatusCode::OK && is_unchanged(headers, &tag, modified) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let (mut from, mut len) = (0, self.len);
        // Our validator is weak, so a range with a condition is never met (RFC 9110, section 13.1.5).
        if status == StatusCode::OK
            && !asked.is_head
            && !headers.contains_key(IF_RANGE)
            && let Some(range) = headers.get(RANGE).and_then(|range| range_of(range, self.len))
        {
            match range {
                Range::Part { first, last } => {
                    (from, len) = (first, last - first + 1);
                    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
                    let text = format!("bytes {first}-{last}/{}", self.len);
                    let fields = answer.headers_mut();
                    fields.insert(CONTENT_RANGE, HeaderValue::try_from(text).expect("digits"));
                }
                Range::Beyond => {
                    let mut refusal = asked.answer(Reason::Status(StatusCode::RANGE_NOT_SATISFIABLE));
                    let text = format!("bytes */{}", self.len);
                    refusal.headers_mut().insert(CONTENT_RANGE, HeaderValue::try_from(text).expect("digits"));
                    return refusal;
                }
            }
        }
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
        if !asked.is_head && len > 0 {
            *answer.body_mut() = match self.content {
                Some(content) => {
                    let range = usize::try_from(from)
                        .ok()
                        .zip(usize::try_from(from + len).ok())
                        .map_or(0..0, |(from, to)| from..to);
                    AnswerBody::bytes(content.slice(range))
                }
                None => AnswerBody::File(FileBody {
                    file: Arc::new(self.file),
                    at: from,
                    left: len,
                    reading: None,
                }),
            };
        }
        answer
    }
}

/// RFC 9110, section 13.2.2: the entity tag decides where there is one.
fn is_unchanged(headers: &HeaderMap, tag: &str, modified: OffsetDateTime) -> bool {
    if headers.contains_key(IF_NONE_MATCH) {
        let strong = tag.trim_start_matches("W/");
        return headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
            let mut tags = value.split(',').map(str::trim);
            tags.any(|one| one == "*" || one.trim_start_matches("W/") == strong)
        });
    }
    let since = headers.get(IF_MODIFIED_SINCE).and_then(|since| since.to_str().ok());
    since
        .and_then(|since| PrimitiveDateTime::parse(since, HTTP_DATE).ok())
        .is_some_and(|since| modified.unix_timestamp() <= since.assume_utc().unix_timestamp())
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Part { first: u64, last: u64 },
    Beyond,
}

/// A single range of bytes; `None` for what is to be ignored (RFC 9110, section 14.2).
fn range_of(range: &HeaderValue, len: u64) -> Option<Range> {
    let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    if first.is_empty() {
        let suffix = number(last)?.min(len);
        return Some(match suffix {
            0 => Range::Beyond,
            suffix => Range::Part { first: len - suffix, last: len - 1 },
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        None
    } else if first >= len {
        Some(Range::Beyond)
    } else {
        Some(Range::Part { first, last: last.min(len - 1) })
    }
}

/// `len` bytes of a file; an error if it has become shorter.
fn read_at(file: &File, at: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, at)?;
    Ok(Bytes::from(buffer))
}

/// A file on its way to the client: one piece in memory at a time.
pub(crate) struct FileBody {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (file, at, len) = (self.file.clone(), self.at, self.left.min(CHUNK));
        let reading = self.reading.get_or_insert_with(|| spawn_blocking(move || read_at(&file, at, len)));
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        self.at += len;
        self.left -= len;
        let bytes = read.map_err(BoxError::from).and_then(|bytes| bytes.map_err(BoxError::from));
        Poll::Ready(Some(bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
