//! Every mistake, exactly as a person sees it.

use std::path::Path;

use pmesh_manifest::{Source, Unsupported, parse};

/// Asserts that `text` has exactly these mistakes.
#[track_caller]
fn assert_mistakes(text: &str, expected: &[&str]) {
    // The text begins on a line of its own, for the eye only.
    let text = text.strip_prefix('\n').unwrap_or(text);
    let source = Source { text: text.as_bytes(), file: Path::new("pm3.yml"), folder: Path::new("/srv") };
    let mistakes = parse(&source, Unsupported::Refuse).expect_err("it has mistakes").to_string();
    let found: Vec<&str> = mistakes.lines().collect();
    assert_eq!(found, expected, "\n{mistakes}");
}

#[test]
fn keys_and_values_of_an_app() {
    assert_mistakes(
        "
services:
  web: !App
    root: web
    run: python3 app.py
    cluster: -4
    ready_timeout: 30
    stop_timeout: -5s
    drain_timeout: ever
    build_timeout: 0
    env: [a]
    env_port: my port
    log: a/b
    nofile: lots
    background: yes
    overlap: [true]
    slow_start:
    monitor: 5s
    lb: {state: stiky}
",
        &[
            r#"pm3.yml:5:14: services.web.cluster: expected a whole number from 1 to 10000, found "-4""#,
            r#"pm3.yml:6:20: services.web.ready_timeout: expected a duration with a unit (did you mean "30s"?), found "30""#,
            r#"pm3.yml:7:19: services.web.stop_timeout: expected a duration that is not negative, found "-5s""#,
            r#"pm3.yml:8:20: services.web.drain_timeout: expected a duration such as `500ms`, `30s` or `1h30m`, found "ever""#,
            r#"pm3.yml:9:20: services.web.build_timeout: expected a duration above 0, found "0""#,
            "pm3.yml:10:10: services.web.env: expected a map of names to values, found a list",
            r#"pm3.yml:11:15: services.web.env_port: expected the name of a variable, found "my port""#,
            r#"pm3.yml:12:10: services.web.log: expected a plain file name in the log folder, found "a/b""#,
            r#"pm3.yml:13:13: services.web.nofile: expected a whole number from 1 to 4294967295, found "lots""#,
            r#"pm3.yml:14:17: services.web.background: expected true or false, found "yes""#,
            "pm3.yml:15:14: services.web.overlap: expected true or false, found a list",
            "pm3.yml:16:15: services.web.slow_start: expected true or false, found nothing",
            r#"pm3.yml:17:14: services.web.monitor: expected a map of healthy, unhealthy, timeout, test, found "5s""#,
            r#"pm3.yml:18:17: services.web.lb.state: expected none or sticky, found "stiky"; did you mean "sticky"?"#,
        ],
    );
}

#[test]
fn an_unknown_key_names_its_near_miss() {
    assert_mistakes(
        "
services:
  web: !App
    run: python3 app.py
    stop_timeuot: 5s
service_rot: x
",
        &[
            r#"pm3.yml:4:5: services.web: unknown key "stop_timeuot"; expected one of root, run, build, release, shutdown, after, cluster, cluster_min, env, env_host, env_port, env_listen, env_file, user, nofile, background, monitor, lb, ready_timeout, stop_timeout, build_timeout, drain_timeout, unhealthy_timeout, overlap, slow_start, max_memory, auto_scale, auto_scale_streak, auto_scale_defer, upscale_percent, downscale_percent, watch, log, no_build_control, stdin; did you mean "stop_timeout"?"#,
            r#"pm3.yml:5:1: unknown key "service_rot"; expected one of root, service_root, env, custom_errors, hosts, repo, services, server, runners, jet, ipinfo; did you mean "service_root"?"#,
        ],
    );
}

