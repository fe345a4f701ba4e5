//! What YAML itself makes of a text.

use crate::assert_mistakes;

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
            "pm3.yml:1:23: server._.router.0: this is not YAML: while parsing node, found unknown anchor; a text that begins with `*` needs quotes, and every host or request is `_`",
        ],
    );
}

#[test]
fn lines_end_with_a_carriage_return_as_well() {
    assert_mistakes(
        "services:\r  a: !App\r    run: x\r    cluster: many\rservice: 1",
        &[
            r#"pm3.yml:4:14: services.a.cluster: expected a whole number from 1 to 10000, found "many""#,
            r#"pm3.yml:5:1: unknown key "service"; did you mean "services"? expected one of root, service_root, env, repo, services, server"#,
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
