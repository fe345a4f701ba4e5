//! Static files: from a path to an answer, read from disk each time, never from outside their folder.

use std::{
    fs::File,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        IF_RANGE, LAST_MODIFIED, RANGE,
    },
};
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description,
};
use tokio::task::spawn_blocking;

use crate::{
    answer::{Asked, Reason},
    answer_body::AnswerBody,
    beneath::{self, Opened},
    budget::{Descriptors, is_for_want_of_our_own},
    content_type,
    file_body::{CHUNK, FileBody, read_at},
    path::Path,
    relief::Relief,
    spec::{FilesSpec, NotFound},
};

/// Descriptors that looking for a file takes at a time: its folder and itself.
const AT_A_TIME: usize = 2;
/// How long it waits for them.
const PATIENCE: Duration = Duration::from_secs(5);
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
    relief: &Relief,
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
    let wanted = inside_folder(path);
    let Some(descriptors) = relief.for_work(AT_A_TIME, PATIENCE).await else {
        return Found::Answer(asked.answer(Reason::NoDescriptor));
    };
    let spec = files.clone();
    let looked = spawn_blocking(move || look(&spec, wanted.as_deref(), descriptors)).await;
    match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(Look::File(file)) => Found::Answer(file.answer(StatusCode::OK, headers, asked)),
        Ok(Look::Folder) => {
            let folder = path.as_target();
            let to = match query {
                Some(query) => format!("{folder}/?{query}"),
                None => folder + "/",
            };
            Found::Answer(asked.redirect(StatusCode::MOVED_PERMANENTLY, &to))
        }
        Ok(Look::NotFound(file)) => {
            Found::Answer(file.answer(StatusCode::NOT_FOUND, &HeaderMap::new(), asked))
        }
        Ok(Look::Nothing) => match files.not_found {
            NotFound::NextRoute => Found::Nothing,
            NotFound::Default | NotFound::File(_) => Found::Answer(asked.answer(Reason::NoRoute)),
        },
        Err(error) if is_for_want_of_our_own(&error) => {
            relief.after_a_lack().await;
            Found::Answer(asked.answer(Reason::NoDescriptor))
        }
        Err(error) => {
            tracing::error!(%error, folder = %files.folder.display(), "a file cannot be read");
            Found::Answer(asked.answer(Reason::Broken))
        }
    }
}

