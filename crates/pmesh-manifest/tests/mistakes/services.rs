//! What is wrong with services.

use crate::{assert_mistakes, mistakes};

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
            r#"pm3.yml:18:17: services.web.lb.state: expected none, found "stiky"; did you mean "sticky", which this server does not serve yet?"#,
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
            "pm3.yml:3:3: services.b: its type is missing; expected one of !App, !FS, !Proxy",
            r#"pm3.yml:4:6: services.c: unknown type "!Ap"; did you mean "!App"? expected one of !App, !FS, !Proxy"#,
            "pm3.yml:5:3: services.d: its type is missing; expected one of !App, !FS, !Proxy",
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
            "pm3.yml:2:17: services.a.run: this command begins with `cd`, which only a shell understands, and none is involved; write `sh -c 'cd … && …'`, or begin with the folder: `@folder program`",
            r#"pm3.yml:3:17: services.b.run: this command has "--port=$PORT" in it, which only a shell understands, and none is involved; write `sh -c '…'`"#,
            r#"pm3.yml:4:17: services.c.run: this command has ">" in it, which only a shell understands, and none is involved; write `sh -c '…'`"#,
            "pm3.yml:5:17: services.d.run: this command opens a quote and does not close it",
            "pm3.yml:6:17: services.e.run: this command has no program; write its words, such as `python3 app.py`",
            "pm3.yml:7:17: services.f.run: expected a command: one line, or a map of cwd, exec, args, env, found a list",
            "pm3.yml:8:17: services.g.run: this command has no `exec`, the program",
            "pm3.yml:8:39: services.g.run.args.2: expected a word, found a list",
            r#"pm3.yml:8:47: services.g.run: unknown key "en"; did you mean "env"? expected one of cwd, exec, args, env"#,
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
            r#"pm3.yml:4:14: services.r: unknown key "upstream"; did you mean "upstreams"? expected one of upstreams, monitor, lb"#,
            "pm3.yml:6:16: services.s.upstreams: expected at least one upstream, found none",
            r#"pm3.yml:7:15: services.s.monitor: unknown key "port_owner"; expected one of healthy, unhealthy, timeout, test"#,
            "pm3.yml:7:38: services.s.monitor.test: a probe without a check; expected at least one, such as `tcp: !Tcp`",
            r#"pm3.yml:8:17: services.s.lb.strat: expected least or round-robin, found "rand"; did you mean "random", which this server does not serve yet?"#,
            r#"pm3.yml:8:41: services.s.lb.retry.attempts: expected a whole number from 1 to 100, found "0""#,
            "pm3.yml:8:54: services.s.lb.backoff: `backoff` beside `retry`; write it inside of that",
            r#"pm3.yml:8:71: services.s.lb.queue.for: expected a duration with a unit (did you mean "5s"?), found "5""#,
            r#"pm3.yml:8:81: services.s.lb.queue.bytes: expected a size such as `512M`, `1GiB` or `1gb`, found "lots""#,
            r#"pm3.yml:8:95: services.s.lb.proto: expected h1, found "h3"; did you mean "h2", which this server does not serve yet?"#,
            r#"pm3.yml:12:17: services.t.monitor.test.a: unknown check "!Htp"; did you mean "!Http", which this server does not serve yet? expected !Tcp"#,
            r#"pm3.yml:12:35: services.t.monitor.test.b: unknown key "x"; expected no key"#,
            r#"pm3.yml:12:45: services.t.monitor.test.c: expected the check !Tcp, found "GET""#,
            r#"pm3.yml:13:27: services.t.monitor.healthy.interval: expected a duration that ends, such as `24h`, found "never""#,
            r#"pm3.yml:13:45: services.t.monitor.healthy.threshold: expected a whole number from 1 to 1000, found "0""#,
        ],
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
            r#"pm3.yml:5:26: services.d.user: expected the name or the number of a user, found """#,
        ],
    );
}

#[test]
fn no_service_waits_for_itself() {
    assert_mistakes(
        "
services:
  a: !App {run: x, after: b}
  b: !App {run: x, after: [d, c]}
  c: !App {run: x, after: a}
  d: !FS
  e: !App {run: x, after: a}
",
        &[r#"pm3.yml:2:27: services.a.after: a cycle: "a" starts after "b", "b" after "c", "c" after "a""#],
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
  e: !App {run: x, log: b.log.index}
  f: !App {run: x, log: b.log.1.index}
  g: !App {run: x, log: b.index}
",
        &[
            r#"pm3.yml:2:25: services.a: its log file "b.log.1" is where that of service "b" is rotated to"#,
            r#"pm3.yml:6:25: services.e: its log file "b.log.index" is where the index of that of service "b" is kept"#,
            r#"pm3.yml:7:25: services.f: its log file "b.log.1.index" is where the index of that of service "b" is kept"#,
        ],
    );
}

#[test]
fn only_what_has_no_port_may_end_by_itself() {
    let text = "services: {a: !App {run: x, restart: never}, b: !App {run: x, restart: always}, c: !App {run: x, background: true, restart: sometimes}}";
    assert_mistakes(
        text,
        &[
            "pm3.yml:1:38: services.a.restart: it is for background services: one with a port is always started again; expected `background: true` beside it",
            r#"pm3.yml:1:125: services.c.restart: expected always, on-failure or never, found "sometimes""#,
        ],
    );
}

#[test]
fn the_times_of_a_job_are_checked() {
    let text = "services:
  a: !App {run: x, schedule: every day}
  b: !App {run: x, schedule: 0 0 30 2 *}
  c: !App {run: x, schedule: '* * * *'}
  d: !App {run: x, schedule: 0 3 * * *, env: {TZ: Mars/Olympus}}
  e: !App {build: x, schedule: every 1h}
  f: !App {run: x, schedule: every 10ms}
  g: !App {run: x, timeout: 1m}
  h: !App {run: x, schedule: every 1h, timeout: 30}
";
    let found = mistakes(text);
    let wanted = [
        "2:30: services.a.schedule: expected a period of at least 1 s such as `every 10m` or `every 1h30m`",
        "3:30: services.b.schedule: no day and time is ever like this",
        "4:30: services.c.schedule: expected five fields (minute, hour, day of the month, month, day of the week)",
        "5:30: services.d.schedule: there is no time zone `Mars/Olympus` on this machine",
        "6:32: services.e.schedule: there is nothing to run at these times; expected `run: COMMAND`",
        "7:30: services.f.schedule: expected a period of at least 1 s",
        "8:29: services.g.timeout: `timeout` is for the runs of a `schedule`, and there is none",
        "9:49: services.h.timeout: expected a duration",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(&format!("pm3.yml:{wanted}")), "{found}");
    }
}