#[test]
fn names_and_types_of_services() {
    assert_mistakes(
        "
services:
  a: !App {}
  b:
  c: !Ap {run: x}
  d: {run: x}
  e: !App [x]
  f: !App run
  -x: !App {run: y}
  h: !App {run: x, log: i.log}
  i: !App {run: x, stop_timeout: never}
  j: !FS {path: x, 404: ../x, index: a/}
  k: !FS []
",
        &[
            "pm3.yml:2:6: services.a: neither `run` nor `build`: there is nothing to do for it; expected `run: COMMAND`",
            "pm3.yml:3:3: services.b: its type is missing; expected one of !App, !FS, !Proxy, !Npm, !Pnpm, !Yarn, !Bun, !Js, !Py, !Flask, !Go, !Cargo",
            r#"pm3.yml:4:6: services.c: unknown type "!Ap"; expected one of !App, !FS, !Proxy, !Npm, !Pnpm, !Yarn, !Bun, !Js, !Py, !Flask, !Go, !Cargo; did you mean "!App"?"#,
            "pm3.yml:5:3: services.d: its type is missing; expected one of !App, !FS, !Proxy, !Npm, !Pnpm, !Yarn, !Bun, !Js, !Py, !Flask, !Go, !Cargo",
            "pm3.yml:6:6: services.e: expected a map such as {run: python3 app.py}, found a list",
            r#"pm3.yml:7:6: services.f: expected a map such as {run: python3 app.py}, found "run""#,
            r#"pm3.yml:8:3: services.-x: "-x" cannot be a service's name; use 1 to 63 of A-Z a-z 0-9 . _ - and begin with a letter or digit"#,
            r#"pm3.yml:10:3: services.i: its log file "i.log" is that of service "h" too; each has one of its own"#,
            r#"pm3.yml:10:34: services.i.stop_timeout: expected a duration that ends, such as `24h`, found "never""#,
            r#"pm3.yml:11:25: services.j.404: expected a file of the folder, found "../x""#,
            r#"pm3.yml:11:38: services.j.index: expected a file of the folder, found "a/""#,
            "pm3.yml:12:6: services.k: expected a folder, or a map such as {path: public}, found a list",
        ],
    );
}

#[test]
fn commands() {
    assert_mistakes(
        r#"
services:
  a: !App {run: "cd x && y"}
  b: !App {run: "node --port=$PORT"}
  c: !App {run: node > out.log}
  d: !App {run: "'a"}
  e: !App {run: ""}
  f: !App {run: [node, app.js]}
  g: !App {run: {cwd: x, args: [a, 1, [b], ], en: {}}}
  h: !App
    run: |
      cd x
      node y
  i: !App {build: [make, "make $(nproc)", {exec: ls, args: a}]}
  j: !App {run: A=1 B=2}
  k: !App {run: "@ x"}
  l: !App {run: "x #y", shutdown: !Foo x}
"#,
        &[
            r#"pm3.yml:2:17: services.a.run: this command has "&&" in it, which only a shell understands, and none is involved; write `sh -c '…'`"#,
            r#"pm3.yml:3:17: services.b.run: this command has "--port=$PORT" in it, which only a shell understands, and none is involved; write `sh -c '…'`"#,
            r#"pm3.yml:4:17: services.c.run: this command has ">" in it, which only a shell understands, and none is involved; write `sh -c '…'`"#,
            "pm3.yml:5:17: services.d.run: this command opens a quote and does not close it",
            "pm3.yml:6:17: services.e.run: this command has no program; write its words, such as `python3 app.py`",
            "pm3.yml:7:17: services.f.run: expected a command: one line, or a map of cwd, exec, args, env, found a list",
            "pm3.yml:8:17: services.g.run: this command has no `exec`, the program",
            "pm3.yml:8:39: services.g.run.args.2: expected a word, found a list",
            r#"pm3.yml:8:47: services.g.run: unknown key "en"; expected one of cwd, exec, args, env; did you mean "env"?"#,
            "pm3.yml:11:7: services.h.run: this command has more than one line; write one, or `sh -c '…'`",
            r#"pm3.yml:13:26: services.i.build.1: this command has "$(nproc)" in it, which only a shell understands, and none is involved; write `sh -c '…'`"#,
            r#"pm3.yml:13:60: services.i.build.2.args: expected a list of words, found "a""#,
            "pm3.yml:14:17: services.j.run: this command has no program; write its words, such as `python3 app.py`",
            "pm3.yml:15:17: services.k.run: this command names no folder behind `@`",
            "pm3.yml:16:17: services.l.run: this command has a word that begins with `#`, which a shell takes for a comment; put it in quotes",
            r#"pm3.yml:16:35: services.l.shutdown: expected a command: one line, or a map of cwd, exec, args, env, found !Foo "x""#,
        ],
    );
}

