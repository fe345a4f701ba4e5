//! What is wrong with sites, patterns and handlers.

use crate::assert_mistakes;

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
            r#"pm3.yml:4:21: server.a.local.router: "web" is neither a service nor a directive"#,
            r#"pm3.yml:4:26: server.a.local: unknown key "rooter"; did you mean "router"? expected one of no_upgrade, router"#,
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
            r#"pm3.yml:15:16: server.Example.com, example.local.router.10.1.0: unknown router "!Swich"; did you mean "!Switch-Path", which this server does not serve yet?"#,
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
            r#"pm3.yml:2:6: services.a: unknown type "!Ap"; did you mean "!App"? expected one of !App, !FS, !Proxy"#,
            r#"pm3.yml:3:3: services.-b: "-b" cannot be a service's name; use 1 to 63 of A-Z a-z 0-9 . _ - and begin with a letter or digit"#,
            r#"pm3.yml:4:17: services.c.run: this command has "&&" in it, which only a shell understands, and none is involved; write `sh -c '…'`"#,
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
            r#"pm3.yml:5:9: server._.router.1: "atuh" is neither a service nor a directive; did you mean "auth", which this server does not serve yet?"#,
        ],
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
      - !Switch-Method [GET: web, POST: wbe, _: [web, retrun 404]]
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
            r#"pm3.yml:10:41: server._.router.0.1.POST: "wbe" is neither a service nor a directive; did you mean "web"?"#,
            r#"pm3.yml:10:55: server._.router.0.2._.1: "retrun" is neither a service nor a directive; did you mean "return"?"#,
            &format!("pm3.yml:11:9: server._.router.1: `!Switch-Path` {not_served}"),
            r#"pm3.yml:11:9: server._.router.1: expected a list of `PATTERN: HANDLER`, found "web""#,
        ],
    );
}
