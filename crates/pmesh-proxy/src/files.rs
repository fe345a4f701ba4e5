//! Static files: from a path to an answer, read from disk each time, never from outside their folder.

use std::{fs::File, io, ops, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED},
};
use pmesh_threads::{Threads, Unanswered};
use time::OffsetDateTime;

use crate::{
    answer::{AnswerForm, Reason},
    answer_body::AnswerBody,
    beneath::{self, OpenedPath},
    budget::{Descriptors, is_for_want_of_our_own},
    client_span::in_client_span,
    content_type,
    file_body::{CHUNK, DISK_LIMIT, FileBody, read_at},
    http_date,
    path::Path,
    preconditions::{self, ConditionResult, Validators},
    ranges::{self, Range},
    relief::Relief,
    spec::{FilesSpec, NotFound},
};

/// Descriptors that looking for a file takes at a time: its folder and itself.
const AT_A_TIME: usize = 2;
/// How long it waits for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// What looking for a file takes.
#[derive(Clone, Copy)]
pub(crate) struct FileAccess<'a> {
    pub(crate) relief: &'a Relief,
    /// Those that read files.
    pub(crate) threads: &'a Threads,
}

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
    FileAccess { relief, threads }: FileAccess<'_>,
    method: &Method,
    headers: &HeaderMap,
    path: &Path<'_>,
    query: Option<&str>,
    asked: AnswerForm,
) -> Result<Found, Reason> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return match files.not_found {
            NotFound::NextRoute => Ok(Found::OtherMethod),
            NotFound::Default | NotFound::File(_) => Err(Reason::MethodNotAllowed("GET, HEAD")),
        };
    }
    let wanted = inside_folder(path);
    let Some(descriptors) = relief.for_work(AT_A_TIME, PATIENCE).await else {
        return Err(Reason::NoDescriptor);
    };
    let spec = files.clone();
    let looked = threads.run(DISK_LIMIT, move |_| look(&spec, wanted.as_deref(), descriptors)).await;
    let looked = match looked {
        Ok(looked) => looked,
        Err(Unanswered::Panicked { message }) => Err(io::Error::other(message)),
        Err(unanswered) => {
            in_client_span(|| {
                tracing::warn!(error = %unanswered, folder = %files.folder.display(), "a file cannot be looked for now");
            });
            return Err(Reason::Busy);
        }
    };
    match looked {
        Ok(OnDisk::File(file)) => file.answer(headers, asked, threads).map(Found::Answer),
        Ok(OnDisk::Folder) => {
            let folder = path.as_target();
            let to = match query {
                Some(query) => format!("{folder}/?{query}"),
                None => folder + "/",
            };
            asked.redirect(StatusCode::MOVED_PERMANENTLY, &to).map(Found::Answer)
        }
        Ok(OnDisk::NotFound(file)) => Ok(Found::Answer(file.page(asked, threads))),
        Ok(OnDisk::Nothing) => match files.not_found {
            NotFound::NextRoute => Ok(Found::Nothing),
            NotFound::Default | NotFound::File(_) => Err(Reason::NoRoute),
        },
        Err(error) if is_for_want_of_our_own(&error) => {
            relief.after_a_lack().await;
            Err(Reason::NoDescriptor)
        }
        Err(error) => {
            in_client_span(
                || tracing::error!(%error, folder = %files.folder.display(), "a file cannot be read"),
            );
            Err(Reason::Broken)
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
enum OnDisk {
    File(Box<OpenFile>),
    /// A folder with an index, asked for without its slash.
    Folder,
    /// The page for a miss.
    NotFound(Box<OpenFile>),
    Nothing,
}

/// Blocks on the disk.
fn look(spec: &FilesSpec, wanted: Option<&[u8]>, descriptors: Descriptors) -> io::Result<OnDisk> {
    if let Some(wanted) = wanted {
        let (name, has_slash) = match wanted.strip_suffix(b"/") {
            Some(name) => (name, true),
            None => (wanted, wanted.is_empty()),
        };
        match beneath::open(&spec.folder, name)? {
            OpenedPath::File(file) if !has_slash => {
                return OpenFile::new(file, name, descriptors).map(Box::new).map(OnDisk::File);
            }
            OpenedPath::Folder => {
                let mut index = name.to_vec();
                if !name.is_empty() {
                    index.push(b'/');
                }
                index.extend_from_slice(spec.index.trim_start_matches('/').as_bytes());
                if let OpenedPath::File(file) = beneath::open(&spec.folder, &index)? {
                    if !has_slash {
                        return Ok(OnDisk::Folder);
                    }
                    return OpenFile::new(file, &index, descriptors).map(Box::new).map(OnDisk::File);
                }
            }
            OpenedPath::File(_) | OpenedPath::Nothing => {}
        }
    }
    if let NotFound::File(page) = &spec.not_found {
        let page = page.trim_start_matches('/').as_bytes();
        if let OpenedPath::File(file) = beneath::open(&spec.folder, page)? {
            return OpenFile::new(file, page, descriptors).map(Box::new).map(OnDisk::NotFound);
        }
    }
    Ok(OnDisk::Nothing)
}

/// A file that can be answered with.
struct OpenFile {
    file: File,
    len: u64,
    modified: OffsetDateTime,
    content_type: &'static str,
    /// All of it, where that is little.
    content: Option<Bytes>,
    descriptors: Descriptors,
}

impl OpenFile {
    fn new(file: File, name: &[u8], mut descriptors: Descriptors) -> io::Result<Self> {
        descriptors.keep(1);
        let metadata = file.metadata()?;
        let len = metadata.len();
        let content = (len <= CHUNK).then(|| read_at(&file, 0, len)).transpose()?;
        let content_type = content_type::of(&String::from_utf8_lossy(name));
        let modified = OffsetDateTime::from(metadata.modified()?);
        Ok(Self { file, len, modified, content_type, content, descriptors })
    }

    /// The page for a miss.
    fn page(self, asked: AnswerForm, threads: &Threads) -> Response<AnswerBody> {
        let (mut answer, all) = (self.head(StatusCode::NOT_FOUND, &self.tag()), 0..self.len);
        self.fill(&mut answer, all, asked, threads);
        answer
    }

    /// The file, or as much of it as the fields of a GET or HEAD ask for.
    fn answer(
        self,
        headers: &HeaderMap,
        asked: AnswerForm,
        threads: &Threads,
    ) -> Result<Response<AnswerBody>, Reason> {
        let tag = self.tag();
        let validators = Validators { tag: &tag, modified: self.modified };
        let range = match preconditions::evaluate(&validators, headers, OffsetDateTime::now_utc) {
            ConditionResult::NotModified => return Ok(self.head(StatusCode::NOT_MODIFIED, &tag)),
            ConditionResult::Failed => return Err(Reason::Status(StatusCode::PRECONDITION_FAILED)),
            // Ranges are for GET (RFC 9110, section 14.2).
            ConditionResult::Answer if !asked.is_head => ranges::asked_for(headers, self.len),
            ConditionResult::Answer | ConditionResult::Whole => None,
        };
        let (mut answer, part) = match range {
            None => (self.head(StatusCode::OK, &tag), 0..self.len),
            Some(Range::Part { first, last }) => {
                let mut answer = self.head(StatusCode::PARTIAL_CONTENT, &tag);
                let text = format!("bytes {first}-{last}/{}", self.len);
                let fields = answer.headers_mut();
                fields.insert(CONTENT_RANGE, HeaderValue::try_from(text).expect("digits"));
                (answer, first..last + 1)
            }
            Some(Range::Beyond) => return Err(Reason::BeyondEnd { len: self.len }),
        };
        self.fill(&mut answer, part, asked, threads);
        Ok(answer)
    }

    /// Weak: the clock of a file system is coarse, and a file may change between its opening and its reading.
    fn tag(&self) -> String {
        format!("W/\"{:x}-{:x}\"", self.modified.unix_timestamp_nanos(), self.len)
    }

    fn head(&self, status: StatusCode, tag: &str) -> Response<AnswerBody> {
        let mut answer = Response::new(AnswerBody::Empty);
        *answer.status_mut() = status;
        let fields = answer.headers_mut();
        fields.insert(ETAG, HeaderValue::try_from(tag).expect("hexadecimal digits and quotes"));
        if let Some(date) = http_date::write(self.modified) {
            fields.insert(LAST_MODIFIED, date);
        }
        if status != StatusCode::NOT_MODIFIED {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        answer
    }

    /// Puts a part of the file into an answer.
    fn fill(
        self,
        answer: &mut Response<AnswerBody>,
        part: ops::Range<u64>,
        asked: AnswerForm,
        threads: &Threads,
    ) {
        let len = part.end - part.start;
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
        if asked.is_head || len == 0 {
            return;
        }
        *answer.body_mut() = match self.content {
            Some(content) => {
                let bounds = usize::try_from(part.start).ok().zip(usize::try_from(part.end).ok());
                AnswerBody::bytes(content.slice(bounds.map_or(0..0, |(from, to)| from..to)))
            }
            None => {
                let body = FileBody::new(self.file, self.descriptors, part.start, len, threads.clone());
                AnswerBody::File(Box::new(body))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path as StdPath, sync::mpsc};

    use http::header::RETRY_AFTER;
    use pmesh_threads::PoolLimits;
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

    fn looked(spec: &FilesSpec, wanted: Option<&[u8]>) -> OnDisk {
        look(spec, wanted, DescriptorBudget::unlimited().take(AT_A_TIME).unwrap()).unwrap()
    }

    /// What a request for a path gets from the disk.
    fn content(spec: &FilesSpec, raw: &str) -> Option<String> {
        let path = Path::read(raw).ok()?;
        match looked(spec, inside_folder(&path).as_deref()) {
            OnDisk::File(file) => Some(String::from_utf8(file.content.unwrap().to_vec()).unwrap()),
            OnDisk::Folder => Some("slash".to_owned()),
            OnDisk::NotFound(_) | OnDisk::Nothing => None,
        }
    }

    /// What a request for `/index.html` gets where these are the threads, with the field of the answer that says when to try
    /// again.
    async fn asked(spec: &FilesSpec, threads: &Threads) -> Result<StatusCode, (StatusCode, bool)> {
        let relief = Relief::new(DescriptorBudget::unlimited(), Duration::from_secs(1), Vec::new());
        let access = FileAccess { relief: &relief, threads };
        let (fields, path) = (HeaderMap::new(), Path::read("/index.html").unwrap());
        let form = AnswerForm::by(&Method::GET, &fields);
        match find(&Arc::new(spec.clone()), access, &Method::GET, &fields, &path, None, form).await {
            Ok(Found::Answer(answer)) => Ok(answer.status()),
            Ok(Found::Nothing | Found::OtherMethod) => panic!("it is there"),
            Err(reason) => {
                let page = form.page(reason);
                Err((page.status(), page.headers().contains_key(RETRY_AFTER)))
            }
        }
    }

    #[tokio::test]
    async fn a_file_is_503_where_as_many_wait_for_the_disk_as_may_and_there_again_when_it_goes_on() {
        let (_outer, spec) = folder();
        let threads =
            Threads::start("files", PoolLimits::new(1, 1).with(|limits| limits.replacements = 0)).unwrap();
        let (go_on, until) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let slow = threads.begin(DISK_LIMIT, move |_| (begun.send(()), until.recv()).1).unwrap();
        has_begun.recv().unwrap();
        let waits = threads.begin(DISK_LIMIT, |_| ()).unwrap();
        let busy = Err((StatusCode::SERVICE_UNAVAILABLE, true));
        assert_eq!(asked(&spec, &threads).await, busy);
        go_on.send(()).unwrap();
        slow.await.unwrap().unwrap();
        waits.await.unwrap();
        assert_eq!(asked(&spec, &threads).await, Ok(StatusCode::OK));
    }

    #[tokio::test]
    async fn a_file_is_503_at_once_while_the_disk_of_every_thread_hangs() {
        let (_outer, spec) = folder();
        let threads =
            Threads::start("files", PoolLimits::new(1, 8).with(|limits| limits.replacements = 1)).unwrap();
        let mut held = Vec::new();
        for _ in 0..2 {
            // One thread more takes the place of the first that hangs.
            assert_eq!(asked(&spec, &threads).await, Ok(StatusCode::OK));
            let (go_on, until) = mpsc::channel::<()>();
            held.push(go_on);
            assert!(threads.begin(Duration::ZERO, move |_| until.recv().is_ok()).unwrap().await.is_err());
        }
        let busy = Err((StatusCode::SERVICE_UNAVAILABLE, true));
        assert_eq!(asked(&spec, &threads).await, busy);
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
        assert!(matches!(looked(&spec, Some(b"nothing")), OnDisk::NotFound(_)));
        assert!(matches!(looked(&spec, None), OnDisk::NotFound(_)));
        spec.not_found = NotFound::File("../secret".to_owned());
        assert!(matches!(looked(&spec, None), OnDisk::Nothing));
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
                if let OpenedPath::File(file) = beneath::open(&spec.folder, &bare).unwrap() {
                    let is = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
                    prop_assert!(is.starts_with(spec.folder.canonicalize().unwrap()), "{} is {:?}", &raw, is);
                }
            }
            drop(outer);
        }
    }

    #[test]
    fn the_folder_itself_may_be_missing() {
        let spec = FilesSpec::of(StdPath::new("/nonexistent/folder").to_owned());
        assert_eq!(content(&spec, "/"), None);
    }
}