#[test]
fn upstreams_probes_and_balancing() {
    assert_mistakes(
        r#"
services:
  p: !Proxy
  q: !Proxy ["a:b", 10.0.0.1:80, 10.0.0.1:80]
  r: !Proxy {upstream: 80}
  s: !Proxy
    upstreams: []
    monitor: {port_owner: any, test: {}}
    lb: {strat: rand, retry: {attempts: 0}, backoff: 1s, queue: {for: 5, bytes: lots}, proto: h3}
  t: !Proxy
    upstreams: 80
    monitor:
      test: {a: !Htp {}, b: !Tcp {x: 1}, c: GET}
      healthy: {interval: never, threshold: 0}
"#,
        &[
            "pm3.yml:2:6: services.p: expected at least one upstream, found none",
            r#"pm3.yml:3:14: services.q.0: expected an address such as `10.0.0.2:8080`, `http://app.internal:8080`, `[::1]:8080` or a port, found "a:b""#,
            r#"pm3.yml:3:34: services.q.2: "10.0.0.1:80" is there twice"#,
            "pm3.yml:4:6: services.r: `upstreams` is missing; expected where to hand requests on to",
            r#"pm3.yml:4:14: services.r: unknown key "upstream"; expected one of upstreams, monitor, lb; did you mean "upstreams"?"#,
            "pm3.yml:6:16: services.s.upstreams: expected at least one upstream, found none",
            r#"pm3.yml:7:15: services.s.monitor: unknown key "port_owner"; expected one of healthy, unhealthy, timeout, test"#,
            "pm3.yml:7:38: services.s.monitor.test: a probe without a check; expected at least one, such as `tcp: !Tcp`",
            r#"pm3.yml:8:17: services.s.lb.strat: expected least, round-robin, random or hash, found "rand"; did you mean "random"?"#,
            r#"pm3.yml:8:41: services.s.lb.retry.attempts: expected a whole number from 1 to 100, found "0""#,
            "pm3.yml:8:54: services.s.lb.backoff: `backoff` beside `retry`; write it inside of that",
            r#"pm3.yml:8:71: services.s.lb.queue.for: expected a duration with a unit (did you mean "5s"?), found "5""#,
            r#"pm3.yml:8:81: services.s.lb.queue.bytes: expected a size such as `512M`, `1GiB` or `1gb`, found "lots""#,
            r#"pm3.yml:8:95: services.s.lb.proto: expected h1 or h2, found "h3"; did you mean "h2"?"#,
            r#"pm3.yml:12:17: services.t.monitor.test.a: unknown check "!Htp"; expected !Tcp or !Http; did you mean "!Http"?"#,
            r#"pm3.yml:12:35: services.t.monitor.test.b: unknown key "x"; expected no key"#,
            r#"pm3.yml:12:45: services.t.monitor.test.c: expected !Tcp, !Http {…} or `GET /path 200`, found "GET""#,
            r#"pm3.yml:13:27: services.t.monitor.healthy.interval: expected a duration that ends, such as `24h`, found "never""#,
            r#"pm3.yml:13:45: services.t.monitor.healthy.threshold: expected a whole number from 1 to 1000, found "0""#,
        ],
    );
}

