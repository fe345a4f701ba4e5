//! Files over HTTP; which file a path stands for is tested beside the code.

use std::{collections::BTreeMap, fs};

use pmesh_proxy::{Destination, FilesSpec, Handler, NotFound, Routing};

use crate::rig::{Rig, key, route, site};

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("index.html"), "<p>index</p>").unwrap();
    fs::write(folder.path().join("sub/index.html"), "sub").unwrap();
    fs::write(folder.path().join("empty.css"), "").unwrap();
    let big = (0..200_000).map(|number| format!("{number:06}\n")).collect::<Vec<_>>().concat();
    fs::write(folder.path().join("big.txt"), big).unwrap();
    folder
}

fn serving(folder: &tempfile::TempDir, not_found: NotFound) -> Rig {
    let spec = FilesSpec::of(folder.path().to_owned()).with(|files| files.not_found = not_found);
    Rig::new(Routing::new(
        vec![site(vec![
            route("_", Handler::Destination(key())),
            route("/next", Handler::Return { status: http::StatusCode::OK, text: "next".to_owned() }),
        ])],
        BTreeMap::from([(key(), Destination::Files(spec))]),
    ))
}

#[tokio::test]
async fn a_file_is_answered_with_its_type_length_and_validators() {
    let folder = folder();
    let rig = serving(&folder, NotFound::NextRoute);
    let answer = rig.get("/?x").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "<p>index</p>"));
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.field("content-length"), Some("12"));
    for (field, value) in [("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")] {
        let value = answer.field(value).unwrap();
        let again = rig.ask(&format!("GET / HTTP/1.1\r\nHost: site.test\r\n{field}: {value}\r\n\r\n")).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""));
        assert_eq!(again.field("etag"), answer.field("etag"));
    }
    assert_eq!(rig.get("/empty.css").await.body, "");
    fs::write(folder.path().join("index.html"), "changed").unwrap();
    assert_eq!(rig.get("/").await.body, "changed");
}

#[tokio::test]
async fn a_large_file_comes_whole_and_a_range_of_it_alone() {
    let folder = folder();
    let rig = serving(&folder, NotFound::NextRoute);
    let whole = fs::read_to_string(folder.path().join("big.txt")).unwrap();
    assert!(rig.get("/big.txt").await.body == whole);
    for (range, status, from, to) in [
        ("bytes=7-20", 206, 7, 21),
        ("bytes=300000-999999", 206, 300_000, 1_000_000),
        ("bytes=-7", 206, 1_399_993, 1_400_000),
        ("bytes=x", 200, 0, 1_400_000),
    ] {
        let answer =
            rig.ask(&format!("GET /big.txt HTTP/1.1\r\nHost: site.test\r\nRange: {range}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{range}");
        assert!(answer.body == whole[from..to], "{range}");
    }
    let answer = rig.ask("GET /big.txt HTTP/1.1\r\nHost: site.test\r\nRange: bytes=2000000-\r\n\r\n").await;
    assert_eq!((answer.status, answer.field("content-range")), (416, Some("bytes */1400000")));
}

#[tokio::test]
async fn a_request_with_conditions_gets_what_they_leave_of_the_file() {
    let folder = folder();
    let rig = serving(&folder, NotFound::NextRoute);
    let changed = std::time::UNIX_EPOCH + std::time::Duration::from_millis(784_111_777_250);
    for name in ["index.html", "empty.css"] {
        fs::File::open(folder.path().join(name)).unwrap().set_modified(changed).unwrap();
    }
    let whole = "<p>index</p>";
    for (path, fields, status, body) in [
        ("/", &["If-Match: *"][..], 200, whole),
        ("/", &["If-Match: \"other\""], 412, ""),
        ("/", &["If-Match: \"other\"", "Range: bytes=0-2"], 412, ""),
        ("/", &["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], 200, whole),
        ("/", &["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT"], 412, ""),
        ("/", &["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT", "Range: bytes=0-2"], 412, ""),
        ("/", &["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"], 304, ""),
        ("/", &["If-Modified-Since: Sun Nov  6 08:49:37 1994"], 304, ""),
        ("/", &["If-Range: Sun, 06 Nov 1994 08:49:37 GMT", "Range: bytes=0-2"], 206, "<p>"),
        ("/", &["If-Range: Sun, 06 Nov 1994 08:49:38 GMT", "Range: bytes=0-2"], 200, whole),
        ("/", &["If-Range: \"other\"", "Range: bytes=0-2"], 200, whole),
        ("/empty.css", &["Range: bytes=-5"], 200, ""),
        ("/empty.css", &["Range: bytes=0-"], 416, ""),
        ("/nothing", &["If-Match: \"other\""], 404, ""),
    ] {
        let fields = fields.join("\r\n");
        let answer = rig.ask(&format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{path} {fields}");
        assert!(answer.status >= 400 || answer.body == body, "{path} {fields}: {}", answer.body);
    }
}

#[tokio::test]
async fn head_has_the_same_head_and_no_body() {
    let folder = folder();
    let rig = serving(&folder, NotFound::NextRoute);
    let mut client = rig.connect().await;
    client.send("HEAD /big.txt HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n").await;
    let all = client.until_end().await;
    assert!(all.contains("content-length: 1400000\r\n") && all.ends_with("\r\n\r\n"), "{all}");
}

#[tokio::test]
async fn a_folder_without_its_slash_is_sent_there_and_nowhere_else() {
    let folder = folder();
    let rig = serving(&folder, NotFound::NextRoute);
    let answer = rig.get("/sub?a=b").await;
    assert_eq!((answer.status, answer.field("location")), (301, Some("/sub/?a=b")));
    assert_eq!(rig.get("/sub/").await.body, "sub");
    let answer = rig.get("//sub").await;
    assert_eq!(
        (answer.status, answer.field("location")),
        (301, Some("/sub/")),
        "and never to a host of that name"
    );
}

#[tokio::test]
async fn a_miss_goes_to_the_next_route_or_gets_a_page() {
    let folder = folder();
    let rig = serving(&folder, NotFound::NextRoute);
    assert_eq!(rig.get("/next").await.body, "next");
    assert_eq!(rig.get("/nothing").await.status, 404);
    let rig = serving(&folder, NotFound::Default);
    assert_eq!(rig.get("/next").await.status, 404);
    let rig = serving(&folder, NotFound::File("sub/index.html".to_owned()));
    let answer = rig.get("/next").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "sub"));
}

#[tokio::test]
async fn files_are_for_get_and_head_and_other_methods_for_other_routes() {
    let folder = folder();
    let post = |path| format!("POST {path} HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1\r\n\r\nx");
    let rig = serving(&folder, NotFound::NextRoute);
    assert_eq!(rig.ask(&post("/next")).await.body, "next");
    let answer = rig.ask(&post("/")).await;
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")));
    let rig = serving(&folder, NotFound::Default);
    assert_eq!(rig.ask(&post("/next")).await.status, 405);
}
