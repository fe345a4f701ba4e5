//! What a good manifest becomes, key by key.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::StatusCode;
use pmesh_manifest::{DeclaredService, Manifest, ManifestText, RepoSpec, Serves, Unsupported, parse};
use pmesh_proxy::{
    DestinationKey, FilesSpec, Handler, LoadBalancing, NotFound, Pattern, QueueLimits, Retry, Route,
    SiteHost, Strategy,
};
use pmesh_supervisor::{
    AppSpec, BuildCache, Check, Command, ExternalSpec, Monitor, NamedCheck, Overlap, PortOwner, Readiness,
    ServiceKind, ServiceName, StartOrder, Stdin,
};

/// The manifest `text`, of which nothing is left out, in the folder /srv/shop.
#[track_caller]
fn good(text: &str) -> Manifest {
    let source = ManifestText::new(text.as_bytes(), Path::new("pm3.yml"), Path::new("/srv/shop"));
    let manifest = parse(&source, Unsupported::Refuse).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(manifest.warnings, []);
    manifest
}

/// The only service of the manifest `services: {s: …}`.
#[track_caller]
fn service(text: &str) -> DeclaredService {
    let mut services = good(&format!("services:\n  s: {text}\n")).services;
    assert_eq!(services.len(), 1);
    services.remove(0)
}