#[test]
fn hosts_of_sites() {
    assert_mistakes(
        r#"
server:
  a.local, A.local.: {router: []}
  "a:80, *.b, ü, a/b, , _": {}
  a.local: {router: web, rooter: []}
  _: [x]
"#,
        &[
            r#"pm3.yml:2:3: server.a.local, A.local.: host "A.local." is there twice, first in line 2"#,
            r#"pm3.yml:3:3: server.a:80, *.b, ü, a/b, , _: "a:80" has a port; a site answers on every port of the front"#,
            r#"pm3.yml:3:3: server.a:80, *.b, ü, a/b, , _: "*.b" has a `*`; the subdomains of a name belong to it anyway"#,
            r#"pm3.yml:3:3: server.a:80, *.b, ü, a/b, , _: "ü" has letters beyond ASCII; write it as DNS does (`xn--…`)"#,
            r#"pm3.yml:3:3: server.a:80, *.b, ü, a/b, , _: "a/b" has a path; paths belong to the patterns of the router"#,
            r#"pm3.yml:3:3: server.a:80, *.b, ü, a/b, , _: "" is no host name: labels of 1 to 63 of a-z 0-9 - _ between dots, 253 characters at most"#,
            "pm3.yml:3:29: server.a:80, *.b, ü, a/b, , _: `router` is missing; expected a list of routes",
            r#"pm3.yml:4:3: server.a.local: host "a.local" is there twice, first in line 2"#,
            r#"pm3.yml:4:21: server.a.local.router: expected a list of routes: `PATTERN: HANDLER`, a service, a directive, or a nested list, found "web""#,
            r#"pm3.yml:4:26: server.a.local: unknown key "rooter"; expected one of no_upgrade, certs, router; did you mean "router"?"#,
            r#"pm3.yml:5:3: server._: host "_" is there twice, first in line 3"#,
            "pm3.yml:5:6: server._: expected a map such as {router: [web]}, found a list",
        ],
    );
}

#[test]
fn routes() {
    assert_mistakes(
        r#"
services: {web: !App {run: x}, bg: !App {run: x, background: true}, b: !App {build: x}}
server:
  "Example.com, example.local":
    router:
      - examle.com/: web
      - example.local/: wbe
      - api.example.com/: bg
      - _: b
      - api/, /x: web
      - retrun 404
      - return 99
      - return 404 not found
      - status
      - redirect "a b"
      - [web, [!Swich {}]]
      - 'return 200 "a'
      - {}
      -
"#,
        &[
            r#"pm3.yml:5:9: server.Example.com, example.local.router.0: pattern "examle.com/" can never match: its host is "examle.com", and patterns of this site see "example.com" or a subdomain of it; did you mean "example.com"?"#,
            r#"pm3.yml:6:9: server.Example.com, example.local.router.1: pattern "example.local/" can never match: its host is "example.local", and patterns of this site see "example.com" or a subdomain of it; did you mean "example.com"?"#,
            r#"pm3.yml:6:25: server.Example.com, example.local.router.1.example.local/: "wbe" is neither a service nor a directive; did you mean "web"?"#,
            r#"pm3.yml:7:27: server.Example.com, example.local.router.2.api.example.com/: service "bg" serves nothing: it runs in the background"#,
            r#"pm3.yml:8:12: server.Example.com, example.local.router.3._: service "b" serves nothing: it has no `run`"#,
            r#"pm3.yml:9:9: server.Example.com, example.local.router.4: pattern "api/" can never match: its host is "api", and patterns of this site see "example.com" or a subdomain of it; did you mean "/api/"?"#,
            r#"pm3.yml:10:9: server.Example.com, example.local.router.5: "retrun" is neither a service nor a directive; did you mean "return"?"#,
            r#"pm3.yml:11:9: server.Example.com, example.local.router.6: expected a status from 200 to 599 in `return CODE "text"`, found "99""#,
            r#"pm3.yml:12:9: server.Example.com, example.local.router.7: more words than `return CODE "text"` takes; put the text in quotes"#,
            r#"pm3.yml:13:9: server.Example.com, example.local.router.8: expected `status CODE`, found "status""#,
            r#"pm3.yml:14:9: server.Example.com, example.local.router.9: expected `redirect "url"`, found "redirect \"a b\"""#,
            r#"pm3.yml:15:16: server.Example.com, example.local.router.10.1.0: unknown router "!Swich"; did you mean "!Switch-Path"?"#,
            "pm3.yml:16:9: server.Example.com, example.local.router.11: this handler opens a quote and does not close it",
            "pm3.yml:17:9: server.Example.com, example.local.router.12: expected a list of routes: `PATTERN: HANDLER`, a service, a directive, or a nested list, found a map",
            "pm3.yml:18:8: server.Example.com, example.local.router.13: expected a service, a directive or a list of routes, found nothing",
        ],
    );
}