/// The path below the folder that a request's path stands for, the same that was routed; it ends with `/` where
/// that does. `None` where no file is answered: a name that begins with a dot (`.git`, `.env`) but for
/// `.well-known` (RFC 8615).
fn inside_folder(path: &Path<'_>) -> Option<Vec<u8>> {
    let wanted = path.bytes().ok()?;
    let is_hidden = |segment: &[u8]| segment.starts_with(b".") && segment != b".well-known";
    (!wanted.split(|byte| *byte == b'/').any(is_hidden)).then_some(wanted)
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
fn look(spec: &FilesSpec, wanted: Option<&[u8]>, descriptors: Descriptors) -> io::Result<Look> {
    if let Some(wanted) = wanted {
        let (name, has_slash) = match wanted.strip_suffix(b"/") {
            Some(name) => (name, true),
            None => (wanted, wanted.is_empty()),
        };
        match beneath::open(&spec.folder, name)? {
            Opened::File(file) if !has_slash => {
                return Ready::new(file, name, descriptors).map(Box::new).map(Look::File);
            }
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
                    return Ready::new(file, &index, descriptors).map(Box::new).map(Look::File);
                }
            }
            Opened::File(_) | Opened::Nothing => {}
        }
    }
    if let NotFound::File(page) = &spec.not_found {
        let page = page.trim_start_matches('/').as_bytes();
        if let Opened::File(file) = beneath::open(&spec.folder, page)? {
            return Ready::new(file, page, descriptors).map(Box::new).map(Look::NotFound);
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
    descriptors: Descriptors,
}

impl Ready {
    fn new(file: File, name: &[u8], mut descriptors: Descriptors) -> io::Result<Self> {
        descriptors.keep(1);
        let metadata = file.metadata()?;
        let len = metadata.len();
        let content = (len <= CHUNK).then(|| read_at(&file, 0, len)).transpose()?;
        let content_type = content_type::of(&String::from_utf8_lossy(name));
        Ok(Self { file, len, modified: metadata.modified()?, content_type, content, descriptors })
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
                None => AnswerBody::File(FileBody::new(self.file, self.descriptors, from, len)),
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path as StdPath};

    use proptest::prelude::*;

    use super::*;
    use crate::budget::DescriptorBudget;

    /// A folder with files and links, beside a secret that no path may reach.
    fn folder() -> (tempfile::TempDir, FilesSpec) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        for inner in ["a/b", ".git", ".well-known", "empty"] {
            fs::create_dir_all(root.join(inner)).unwrap();
        }
        for (name, text) in [
            ("index.html", "index"),
            ("a/index.html", "index of a"),
            ("a/b/c.txt", "c"),
            ("a b.txt", "space"),
            ("100%.txt", "percent"),
            (".env", "SECRET"),
            (".git/config", "SECRET"),
            (".well-known/x", "known"),
            ("../secret", "SECRET"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        fs::create_dir(outer.path().join("outside")).unwrap();
        fs::write(outer.path().join("outside/index.html"), "SECRET").unwrap();
        symlink("b/c.txt", root.join("a/link.txt")).unwrap();
        symlink("a", root.join("dir")).unwrap();
        symlink("../secret", root.join("out.txt")).unwrap();
        symlink(outer.path().join("secret"), root.join("absolute.txt")).unwrap();
        symlink("../outside", root.join("outdir")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        (outer, FilesSpec::of(root))
    }

    fn looked(spec: &FilesSpec, wanted: Option<&[u8]>) -> Look {
        look(spec, wanted, DescriptorBudget::unlimited().take(AT_A_TIME).unwrap()).unwrap()
    }

    /// What a request for a path gets from the disk.
    fn content(spec: &FilesSpec, raw: &str) -> Option<String> {
        let path = Path::read(raw).ok()?;
        match looked(spec, inside_folder(&path).as_deref()) {
            Look::File(file) => Some(String::from_utf8(file.content.unwrap().to_vec()).unwrap()),
            Look::Folder => Some("slash".to_owned()),
            Look::NotFound(_) | Look::Nothing => None,
        }
    }

    #[test]
    fn a_path_gets_the_file_or_the_index_of_the_folder_and_links_inside_are_followed() {
        let (_outer, spec) = folder();
        for (path, expected) in [
            ("/", Some("index")),
            ("/index.html", Some("index")),
            ("/index.html/", None),
            ("/a", Some("slash")),
            ("/a/", Some("index of a")),
            ("/a/b", None),
            ("/a/b/", None),
            ("/empty/", None),
            ("/a/b/c.txt", Some("c")),
            ("/a/link.txt", Some("c")),
            ("/dir/b/c.txt", Some("c")),
            ("/dir", Some("slash")),
            ("/a%20b.txt", Some("space")),
            ("/x/../a/", Some("index of a")),
            ("/.well-known/x", Some("known")),
            ("/a//b/c.txt", Some("c")),
            ("/a%2fb/c.txt", Some("c")),
            ("/a/b%2Fc.txt", Some("c")),
            ("//a", Some("slash")),
            ("/a%2f", Some("index of a")),
            ("/100%25.txt", Some("percent")),
            ("/100%2525.txt", None),
            ("/a%252fb/c.txt", None),
            ("/%2fetc/passwd", None),
            ("//etc/passwd", None),
            ("/a%2f.git", None),
            ("/a/..%2f..%2fsecret", None),
            ("/.env", None),
            ("/%2eenv", None),
            ("/.git/config", None),
            ("/out.txt", None),
            ("/absolute.txt", None),
            ("/outdir/", None),
            ("/outdir", None),
            ("/magic/etc/passwd", None),
            ("/loop", None),
            ("/nothing", None),
            ("/index.html/x", None),
        ] {
            assert_eq!(content(&spec, path).as_deref(), expected, "{path}");
        }
        assert_eq!(content(&spec, &format!("/{}", "x".repeat(5000))), None);
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_no_file_and_does_not_block() {
        let (_outer, spec) = folder();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            spec.folder.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(content(&spec, "/pipe"), None);
    }

    #[test]
    fn a_miss_gets_the_page_that_is_named_for_it() {
        let (_outer, mut spec) = folder();
        spec.not_found = NotFound::File("/a/b/c.txt".to_owned());
        assert!(matches!(looked(&spec, Some(b"nothing")), Look::NotFound(_)));
        assert!(matches!(looked(&spec, None), Look::NotFound(_)));
        spec.not_found = NotFound::File("../secret".to_owned());
        assert!(matches!(looked(&spec, None), Look::Nothing));
    }

    fn step() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "a",
            "b",
            "c.txt",
            "dir",
            "outdir",
            "out.txt",
            "absolute.txt",
            "magic",
            "root",
            "etc",
            "passwd",
            "secret",
            "outside",
            "index.html",
            "..",
            ".",
            "%2e%2e",
            "%2e",
            ".%2e",
            "..%2f",
            "%2f",
            "%2f..",
            "..%5c",
            "..;",
            "%00",
            ".git",
            "config",
            ".env",
            "%2egit",
            "",
            "link.txt",
            "loop",
            "%252e%252e",
            "\\..",
            "%c0%ae%c0%ae",
            "x",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn no_path_leaves_the_folder(
            paths in prop::collection::vec(prop::collection::vec((step(), prop::sample::select(vec!["/", "//", ""])), 1..8), 160)
        ) {
            let (outer, spec) = folder();
            for steps in paths {
                let raw: String = std::iter::once("/").chain(steps.into_iter().flat_map(|(step, slash)| [step, slash])).collect();
                let got = content(&spec, &raw);
                prop_assert_ne!(got.as_deref(), Some("SECRET"), "{}", &raw);
                // The same, past all checks of the path.
                let bare = raw.trim_start_matches('/').as_bytes().to_vec();
                if let Opened::File(file) = beneath::open(&spec.folder, &bare).unwrap() {
                    let is = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
                    prop_assert!(is.starts_with(spec.folder.canonicalize().unwrap()), "{} is {:?}", &raw, is);
                }
            }
            drop(outer);
        }
    }

    #[test]
    fn a_range_is_one_of_bytes_or_is_ignored() {
        let of = |text: &'static str| range_of(&HeaderValue::from_static(text), 10);
        let part = |first, last| Some(Range::Part { first, last });
        for (text, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-5", part(2, 5)),
            ("bytes=2-", part(2, 9)),
            ("bytes=2-99", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=10-", Some(Range::Beyond)),
            ("bytes=-0", Some(Range::Beyond)),
            ("bytes=5-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-2", None),
            ("bytes=", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        assert_eq!(range_of(&HeaderValue::from_static("bytes=-5"), 0), Some(Range::Beyond));
    }

    #[test]
    fn the_entity_tag_decides_before_the_date() {
        let modified = OffsetDateTime::from_unix_timestamp(784_111_777).unwrap();
        let date = modified.format(HTTP_DATE).unwrap();
        assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
        let asked = |fields: &[(http::HeaderName, &str)]| {
            let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            is_unchanged(&headers, "W/\"a-1\"", modified)
        };
        assert!(asked(&[(IF_MODIFIED_SINCE, &date)]));
        assert!(!asked(&[(IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")]));
        assert!(!asked(&[(IF_MODIFIED_SINCE, "yesterday")]));
        assert!(asked(&[(IF_NONE_MATCH, "\"x\", W/\"a-1\"")]));
        assert!(asked(&[(IF_NONE_MATCH, "*")]));
        assert!(!asked(&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, &date)]));
        assert!(!asked(&[]));
    }

    #[test]
    fn the_folder_itself_may_be_missing() {
        let spec = FilesSpec::of(StdPath::new("/nonexistent/folder").to_owned());
        assert_eq!(content(&spec, "/"), None);
    }
}