#[track_caller]
fn app(text: &str) -> AppSpec {
    match service(text).spec.kind {
        ServiceKind::App(spec) => *spec,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn external(text: &str) -> (ExternalSpec, LoadBalancing) {
    match service(text) {
        DeclaredService { spec, serves: Serves::Upstreams(balancing), .. } => match spec.kind {
            ServiceKind::External(spec) => (spec, balancing),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn files(text: &str) -> FilesSpec {
    match service(text).serves {
        Serves::Files(spec) => spec,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn balancing(text: &str) -> LoadBalancing {
    let written = external(&format!("!Proxy {{upstreams: 1, lb: {text}}}")).1;
    let of_app = match service(&format!("!App {{run: x, lb: {text}}}")).serves {
        Serves::Upstreams(balancing) => balancing,
        other => panic!("{other:?}"),
    };
    assert_eq!(written, of_app);
    written
}

#[track_caller]
fn command(text: &str) -> Command {
    app(&format!("!App {{run: {text}}}")).run.expect("it has a command")
}

/// The routes of the only site.
#[track_caller]
fn routes(router: &str) -> Vec<Route> {
    let mut sites =
        good(&format!("services: {{web: !App {{run: x}}}}\nserver: {{site.local: {{router: {router}}}}}\n"))
            .sites;
    assert_eq!(sites.len(), 1);
    sites.remove(0).routes
}

fn route(pattern: &str, handler: Handler) -> Route {
    Route::new(Pattern::parse(pattern).unwrap(), handler)
}

fn bare(handler: Handler) -> Route {
    Route::new(Pattern::any(), handler)
}

fn to(service: &str) -> Handler {
    Handler::Destination(DestinationKey::new(service))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_default_is_that_of_the_spec_and_none_is_stated_here() {
    let name: ServiceName = "s".parse().unwrap();
    let expected = AppSpec::new(&name, "/srv/shop/s".into()).with(|app| app.run = Some(Command::new("x")));
    assert_eq!(app("!App {run: x}"), expected);
    for empty in ["monitor", "lb", "env", "build", "shutdown"] {
        assert_eq!(app(&format!("!App {{run: x, {empty}: }}")), expected, "{empty}");
    }
    assert_eq!(app("!App {run: x, monitor: {healthy: {}, unhealthy: }}"), expected);
    assert_eq!(balancing("{}"), LoadBalancing::default());
    assert_eq!(balancing("{retry: {}, queue: {}}"), LoadBalancing::default());
    assert_eq!(external("!Proxy 1").0.monitor, Monitor::default());
    assert_eq!(files("!FS"), FilesSpec::of("/srv/shop/s".into()));
    assert_eq!(good("repo:\nservices:\nserver:\nenv:\n").repo, RepoSpec::default());
    assert!(RepoSpec::default().update);
}

#[test]
fn every_key_of_an_app_is_set_as_written() {
    let spec = app("!App
    root: sub/app
    run: ./server --fast
    build: [make, cp -r dist .build/]
    shutdown: ./bye
    cluster: 3
    env: {A: 1.10, B: }
    env_host: BIND
    env_port: HTTP_PORT
    env_listen: ADDR
    nofile: 1024
    background: true
    monitor:
      healthy: {interval: 1s, threshold: 2}
      unhealthy: {interval: 500ms, threshold: 4}
      timeout: 2s
      test: {first: !Tcp, second: !Tcp {}}
      port_owner: any
    ready_timeout: 1m
    stop_timeout: 0
    build_timeout: 1h30m
    drain_timeout: 1.5s
    overlap: true
    slow_start: true
    log: out.log
    no_build_control: true
    stdin: true
");
    let words = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        Command::new(words.next().unwrap()).arguments(words)
    };
    let tcp = |name: &str| NamedCheck::new(name, Check::Tcp);
    let monitor = Monitor::default().with(|monitor| {
        monitor.healthy_interval = seconds(1);
        monitor.healthy_threshold = 2;
        monitor.unhealthy_interval = Duration::from_millis(500);
        monitor.unhealthy_threshold = 4;
        monitor.timeout = seconds(2);
        monitor.checks = vec![tcp("first"), tcp("second")];
        monitor.port_owner = PortOwner::Any;
        monitor.readiness = Readiness::ChecksPass;
    });
    let name: ServiceName = "s".parse().unwrap();
    let expected = AppSpec::new(&name, "/srv/shop/sub/app".into()).with(|app| {
        app.run = Some(words("./server --fast"));
        app.build = vec![words("make"), words("cp -r dist .build/")];
        app.build_cache = BuildCache::Never;
        app.shutdown = vec![words("./bye")];
        app.instances = 3;
        app.env = [("A", "1.10"), ("B", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        app.host_variable = "BIND".to_owned();
        app.port_variable = "HTTP_PORT".to_owned();
        app.listen_variable = "ADDR".to_owned();
        app.nofile = 1024;
        app.background = true;
        app.monitor = monitor;
        app.ready_timeout = seconds(60);
        app.stop_timeout = seconds(0);
        app.build_timeout = seconds(5400);
        app.drain_timeout = Duration::from_millis(1500);
        app.overlap = Overlap::Yes;
        app.start = StartOrder::OneByOne;
        app.log = "out.log".to_owned();
        app.stdin = Stdin::Inherit;
    });
    assert_eq!(spec, expected);
    assert_eq!(app("!App {run: x, overlap: false}").overlap, Overlap::No);
}

#[test]
fn an_instance_is_ready_when_it_has_answered_unless_checks_are_written_and_an_address_when_it_accepts() {
    let readiness = |text: &str| app(text).monitor.readiness;
    assert_eq!(readiness("!App {run: x}"), Readiness::Answer);
    assert_eq!(readiness("!App {run: x, monitor: {healthy: {interval: 1s}}}"), Readiness::Answer);
    assert_eq!(readiness("!App {run: x, monitor: {test: {x: !Tcp {}}}}"), Readiness::ChecksPass);
    let addresses = external("!Proxy {upstreams: 1, monitor: {timeout: 1s}}").0;
    assert_eq!(addresses.monitor.readiness, Readiness::ChecksPass);
}

#[test]
fn only_what_runs_and_listens_serves() {
    assert_eq!(service("!App {run: x}").serves, Serves::Upstreams(LoadBalancing::default()));
    assert_eq!(service("!App {run: x, background: true}").serves, Serves::Nothing);
    assert_eq!(service("!App {build: make}").serves, Serves::Nothing);
}

#[test]
fn a_command_is_split_like_a_shell_does() {
    let written = Command::new("node").arguments(["a b", "c'd", "", "#e", "x=y"]).with(|command| {
        command.folder = Some("src".into());
        command.env = [("MODE".to_owned(), "a b".to_owned())].into();
    });
    assert_eq!(command(r#"'@src MODE="a b" node "a b" c\''d "" \#e x=y'"#), written);
    let map = r##"{cwd: src, exec: node, args: [a b, "c'd", "", "#e", x=y], env: {MODE: a b}}"##;
    assert_eq!(command(map), written);
    assert_eq!(command("!!str x").program, "x");
    assert_eq!(command("\"a \\\\\\n b\"").arguments, ["b"]);
}

#[test]
fn what_a_program_may_mean_itself_is_no_shell_syntax() {
    for (line, last) in [
        ("sh -c 'cd x && echo $HOME > y'", "cd x && echo $HOME > y"),
        ("sh -c \"cd x && echo $HOME\"", "cd x && echo $HOME"),
        ("find . -exec rm {} ';'", ";"),
        ("find . -exec rm {} \\;", ";"),
        ("grep '|' x$", "x$"),
        ("awk '{print $1}'", "{print $1}"),
        ("test a=b&c", "a=b&c"),
        ("print \\$HOME", "$HOME"),
        ("pip install x>=1.0", "x>=1.0"),
    ] {
        let text = format!("!App\n    run: |\n      {line}\n");
        let command = app(&text).run.expect("it has a command");
        assert_eq!(command.arguments.last().map(String::as_str), Some(last), "{line}");
    }
}

#[test]
fn the_environment_of_the_manifest_is_every_services_and_the_services_own_wins() {
    let manifest = good("env: {A: 1, B: 2}\nservices:\n  s: !App {run: x, env: {B: 3, C: 4}}\n");
    let ServiceKind::App(spec) = &manifest.services[0].spec.kind else { panic!("s is an app") };
    let env: Vec<(&str, &str)> =
        spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "1"), ("B", "3"), ("C", "4")]);
}

#[test]
fn text_is_kept_as_it_was_written_whatever_yaml_takes_it_for() {
    let spec =
        app("!App {run: x, env: {A: 1.10, B: 0x1F, C: yes, D: null, E: \"null\", F: 'a $(b)', on: off}}");
    let values: Vec<&str> = spec.env.values().map(String::as_str).collect();
    assert_eq!(values, ["1.10", "0x1F", "yes", "", "null", "a $(b)", "off"]);
}

#[test]
fn folders_are_relative_to_the_manifest_and_services_to_their_root() {
    let folder = |text: &str| {
        let manifest = good(&format!("{text}services: {{s: !App {{run: x, root: ../a}}, f: !FS}}\n"));
        let Serves::Files(files) = &manifest.services[1].serves else { panic!("f is files") };
        let ServiceKind::App(app) = &manifest.services[0].spec.kind else { panic!("s is an app") };
        [manifest.root.clone(), app.folder.clone(), files.folder.clone()]
            .map(|path| path.display().to_string())
    };
    assert_eq!(folder(""), ["/srv/shop", "/srv/a", "/srv/shop/f"]);
    assert_eq!(folder("root: ..\n"), ["/srv", "/a", "/srv/f"]);
    assert_eq!(folder("root: ..\nservice_root: ./sub\n"), ["/srv", "/srv/shop/a", "/srv/shop/sub/f"]);
    assert_eq!(folder("service_root: /opt/x\n"), ["/srv/shop", "/opt/a", "/opt/x/f"]);
}

#[test]
fn files_are_a_folder_or_a_map() {
    let of = |folder: &str| FilesSpec::of(folder.into());
    assert_eq!(files("!FS public"), of("/srv/shop/public"));
    assert_eq!(files("!FS /opt/public"), of("/opt/public"));
    assert_eq!(files("!FS {path: public, dynamic: true}"), of("/srv/shop/public"));
    let index = of("/srv/shop/s").with(|files| files.index = "sub/home.html".to_owned());
    assert_eq!(files("!FS {index: /sub/home.html}"), index);
    assert_eq!(files("!FS {index: sub/home.html}"), index);
    assert_eq!(files("!FS {404: default}").not_found, NotFound::Default);
    assert_eq!(files("!FS {404: /404.html}").not_found, NotFound::File("404.html".to_owned()));
}

#[test]
fn upstreams_are_one_or_many_or_the_whole_value() {
    let addresses = |text: &str| {
        let (spec, _) = external(text);
        spec.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(addresses("!Proxy 8080"), "127.0.0.1:8080");
    assert_eq!(addresses("!Proxy http://app:8080"), "app:8080");
    assert_eq!(addresses("!Proxy ['[::1]:80', 10.0.0.2:81]"), "[::1]:80 10.0.0.2:81");
    assert_eq!(addresses("!Proxy {upstreams: a:1}"), "a:1");
    assert_eq!(addresses("!Proxy {upstreams: [a:1, b:2]}"), "a:1 b:2");
    assert_eq!(external("!Proxy {upstreams: 1, monitor: {timeout: 9s}}").0.monitor.timeout, seconds(9));
}

#[test]
fn every_key_of_balancing_is_set_as_written() {
    let expected = LoadBalancing::default().with(|balancing| {
        balancing.strategy = Strategy::RoundRobin;
        balancing.retry = Retry::default().with(|retry| {
            retry.attempts = 2;
            retry.backoff = seconds(0);
            retry.timeout = seconds(3);
        });
        balancing.connect_timeout = seconds(4);
        balancing.response_timeout = seconds(5);
        balancing.buffer = 9 << 10;
        balancing.queue = QueueLimits::default().with(|queue| {
            queue.requests = 6;
            queue.bytes = 7 << 10;
            queue.wait = seconds(8);
        });
    });
    let rest = "strat: round-robin, state: none, proto: h1, connect_timeout: 4s, response_timeout: 5s, \
                buffer: 9KiB, \
                queue: {requests: 6, bytes: 7KiB, for: 8s}";
    assert_eq!(balancing(&format!("{{retry: {{attempts: 2, backoff: 0s, timeout: 3s}}, {rest}}}")), expected);
    assert_eq!(balancing(&format!("{{attempts: 2, backoff: 0s, timeout: 3s, {rest}}}")), expected);
    assert_eq!(balancing("{strat: least}").strategy, Strategy::Least);
    assert_eq!(balancing("{buffer: 0}").buffer, 0);
}

#[test]
fn never_is_the_longest_time() {
    let never = Duration::from_nanos(i64::MAX.unsigned_abs());
    let spec = app("!App {run: x, build_timeout: never, drain_timeout: never}");
    assert_eq!((spec.build_timeout, spec.drain_timeout), (never, never));
    let spread = balancing("{response_timeout: never, queue: {for: never}}");
    assert_eq!((spread.response_timeout, spread.queue.wait), (never, never));
    assert!(std::time::Instant::now().checked_add(never).is_some());
}

#[test]
fn hosts_are_compared_as_the_front_sees_them() {
    let manifest = good(
        "server:\n  'Example.COM, www.example.org., 10.0.0.1': {router: []}\n  _: {router: [], no_upgrade: true}\n",
    );
    let name = |name: &str| SiteHost::Name(name.to_owned());
    assert_eq!(manifest.sites[0].hosts, [name("example.com"), name("www.example.org"), name("10.0.0.1")]);
    assert_eq!(manifest.sites[1].hosts, [SiteHost::Any]);
}

#[test]
fn a_route_is_a_pattern_with_a_handler_or_a_bare_one() {
    assert_eq!(routes("[web]"), [bare(to("web"))]);
    assert_eq!(
        routes("[{site.local/a/: web, /b: status 404}, a.site.local/: web]"),
        [
            route("site.local/a/", to("web")),
            route("/b", Handler::Status(StatusCode::NOT_FOUND)),
            route("a.site.local/", to("web"))
        ]
    );
    assert_eq!(
        routes("[/x/: [web, [web]]]"),
        [route("/x/", Handler::Mux(vec![bare(to("web")), bare(Handler::Mux(vec![bare(to("web"))]))]))]
    );
    assert_eq!(routes("[]"), []);
    // A single one needs no list.
    assert_eq!(routes("web"), [bare(to("web"))]);
    assert_eq!(routes("{/x: web}"), [route("/x", to("web"))]);
    assert_eq!(routes("status 404"), [bare(Handler::Status(StatusCode::NOT_FOUND))]);
}

#[test]
fn the_directives_that_are_served() {
    let answer = |code: u16, text: &str| Handler::Return {
        status: StatusCode::from_u16(code).unwrap(),
        text: text.to_owned(),
    };
    assert_eq!(routes(r#"['return 404 "not here"']"#), [bare(answer(404, "not here"))]);
    assert_eq!(routes("[return 204]"), [bare(answer(204, ""))]);
    assert_eq!(routes("[status 503]"), [bare(Handler::Status(StatusCode::SERVICE_UNAVAILABLE))]);
    assert_eq!(routes(r#"['redirect "/a?b=c#d"']"#), [bare(Handler::Redirect("/a?b=c#d".to_owned()))]);
    assert_eq!(
        routes("[redirect https://example.com/]"),
        [bare(Handler::Redirect("https://example.com/".to_owned()))]
    );
}

#[test]
fn patterns_that_are_for_no_host_fit_every_site() {
    let patterns = [
        "_",
        "/a",
        "/a/",
        "+.map",
        "~^x/y",
        "site.local",
        "site.local+",
        "SITE.local/x",
        "sub.site.local/",
        "si+",
    ];
    let list: Vec<String> = patterns.iter().map(|pattern| format!("'{pattern}': web")).collect();
    assert_eq!(routes(&format!("[{}]", list.join(", "))).len(), patterns.len());
    assert_eq!(
        good("services: {w: !App {run: x}}\nserver: {_: {router: [any.host/: w]}}").sites[0].routes.len(),
        1
    );
}

#[test]
fn a_service_may_have_the_name_of_a_directive() {
    let manifest = good("services: {status: !App {run: x}}\nserver: {_: {router: [status, status 404]}}");
    assert_eq!(manifest.sites[0].routes, [bare(to("status")), bare(Handler::Status(StatusCode::NOT_FOUND))]);
}

#[test]
fn merge_keys_and_anchors_save_writing() {
    let manifest = good(
        "
services:
  a: !App &base
    run: x
    env: &env {A: 1}
    cluster: 2
  b: !App
    <<: *base
    cluster: 3
  c: !App
    <<: [{run: y}, *base]
    env: {<<: *env, B: 2}
",
    );
    let apps: Vec<&AppSpec> = manifest
        .services
        .iter()
        .map(|service| match &service.spec.kind {
            ServiceKind::App(spec) => &**spec,
            other => panic!("{other:?}"),
        })
        .collect();
    let run = |spec: &AppSpec| spec.run.as_ref().map(ToString::to_string);
    assert_eq!(apps.iter().map(|spec| spec.instances).collect::<Vec<_>>(), [2, 3, 2]);
    assert_eq!(
        apps.iter().map(|spec| run(spec)).collect::<Vec<_>>(),
        ["x", "x", "y"].map(|x| Some(x.to_owned()))
    );
    assert_eq!(apps[2].env.len(), 2);
}

#[test]
fn what_this_server_does_anyway_may_be_written() {
    good("
repo: {update: false, rollout: all, releases: false, persist: [], bake: 0s, poll: never, hooks: {}}
hosts: []
limits: {}
acme: {}
services:
  a: !App {run: x, release: [], after: [], watch: [], env_file: [], auto_scale: false, unhealthy_timeout: never, lb: {state: none, proto: h1}}
  f: !FS {dynamic: true, immutable: false, cache: {}}
server: {_: {no_upgrade: true, router: [a]}}
");
    assert!(!good("repo: {update: false}").repo.update);
}

#[test]
fn services_and_sites_keep_the_order_of_the_file() {
    let manifest =
        good("services: {z: !FS , a: !FS , m: !FS }\nserver: {z.local: {router: []}, a.local: {router: []}}");
    let names: Vec<&str> = manifest.services.iter().map(|service| service.spec.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
    assert_eq!(manifest.sites[0].hosts, [SiteHost::Name("z.local".to_owned())]);
}

#[test]
fn a_windows_line_end_and_a_byte_order_mark_do_no_harm() {
    good("\u{feff}services:\r\n  a: !App\r\n    run: x\r\n");
}

#[test]
fn the_summary_says_what_would_run() {
    let manifest = good(
        "
services:
  web: !App {run: python3 app.py --name 'a b', cluster: 2}
  jobs: !App {run: ./jobs, background: true, root: .}
  tools: !App {build: make}
  static: !FS /opt/static
  old: !Proxy [10.0.0.2:80, app:81]
server:
  example.com, _:
    router: [/static/: static, [web, old], status 404]
  x.local: {router: []}
",
    );
    assert_eq!(
        manifest.summary().to_string(),
        "root /srv/shop

services
  web     !App    2 instances          web          python3 app.py --name 'a b'
  jobs    !App    1 in the background  .            ./jobs
  tools   !App    build only           tools
  static  !FS     files                /opt/static
  old     !Proxy  2 upstreams                       10.0.0.2:80, app:81

sites
  example.com, _  3 routes  to old, static, web
  x.local         0 routes
"
    );
}

#[test]
fn env_files_are_relative_to_the_manifests_folder_and_may_be_anywhere() {
    for (written, wanted) in [
        (".env", vec!["/srv/shop/.env"]),
        ("[./a.env, ../b.env, /etc/app/c.env]", vec!["/srv/shop/a.env", "/srv/b.env", "/etc/app/c.env"]),
        ("[]", vec![]),
        ("", vec![]),
    ] {
        let text = format!("root: elsewhere\nservices:\n  s: !App\n    run: x\n    env_file: {written}\n");
        let manifest = good(&text);
        let pmesh_supervisor::ServiceKind::App(app) = &manifest.services[0].spec.kind else { panic!() };
        let wanted: Vec<PathBuf> = wanted.into_iter().map(PathBuf::from).collect();
        assert_eq!(app.env_files, wanted, "{written}");
    }
}
