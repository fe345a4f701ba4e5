//! Keys at the top, and what a wrong one hides.

use crate::assert_mistakes;

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
            r#"pm3.yml:4:5: services.web: unknown key "stop_timeuot"; did you mean "stop_timeout"? expected one of root, run, build, shutdown, cluster, env, background, monitor and N more"#,
            r#"pm3.yml:5:1: unknown key "service_rot"; did you mean "service_root"? expected one of root, service_root, env, repo, services, server"#,
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
            r#"pm3.yml:1:1: unknown key "service"; did you mean "services"? expected one of root, service_root, env, repo, services, server"#,
            r#"pm3.yml:2:7: root: expected a path, found """#,
            "pm3.yml:3:10: env.A: expected a text, found a list",
            r#"pm3.yml:3:14: env: "B=" cannot be the name of a variable"#,
            r#"pm3.yml:4:16: repo.update: expected true or false, found "maybe""#,
            r#"pm3.yml:4:32: repo.rollout: expected all, found "some""#,
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
            r#"pm3.yml:1:1: unknown key "service"; did you mean "services"? expected one of root, service_root, env, repo, services, server"#,
            r#"pm3.yml:4:27: server.a.local.router.1: "retrun" is neither a service nor a directive; did you mean "return"?"#,
        ],
    );
}

#[test]
fn a_service_at_the_top_is_told_where_it_belongs() {
    assert_mistakes(
        "
web: !App {run: x}
app: !FS public
job: !Npm {}
other: {run: x}
server:
  a.local: {router: [web]}
",
        &[
            r#"pm3.yml:1:1: unknown key "web"; an `!App` belongs under `services`"#,
            r#"pm3.yml:2:1: unknown key "app"; an `!FS` belongs under `services`"#,
            r#"pm3.yml:3:1: unknown key "job"; an `!Npm` belongs under `services`"#,
            r#"pm3.yml:4:1: unknown key "other"; expected one of root, service_root, env, repo, services, server"#,
        ],
    );
}