#[test]
fn a_pattern_in_a_spelling_that_no_path_is_seen_in_is_a_mistake() {
    const NEVER: &str = "can never match: patterns see a path with its escapes decoded, repeated slashes merged \
                         and dot segments removed";
    assert_mistakes(
        r"server:
  example.com:
    router:
      - /gr%C3%B6%C3%9Fe/, /ok: status 403
      - example.com//admin/: status 403
      - '/a\b': status 403
      - '/100%': status 403
      - /100%25/, +.map, ~%2f: status 403
",
        &[
            &format!(
                "pm3.yml:4:9: server.example.com.router.0: pattern \"/gr%C3%B6%C3%9Fe/\" {NEVER}; did you mean \
                 \"/gr\u{f6}\u{df}e/\"?"
            ),
            &format!(
                "pm3.yml:5:9: server.example.com.router.1: pattern \"example.com//admin/\" {NEVER}; did you mean \
                 \"example.com/admin/\"?"
            ),
            &format!("pm3.yml:6:9: server.example.com.router.2: pattern \"/a\\\\b\" {NEVER}"),
            &format!(
                "pm3.yml:7:9: server.example.com.router.3: pattern \"/100%\" {NEVER}; did you mean \"/100%25\"?"
            ),
        ],
    );
}

#[test]
fn the_top_level() {
    assert_mistakes(
        r#"
service: {}
root: ""
env: {A: [], "B=": 1}
repo: {update: maybe, rollout: some, bake: x, poll: -1m, hooks: []}
server: 5
services: 5
"#,
        &[
            r#"pm3.yml:1:1: unknown key "service"; expected one of root, service_root, env, custom_errors, hosts, repo, services, server, runners, jet, ipinfo; did you mean "services"?"#,
            r#"pm3.yml:2:7: root: expected a path, found """#,
            "pm3.yml:3:10: env.A: expected a text, found a list",
            r#"pm3.yml:3:14: env: "B=" cannot be the name of a variable"#,
            r#"pm3.yml:4:16: repo.update: expected true or false, found "maybe""#,
            r#"pm3.yml:4:32: repo.rollout: expected all or changed, found "some""#,
            r#"pm3.yml:4:44: repo.bake: expected a duration such as `500ms`, `30s` or `1h30m`, found "x""#,
            r#"pm3.yml:4:53: repo.poll: expected a duration that is not negative, found "-1m""#,
            "pm3.yml:4:65: repo.hooks: expected a map of names to hooks, found a list",
            r#"pm3.yml:5:9: server: expected a map of host names to sites, found "5""#,
            r#"pm3.yml:6:11: services: expected a map of names to services, found "5""#,
        ],
    );
}

#[test]
fn what_is_missing_by_mistake_is_not_missed_again() {
    assert_mistakes(
        "
service:
  web: !App {run: x}
server:
  a.local: {router: [web, retrun 404]}
",
        &[
            r#"pm3.yml:1:1: unknown key "service"; expected one of root, service_root, env, custom_errors, hosts, repo, services, server, runners, jet, ipinfo; did you mean "services"?"#,
            r#"pm3.yml:4:27: server.a.local.router.1: "retrun" is neither a service nor a directive; did you mean "return"?"#,
        ],
    );
}

#[test]
fn a_broken_service_is_still_one_to_its_routes() {
    assert_mistakes(
        r#"
services:
  a: !Ap {run: x}
  -b: !App {run: x}
  c: !App {run: "x && y"}
server:
  a.local: {router: [a, -b, c]}
"#,
        &[
            r#"pm3.yml:2:6: services.a: unknown type "!Ap"; expected one of !App, !FS, !Proxy, !Npm, !Pnpm, !Yarn, !Bun, !Js, !Py, !Flask, !Go, !Cargo; did you mean "!App"?"#,
            r#"pm3.yml:3:3: services.-b: "-b" cannot be a service's name; use 1 to 63 of A-Z a-z 0-9 . _ - and begin with a letter or digit"#,
            r#"pm3.yml:4:17: services.c.run: this command has "&&" in it, which only a shell understands, and none is involved; write `sh -c '…'`"#,
        ],
    );
}

#[test]
fn a_key_that_is_there_twice_hides_nothing() {
    assert_mistakes(
        "
services:
  a: !App {run: x, run: y, cluster: 0}
  a: !App {run: z}
server: {}
server: {}
",
        &[
            r#"pm3.yml:2:20: services.a: key "run" is there twice"#,
            r#"pm3.yml:2:37: services.a.cluster: expected a whole number from 1 to 10000, found "0""#,
            r#"pm3.yml:3:3: services: key "a" is there twice"#,
            r#"pm3.yml:5:1: key "server" is there twice"#,
        ],
    );
}

