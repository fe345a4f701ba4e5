//! Words that people bring from other programs.

use crate::assert_mistakes;

#[test]
fn keys_of_other_programs_lead_to_ours() {
    let port = "each instance is given a port of its own, which it finds in its environment as `PORT`; \
                `env_port` gives that another name";
    let later = ", which this server does not serve yet";
    assert_mistakes(
        "
services:
  web: !App
    run: x
    instances: 2
    script: app.js
    command: node app.js
    port: 3000
    workers: 4
    replicas: 3
    working_dir: web
    environment: {A: 1}
    depends_on: [db]
    healthcheck: {test: curl}
    kill_timeout: 5
    terminationGracePeriodSeconds: 30
    max_memory_restart: 1G
    image: node
    releaseCommand: ./migrate
",
        &[
            r#"pm3.yml:4:5: services.web: unknown key "instances"; here it is `cluster`"#,
            r#"pm3.yml:5:5: services.web: unknown key "script"; here it is `run`"#,
            r#"pm3.yml:6:5: services.web: unknown key "command"; here it is `run`"#,
            &format!(r#"pm3.yml:7:5: services.web: unknown key "port"; {port}"#),
            r#"pm3.yml:8:5: services.web: unknown key "workers"; here it is `cluster`"#,
            r#"pm3.yml:9:5: services.web: unknown key "replicas"; here it is `cluster`"#,
            r#"pm3.yml:10:5: services.web: unknown key "working_dir"; here it is `root`"#,
            r#"pm3.yml:11:5: services.web: unknown key "environment"; here it is `env`"#,
            r#"pm3.yml:12:5: services.web: unknown key "depends_on"; here it is `after`"#,
            r#"pm3.yml:13:5: services.web: unknown key "healthcheck"; here it is `monitor`"#,
            r#"pm3.yml:14:5: services.web: unknown key "kill_timeout"; here it is `stop_timeout`"#,
            r#"pm3.yml:15:5: services.web: unknown key "terminationGracePeriodSeconds"; here it is `stop_timeout`"#,
            &format!(
                r#"pm3.yml:16:5: services.web: unknown key "max_memory_restart"; here it is `max_memory`{later}"#
            ),
            r#"pm3.yml:17:5: services.web: unknown key "image"; services are processes of this machine and no containers: `run` has the command that starts one"#,
            r#"pm3.yml:18:5: services.web: unknown key "releaseCommand"; here it is `release`"#,
        ],
    );
}

#[test]
fn so_do_those_of_other_maps() {
    assert_mistakes(
        "
apps: {}
repo: {branch: main}
services:
  s: !FS {directory: public}
  p: !Proxy {upstreams: 1, servers: [1], lb: {algorithm: least}, monitor: {path: /health}}
  c: !App {run: {program: node}}
  d: !Docker {image: x}
  e: !Static public
server:
  a.local: {locations: [], router: [proxy_pass http://127.0.0.1]}
",
        &[
            r#"pm3.yml:1:1: unknown key "apps"; here it is `services`"#,
            r#"pm3.yml:2:8: repo: unknown key "branch"; the branch that is checked out and its upstream are followed: `git branch --set-upstream-to`"#,
            r#"pm3.yml:4:11: services.s: unknown key "directory"; here it is `path`"#,
            r#"pm3.yml:5:28: services.p: unknown key "servers"; here it is `upstreams`"#,
            r#"pm3.yml:5:47: services.p.lb: unknown key "algorithm"; here it is `strat`"#,
            r#"pm3.yml:5:76: services.p.monitor: unknown key "path"; what is asked stands in `test`, under a name: `test: {tcp: !Tcp}`"#,
            "pm3.yml:6:17: services.c.run: this command has no `exec`, the program",
            r#"pm3.yml:6:18: services.c.run: unknown key "program"; here it is `exec`"#,
            r#"pm3.yml:7:6: services.d: unknown type "!Docker"; here it is `!App`, whose `run` starts the program itself: there are no containers"#,
            r#"pm3.yml:8:6: services.e: unknown type "!Static"; here it is `!FS`"#,
            r#"pm3.yml:10:13: server.a.local: unknown key "locations"; here it is `router`"#,
            r#"pm3.yml:10:37: server.a.local.router.0: "proxy_pass" is neither a service nor a directive; a `!Proxy` of `services` hands requests on; the route has its name"#,
        ],
    );
}

#[test]
fn a_star_for_every_host_or_path_is_ours_without_it() {
    let star = "has a `*`, which stands for nothing but itself; did you mean";
    assert_mistakes(
        r#"
server:
  "*": {router: ["*": status 404]}
  a.local:
    router:
      - "/*": status 404
      - "/api/*": status 404
      - "/x, a.local/b/**": status 404
      - "*.map": status 404
      - "/foo*": status 404
      - "*.a.local/x": status 404
      - "~/x*": status 404
"#,
        &[
            r#"pm3.yml:2:3: server.*: "*" is no host name; every host that no other key names is `_`"#,
            &format!(r#"pm3.yml:2:18: server.*.router.0: pattern "*" {star} "_"?"#),
            &format!(r#"pm3.yml:5:9: server.a.local.router.0: pattern "/*" {star} "_"?"#),
            &format!(r#"pm3.yml:6:9: server.a.local.router.1: pattern "/api/*" {star} "/api/"?"#),
            &format!(r#"pm3.yml:7:9: server.a.local.router.2: pattern "a.local/b/**" {star} "a.local/b/"?"#),
            &format!(r#"pm3.yml:8:9: server.a.local.router.3: pattern "*.map" {star} "+.map"?"#),
            &format!(r#"pm3.yml:9:9: server.a.local.router.4: pattern "/foo*" {star} "/foo+"?"#),
            &format!(r#"pm3.yml:10:9: server.a.local.router.5: pattern "*.a.local/x" {star} "a.local/x"?"#),
        ],
    );
}

#[test]
fn no_more_than_eight_keys_are_named_and_only_what_is_served() {
    assert_mistakes(
        "services: {a: !App {run: x, '?': 1}, b: !FS {'?': 1}}",
        &[
            r#"pm3.yml:1:29: services.a: unknown key "?"; expected one of root, run, build, shutdown, cluster, env, background, monitor and N more"#,
            r#"pm3.yml:1:46: services.b: unknown key "?"; expected one of path, index, 404, dynamic"#,
        ],
    );
}

#[test]
fn a_near_miss_that_is_not_served_yet_is_named_as_such() {
    assert_mistakes(
        "services: {a: !App {run: x, auto_scael: y, stop_timeuot: 1s}}",
        &[
            r#"pm3.yml:1:29: services.a: unknown key "auto_scael"; did you mean "auto_scale", which this server does not serve yet? expected one of root, run, build, shutdown, cluster, env, background, monitor and N more"#,
            r#"pm3.yml:1:44: services.a: unknown key "stop_timeuot"; did you mean "stop_timeout"? expected one of root, run, build, shutdown, cluster, env, background, monitor and N more"#,
        ],
    );
}

#[test]
fn what_only_a_shell_does_is_a_mistake_outside_of_quotes() {
    let shell = "which only a shell understands, and none is involved; write `sh -c '…'`";
    let inside =
        "which is two words to a shell, and none is involved; write `sh -c '…'`, or put the word in quotes";
    let folder = "this command begins with `cd`, which only a shell understands, and none is involved; write \
                  `sh -c 'cd … && …'`, or begin with the folder: `@folder program`";
    for (line, message) in [
        ("cd web", folder.to_owned()),
        ("A=1 cd web", folder.to_owned()),
        ("cd web && npm start", folder.to_owned()),
        ("npm ci && npm start", format!("this command has \"&&\" in it, {shell}")),
        ("a || b", format!("this command has \"||\" in it, {shell}")),
        ("a ; b", format!("this command has \";\" in it, {shell}")),
        ("a; b", format!("this command has \"a;\" in it, {inside}")),
        ("a | b", format!("this command has \"|\" in it, {shell}")),
        ("a|b", format!("this command has \"a|b\" in it, {inside}")),
        ("a&&b", format!("this command has \"a&&b\" in it, {inside}")),
        ("a > b", format!("this command has \">\" in it, {shell}")),
        ("a >b", format!("this command has \">b\" in it, {shell}")),
        ("a 2>b.log", format!("this command has \"2>b.log\" in it, {inside}")),
        ("a 2>&1", format!("this command has \"2>&1\" in it, {shell}")),
        ("exec a", "this command begins with `exec`, ".to_owned() + shell),
        ("source .env", "this command begins with `source`, ".to_owned() + shell),
    ] {
        assert_mistakes(
            &format!("services:\n  a: !App\n    run: |\n      {line}\n"),
            &[&format!("pm3.yml:4:7: services.a.run: {message}")],
        );
    }
}

#[test]
fn the_instances_of_all_services_have_no_more_than_the_ports_there_are() {
    assert_mistakes(
        "
services:
  a: !App {run: x, cluster: 6000}
  b: !App {run: x, cluster: 6000}
  c: !App {run: x, cluster: 6000, background: true}
  d: !App {build: x, cluster: 6000}
",
        &["pm3.yml:2:3: services: 12000 instances in all, and there are 10000 ports (20000–29999) for them"],
    );
}
