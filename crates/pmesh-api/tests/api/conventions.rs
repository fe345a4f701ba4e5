//! What holds for every route: forms, methods, parameters, refusals.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request};
use hyper::body::{Body, Frame};
use pmesh_api::{
    Api, ApiRoute, Listener, ROUTES, RouteKind,
    testing::{FakeCallers, TestApi},
};
use pmesh_sessions::{Descent, PeerOwner, UnixPeer};
use pmesh_supervisor::Exit;
use serde_json::{Value, json};

use crate::{api_of, node, test_api};

/// A path that the route answers, with a service that there is.
fn path(route: &ApiRoute) -> String {
    route.pattern.replace("{svc}", "web").replace("{id}", "1")
}

fn reads() -> impl Iterator<Item = &'static ApiRoute> {
    ROUTES.iter().filter(|route| route.kind == RouteKind::Read)
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_json_and_ends_with_a_newline() {
    let node = node().await;
    let api = test_api(&node);
    for path in reads().map(path).chain(["/nope".to_owned(), "/service/health/nope".to_owned()]) {
        let answer = api.get(&path).await;
        assert_eq!(answer.headers["content-type"], "application/json; charset=utf-8", "{path}");
        assert!(serde_json::from_str::<Value>(&answer.text).is_ok() && answer.text.ends_with('\n'), "{path}");
        assert_eq!(answer.headers["content-length"], answer.text.len().to_string(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn pretty_indents_every_answer_by_two_spaces_and_errors_as_well() {
    let node = node().await;
    let api = test_api(&node);
    for path in reads().map(path).chain([
        "/nope".to_owned(),
        "/service/restart/nope".to_owned(),
        "/reload".to_owned(),
    ]) {
        let plain = api.get(&path).await;
        let pretty = api.get(&format!("{path}?pretty")).await;
        assert_eq!(plain.status, pretty.status, "{path}");
        let indented = serde_json::to_string_pretty(&pretty.json).unwrap() + "\n";
        assert_eq!(pretty.text, indented, "{path}");
    }
    let unknown = api.get("/service?pretty&bogus").await;
    assert!(unknown.text.starts_with("{\n  \"error\""), "{}", unknown.text);
    let by_body = api.send(Method::POST, "/service/stop/web", &[], r#"{"pretty": true}"#).await;
    assert_eq!(by_body.text, "{\n  \"count\": 1\n}\n");
}

#[tokio::test(start_paused = true)]
async fn a_head_is_a_get_without_the_body() {
    let node = node().await;
    let api = test_api(&node);
    for path in ["/repo", "/service", "/service/health/web", "/service/health/nope", "/nope"] {
        let get = api.get(path).await;
        let head = api.send(Method::HEAD, path, &[], "").await;
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.headers, get.headers, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_route_answers_its_own_methods_and_names_them_to_others() {
    let node = node().await;
    let api = test_api(&node);
    for route in ROUTES {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let method: Method = method.parse().unwrap();
            if route.kind.answers(&method) {
                continue;
            }
            let answer = api.send(method.clone(), &path(route), &[], "").await;
            assert_eq!(answer.status, 405, "{method} {}", route.pattern);
            assert_eq!(answer.headers["allow"], route.kind.methods());
            assert!(method == Method::HEAD || answer.code() == "method_not_allowed");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slash_at_the_end_is_the_same_route_but_never_all_services() {
    let node = node().await;
    let api = test_api(&node);
    for path in ["/repo", "/service", "/service/health", "/service/health/web", "/session", "/version"] {
        assert_eq!(api.get(&format!("{path}/")).await.text, api.get(path).await.text, "{path}");
    }
    assert_eq!(api.post("/service/restart/web/").await.json, json!({"count": 1}));
    for path in ["/service/stop/", "/service/restart/", "/service/stop//", "/service/restart//"] {
        for method in [Method::POST, Method::GET] {
            let answer = api.send(method, path, &[], "").await;
            assert_eq!((answer.status.as_u16(), answer.code()), (400, "service_name_missing"), "{path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_segment_is_decoded_once() {
    let node = node().await;
    let api = test_api(&node);
    assert_eq!(api.get("/service/health/w%65b").await.status, 200);
    assert_eq!(api.get("/%73ervice").await.status, 200);
    assert_eq!(api.get("/service/health/w%2565b").await.code(), "service_not_found");
    for path in ["/service/health/w%", "/service/health/%zz", "/service/health/%ff", "/%"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "bad_request"), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn parameters_come_from_the_query_or_from_a_body_of_either_form() {
    let node = crate::serving_manifest("services:\n  web: !App\n    run: web\n    build: make\n").await;
    std::fs::create_dir_all(node.manifest().with_file_name("web")).unwrap();
    let api = test_api(&node);
    node.spawner.exit_at_start("make", Exit::Code(0));
    assert_eq!(api.post("/reload?invalidate").await.text, "{}\n");
    let builds = || node.spawner.launches().iter().filter(|launch| launch.program == "make").count();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let json = ("content-type", "application/json");
    for (query, header, body, is_built_again) in [
        ("", form, r#"{"invalidate": true}"#, true),
        ("", form, "invalidate=true", true),
        ("", json, r#"{"invalidate": true}"#, true),
        ("", ("accept", "*/*"), r#"{"invalidate": true}"#, true),
        ("", ("accept", "*/*"), "invalidate", true),
        ("?invalidate", json, "", true),
        ("?invalidate=true", json, "{}", true),
        ("?invalidate=1", json, r#"{"invalidate": true}"#, true),
        ("?invalidate=false", form, "invalidate=0", false),
        ("?invalidate=0", form, "", false),
        ("", json, r#"{"invalidate": false}"#, false),
        ("", form, "", false),
    ] {
        let before = builds();
        let answer = api.send(Method::POST, &format!("/reload{query}"), &[header], body).await;
        assert_eq!((answer.status.as_u16(), &answer.json), (200, &json!({})), "{query} {body}");
        assert_eq!(builds() - before, usize::from(is_built_again), "{query} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_route_refuses_what_it_does_not_know() {
    let node = node().await;
    let api = test_api(&node);
    for route in ROUTES {
        let method = if route.kind == RouteKind::Read { Method::GET } else { Method::POST };
        for (query, body) in [("?bogus=1", ""), ("", "bogus=1"), ("", r#"{"bogus": 1}"#)] {
            let answer = api.send(method.clone(), &format!("{}{query}", path(route)), &[], body).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (400, "unknown_parameter"),
                "{}",
                route.pattern
            );
            assert!(answer.json["error"].as_str().unwrap().contains("bogus"), "{}", answer.text);
        }
        let known: Vec<_> = route.parameters.iter().map(|parameter| parameter.name()).collect();
        for name in ["fetch", "invalidate", "limit", "sort", "wait"] {
            let answer = api.send(method.clone(), &format!("{}?{name}=@", path(route)), &[], "").await;
            let code = if known.contains(&name) { "bad_parameter" } else { "unknown_parameter" };
            assert_eq!(answer.code(), code, "{} {name}", route.pattern);
        }
    }
}

/// What a refused request must not change.
async fn state(api: &TestApi) -> (Value, usize) {
    (api.get("/service").await.json, api.get("/operation").await.json.as_array().unwrap().len())
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_changes_nothing() {
    let node = node().await;
    let api = test_api(&node);
    let before = state(&api).await;
    let large = format!("{{\"invalidate\": true}}{}", " ".repeat(64 * 1024));
    let restart = "/service/restart/web";
    let post = Method::POST;
    for (method, path, headers, body, code) in [
        (&post, restart, vec![], "{\"invalidate\":\n tru}", "bad_request"),
        (&post, restart, vec![], "{\"invalidate\": true} {}", "bad_request"),
        (&post, restart, vec![], "[]", "bad_request"),
        (&post, restart, vec![("content-type", "application/json")], "null", "bad_request"),
        (&post, restart, vec![], "invalidate=%zz", "bad_request"),
        (&post, "/service/restart/web?invalidate=%zz", vec![], "", "bad_request"),
        (&post, "/service/restart/w%zzb", vec![], "", "bad_request"),
        (&post, restart, vec![("host", "localhost")], "", "bad_request"),
        (&post, restart, vec![], r#"{"invalidate": "yes"}"#, "bad_parameter"),
        (&post, restart, vec![], r#"{"invalidate": true, "invalidate": false}"#, "bad_parameter"),
        (&post, "/service/restart/web?invalidate=yes", vec![], "", "bad_parameter"),
        (&post, "/service/restart/web?invalidate", vec![], "invalidate=0", "bad_parameter"),
        (&post, "/service/restart/web?wait=soon", vec![], "", "bad_parameter"),
        (&post, restart, vec![], r#"{"invaldate": true}"#, "unknown_parameter"),
        (&post, "/service/restart/web?invaldate", vec![], "", "unknown_parameter"),
        (&post, "/service/stop/web?invalidate", vec![], "", "unknown_parameter"),
        (&post, restart, vec![], large.as_str(), "body_too_large"),
        (&post, "/service/restart/nope", vec![], "", "service_not_found"),
        (&post, "/service/stop/nope", vec![], "", "service_not_found"),
        (&post, "/service/stop/a%2Fb", vec![], "", "service_not_found"),
        (&post, "/service/stop/%20", vec![], "", "service_not_found"),
        (&post, "/service/stop/", vec![], "", "service_name_missing"),
        (&post, "/service/stopp", vec![], "", "route_not_found"),
        (&post, "/operation/1/cancel", vec![], "", "operation_not_found"),
        (&Method::DELETE, restart, vec![], "", "method_not_allowed"),
        (&Method::OPTIONS, restart, vec![], "", "method_not_allowed"),
        (&Method::GET, "/shutdown", vec![], "", "method_not_allowed"),
        (&post, restart, vec![("origin", "http://evil.example")], "", "cross_site"),
        (&post, restart, vec![("sec-fetch-site", "cross-site")], "", "cross_site"),
        (&Method::GET, restart, vec![("referer", "http://127.0.0.1:9870/")], "", "cross_site"),
        (&Method::GET, restart, vec![("user-agent", "Mozilla/5.0")], "", "cross_site"),
    ] {
        let answer = api.send(method.clone(), path, &headers, body).await;
        assert_eq!(answer.code(), code, "{method} {path} {headers:?} {body}: {}", answer.text);
        assert!(!answer.headers.contains_key("operation-id"), "{path}");
    }
    assert_eq!(state(&api).await, before);
}

#[tokio::test(start_paused = true)]
async fn malformed_json_is_named_with_its_place() {
    let node = node().await;
    let api = test_api(&node);
    let answer = api.send(Method::POST, "/reload", &[], "{\"invalidate\":\n tru}").await;
    assert!(answer.json["error"].as_str().unwrap().contains("line 2 column 5"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_host_is_refused_before_anything_else() {
    let node = node().await;
    let api = api_of(&node);
    for path in ["/service", "/nope", "/%", "/service/stop/"] {
        let request = Request::builder().uri(path).header("host", "evil.example");
        let request = request.body(String::new()).unwrap();
        let answer = TestApi::read(api.handle(request, TestApi::loopback()).await).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "host_not_allowed"), "{path}");
    }
    let request =
        || Request::builder().uri("/service").header("host", "evil.example").body(String::new()).unwrap();
    let unix = Listener::Unix { caller: UnixPeer::now(None), user: 0 };
    assert_eq!(api.handle(request(), unix).await.status(), 200);
    let (local, peer) = ("127.0.0.1:80".parse().unwrap(), "192.0.2.1:5".parse().unwrap());
    let outside = Listener::FrontHost { local, peer, owner: PeerOwner::NotAsked };
    let answer = TestApi::read(api.handle(request(), outside).await).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (403, "not_internal"));
}

#[tokio::test(start_paused = true)]
async fn an_action_by_get_is_for_scripts_only() {
    let node = node().await;
    let api = test_api(&node);
    assert_eq!(api.get("/service/restart/web").await.json, json!({"count": 1}));
    let browser = [("accept-language", "en")];
    let refused = api.send(Method::GET, "/service/restart/web", &browser, "").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "cross_site"));
    let by_post = api.send(Method::POST, "/service/restart/web", &browser, "").await;
    assert_eq!(by_post.status, 200, "a dashboard of our own may act by POST");
    let read = api.send(Method::GET, "/service", &browser, "").await;
    assert_eq!(read.status, 200, "reading is no action");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_has_started_never_acts_by_get_on_any_listener() {
    let node = node().await;
    let before = test_api(&node).get("/service").await.json;
    for descent in [Descent::Descends, Descent::Unknown] {
        let settings =
            TestApi::settings().with(|settings| settings.callers = Some(Arc::new(FakeCallers(descent))));
        let api = Api::new(node.handle(), settings);
        let unix = Listener::Unix { caller: UnixPeer::now(None), user: 0 };
        let Listener::Tcp { local, peer, owner } = TestApi::loopback() else { panic!("it is one over TCP") };
        for listener in [TestApi::loopback(), unix, Listener::FrontHost { local, peer, owner }] {
            let ask = async |method: Method, path: &str| {
                let request = Request::builder().method(method).uri(path).header("host", "pm3");
                TestApi::read(api.handle(request.body(String::new()).unwrap(), listener).await).await
            };
            for route in ROUTES.iter().filter(|route| route.kind == RouteKind::ActionByGetToo) {
                let answer = ask(Method::GET, &path(route)).await;
                assert_eq!((answer.status.as_u16(), answer.code()), (403, "get_from_service"), "{route:?}");
            }
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(ask(method, "/repo?fetch").await.status, 403, "{listener:?}");
            }
            assert_eq!(ask(Method::GET, "/repo?fetch=false").await.status, 200);
            assert_eq!(ask(Method::GET, "/service").await.json, before, "nothing has changed");
            assert_eq!(
                ask(Method::POST, "/service/stop/nope").await.code(),
                "service_not_found",
                "POST acts"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_by_get_is_not_taken_from_a_browser() {
    let node = node().await;
    let api = test_api(&node);
    let browser = [("accept-language", "en")];
    let refused = api.send(Method::GET, "/repo?fetch", &browser, "").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "cross_site"));
    assert_ne!(api.send(Method::GET, "/repo", &browser, "").await.status, 403);
    assert_ne!(api.get("/repo?fetch").await.status, 403);
}

/// A body without end that counts how much of it was taken.
struct Endless(Arc<AtomicUsize>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = Bytes::from_static(&[b' '; 4096]);
        self.0.fetch_add(piece.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_is_not_read_to_its_end() {
    let node = node().await;
    let api = api_of(&node);
    let taken = Arc::new(AtomicUsize::new(0));
    let request = Request::post("/reload").header("host", "localhost").body(Endless(taken.clone())).unwrap();
    let answer = TestApi::read(api.handle(request, TestApi::loopback()).await).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, "body_too_large"));
    assert!(taken.load(Ordering::Relaxed) <= 2 * 1024 * 1024);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_just_the_limit_is_read() {
    let node = node().await;
    let api = test_api(&node);
    let body = format!("{{\"invalidate\": false}}{}", " ".repeat(Api::MAX_BODY_LEN - 21));
    assert_eq!(body.len(), Api::MAX_BODY_LEN);
    assert_eq!(api.send(Method::POST, "/reload", &[], &body).await.status, 200);
}

/// A body that never comes.
struct Silent;

impl Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let node = node().await;
    let api = api_of(&node);
    let request = Request::post("/service/stop").header("host", "localhost").body(Silent).unwrap();
    let answer = TestApi::read(api.handle(request, TestApi::loopback()).await).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "bad_request"));
}

/// A body that stands for a mistake of ours: reading it panics.
struct Panicking;

impl Body for Panicking {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("a mistake of ours")
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_answer_and_ends_nothing_else() {
    let node = node().await;
    let api = test_api(&node);
    let request = Request::post("/reload").header("host", "localhost").body(Panicking).unwrap();
    let answer = TestApi::read(api.0.handle(request, TestApi::loopback()).await).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (500, "internal"));
    assert!(!answer.text.contains("a mistake of ours"), "{}", answer.text);
    assert_eq!(api.get("/service").await.status, 200);
}