#[test]
fn a_mistake_in_an_anchored_value_is_told_once_and_where_it_is() {
    assert_mistakes(
        "
services:
  a: !App &base
    run: x
    cluster: many
  b: !App {<<: *base}
  c: !App {<<: [*base, 5], cluster: 2}
",
        &[
            r#"pm3.yml:4:14: services.a.cluster: expected a whole number from 1 to 10000, found "many""#,
            "pm3.yml:6:24: services.c: `<<` takes a map or a list of maps",
        ],
    );
}

#[test]
fn a_tab_is_no_indentation() {
    assert_mistakes(
        "
services:
	a: !App
",
        &[
            "pm3.yml:2:2: services: this is not YAML: tabs disallowed within this context (block indentation); indent with spaces",
        ],
    );
}

#[test]
fn a_text_that_yaml_takes_for_something_else_needs_quotes() {
    assert_mistakes(
        "
services:
  a: !App
    run: @src node
",
        &[
            "pm3.yml:3:10: services.a.run: this is not YAML: unexpected character: `@'; put the text in quotes",
        ],
    );
}

#[test]
fn a_text_with_a_colon_needs_quotes() {
    assert_mistakes(
        r#"
server:
  a.local:
    router:
      - /x: return 200 "a: b"
"#,
        &[
            "pm3.yml:4:26: server.a.local.router.0: this is not YAML: mapping values are not allowed in this context; a text with `: ` in it needs quotes around all of it",
        ],
    );
}

#[test]
fn a_text_that_begins_with_a_star_needs_quotes() {
    assert_mistakes(
        "
server: {_: {router: [*.map: web]}}
",
        &[
            "pm3.yml:1:23: server._.router.0: this is not YAML: while parsing node, found unknown anchor; a text that begins with `*` needs quotes",
        ],
    );
}

#[test]
fn lines_end_with_a_carriage_return_as_well() {
    assert_mistakes(
        "services:\r  a: !App\r    run: x\r    cluster: many\rservice: 1",
        &[
            r#"pm3.yml:4:14: services.a.cluster: expected a whole number from 1 to 10000, found "many""#,
            r#"pm3.yml:5:1: unknown key "service"; expected one of root, service_root, env, custom_errors, hosts, repo, services, server, runners, jet, ipinfo; did you mean "services"?"#,
        ],
    );
}

#[test]
fn a_handler_in_quotes_of_its_own_is_what_it_says() {
    assert_mistakes(
        r#"
services: {web: !App {run: x}}
server:
  _:
    router:
      - '"web"'
      - web b
      - '"web b"'
      - '"retrun"'
"#,
        &[
            r#"pm3.yml:6:9: server._.router.1: expected nothing behind the service "web", found "web b""#,
            r#"pm3.yml:7:9: server._.router.2: "web b" is neither a service nor a directive; did you mean "web"?"#,
            r#"pm3.yml:8:9: server._.router.3: "retrun" is neither a service nor a directive; did you mean "return"?"#,
        ],
    );
}

#[test]
fn a_secret_is_not_shown() {
    assert_mistakes(
        "
server:
  _:
    router:
      - auth ann:secret
      - atuh staff ann:secret
",
        &[
            "pm3.yml:4:9: server._.router.0: expected `auth REALM user:password`, found `auth` and 1 more word",
            "pm3.yml:4:9: server._.router.0: `auth` is part of the format, but this server does not serve it yet",
            r#"pm3.yml:5:9: server._.router.1: "atuh" is neither a service nor a directive; did you mean "auth"?"#,
        ],
    );
}

#[test]
fn a_merge_key_is_there_once() {
    assert_mistakes(
        "
services:
  a: !App &a {run: x}
  b: !App
    <<: *a
    <<: *a
",
        &[r#"pm3.yml:5:5: services.b: key "<<" is there twice"#],
    );
}

#[test]
fn the_floor_of_auto_scaling_is_below_its_ceiling() {
    let not_served = "is part of the format, but this server does not serve it yet";
    assert_mistakes(
        "
services:
  a: !App {run: x, cluster_min: [1, 2]}
  b: !App {run: x, cluster_min: 3, cluster: 2}
  c: !App {run: x, cluster_min: 2}
  d: !App {run: x, user: ''}
",
        &[
            "pm3.yml:2:33: services.a.cluster_min: expected the number of instances, found a list",
            &format!("pm3.yml:2:33: services.a.cluster_min: `cluster_min` {not_served}"),
            "pm3.yml:3:33: services.b.cluster_min: 3 is more than `cluster`, which is 2",
            &format!("pm3.yml:3:33: services.b.cluster_min: `cluster_min` {not_served}"),
            "pm3.yml:4:33: services.c.cluster_min: 2 is more than `cluster`, which is 1",
            &format!("pm3.yml:4:33: services.c.cluster_min: `cluster_min` {not_served}"),
            r#"pm3.yml:5:26: services.d.user: expected the name of a user, found """#,
            &format!("pm3.yml:5:26: services.d.user: `user` {not_served}"),
        ],
    );
}

#[test]
fn no_service_waits_for_itself() {
    let not_served = "`after` is part of the format, but this server does not serve it yet";
    assert_mistakes(
        "
services:
  a: !App {run: x, after: b}
  b: !App {run: x, after: [d, c]}
  c: !App {run: x, after: a}
  d: !FS
  e: !App {run: x, after: a}
",
        &[
            &format!("pm3.yml:2:27: services.a.after: {not_served}"),
            r#"pm3.yml:2:27: services.a.after: a cycle: "a" starts after "b", "b" after "c", "c" after "a""#,
            &format!("pm3.yml:3:27: services.b.after: {not_served}"),
            &format!("pm3.yml:4:27: services.c.after: {not_served}"),
            &format!("pm3.yml:6:27: services.e.after: {not_served}"),
        ],
    );
}

#[test]
fn each_place_to_listen_has_a_variable_of_its_own() {
    assert_mistakes(
        "
services:
  a: !App {run: x, env_host: PORT}
  b: !App {run: x, env_port: A, env_listen: A}
  c: !App {run: x, env_host: PORT, env_port: HOST}
",
        &[
            r#"pm3.yml:2:30: services.a.env_host: "PORT" is the variable of the port already"#,
            r#"pm3.yml:3:45: services.b.env_listen: "A" is the variable of the port already"#,
        ],
    );
}

#[test]
fn a_log_is_not_where_another_one_is_rotated_to() {
    assert_mistakes(
        "
services:
  a: !App {run: x, log: b.log.1}
  b: !App {run: x}
  c: !App {run: x, log: b.log.x}
  d: !App {run: x, log: b.log.2.1}
",
        &[r#"pm3.yml:2:25: services.a: its log file "b.log.1" is where that of service "b" is rotated to"#],
    );
}

#[test]
fn what_a_router_leads_to_is_checked_before_it_is_served() {
    let not_served = "is part of the format, but this server does not serve it yet";
    assert_mistakes(
        "
services:
  web: !App
    run: x
    lb:
      404: {handle: wbe}
      5xx: {handle: [web, status 500]}
server:
  _:
    router:
      - !Switch-Method {GET: web, POST: wbe, _: [web, retrun 404]}
      - !Switch-Path web
",
        &[
            &format!(
                "pm3.yml:5:12: services.web.lb.404: an error handler of `lb` (`404`, `4xx`, `5xx`) {not_served}"
            ),
            r#"pm3.yml:5:21: services.web.lb.404.handle: "wbe" is neither a service nor a directive; did you mean "web"?"#,
            &format!(
                "pm3.yml:6:12: services.web.lb.5xx: an error handler of `lb` (`404`, `4xx`, `5xx`) {not_served}"
            ),
            &format!("pm3.yml:10:9: server._.router.0: `!Switch-Method` {not_served}"),
            r#"pm3.yml:10:41: server._.router.0.POST: "wbe" is neither a service nor a directive; did you mean "web"?"#,
            r#"pm3.yml:10:55: server._.router.0._.1: "retrun" is neither a service nor a directive; did you mean "return"?"#,
            &format!("pm3.yml:11:9: server._.router.1: `!Switch-Path` {not_served}"),
            r#"pm3.yml:11:9: server._.router.1: expected a map of what is looked for to routes, found "web""#,
        ],
    );
}
