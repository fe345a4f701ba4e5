//! Manifests that want to hurt: bombs, noise, and good ones with anything changed.

use std::{path::Path, time::Instant};

use pmesh_manifest::{Manifest, ManifestText, Mistakes, Unsupported, parse};
use proptest::prelude::*;

fn read(text: &[u8]) -> Result<Manifest, Mistakes> {
    let source = ManifestText::new(text, Path::new("pm3.yml"), Path::new("/srv"));
    parse(&source, Unsupported::Refuse)
}

/// The messages of a manifest that is refused.
#[track_caller]
fn refused(text: impl AsRef<[u8]>) -> String {
    read(text.as_ref()).expect_err("it is refused").to_string()
}

/// One line for each number.
fn lines(numbers: std::ops::Range<usize>, line: impl Fn(usize) -> String) -> String {
    numbers.map(line).collect::<Vec<_>>().concat()
}

#[test]
fn a_file_above_1_mib_is_refused_unread() {
    let mut text = b"services: {}\n".to_vec();
    text.resize(1 << 20, b'#');
    assert!(read(&text).is_ok());
    text.push(b'#');
    assert_eq!(refused(&text), "pm3.yml:1:1: the file is larger than 1048576 bytes");
}

#[test]
fn deep_nesting_is_refused_where_it_gets_too_deep() {
    let shown = refused(format!("a: {}", "[".repeat(200_000)));
    assert!(shown.starts_with("pm3.yml:1:69: a.0: nested deeper than 64 levels"), "{shown}");
    let maps = lines(0..1000, |depth| format!("{}a:\n", " ".repeat(depth)));
    assert!(refused(maps).contains("nested deeper than 64 levels"));
    let lists = lines(0..500, |depth| format!("{}-\n", " ".repeat(depth)));
    assert!(refused(lists).contains("nested deeper than 64 levels"));
}

#[test]
fn nesting_through_aliases_counts_too() {
    let levels = lines(1..50, |level| format!("  b{level}: &a{level} [[[[[[[[[[*a{}]]]]]]]]]]\n", level - 1));
    assert!(
        refused(format!("services:\n  a: &a0 [[[[[[[[[[]]]]]]]]]]\n{levels}"))
            .contains("nested deeper than 64 levels")
    );
}

#[test]
fn an_alias_bomb_is_refused_at_once() {
    let levels = lines(1..20, |level| {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("a{level}: &a{level} [{aliases}]\n")
    });
    let begin = Instant::now();
    assert!(
        refused(format!("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{levels}"))
            .contains("more than 100000 values, with what aliases stand for")
    );
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

#[test]
fn long_text_that_is_used_often_is_a_bomb_too() {
    let long = "x".repeat(100_000);
    let users = lines(0..500, |service| format!("  s{service}: !App {{run: x, env: *e}}\n"));
    assert!(
        refused(format!("services:\n  a: !App {{run: x, env: &e {{A: {long}}}}}\n{users}"))
            .contains("more than 100000 values")
    );
}

#[test]
fn an_environment_is_bounded_because_every_service_has_a_copy() {
    let text = format!("env: {{A: {}}}\nservices: {{a: !App {{run: x}}}}\n", "x".repeat(200_000));
    assert_eq!(refused(text), "pm3.yml:1:6: env: an environment of more than 131072 bytes");
}

#[test]
fn services_are_bounded_and_their_routes_are_no_mistakes_then() {
    let services = lines(0..1001, |service| format!("  s{service}: !FS\n"));
    let text = format!("services:\n{services}server: {{_: {{router: [s1]}}}}\n");
    assert_eq!(refused(text), "pm3.yml:2:3: services: 1001 services; at most 1000 can be served");
}

#[test]
fn mistakes_are_bounded_and_the_last_one_says_so() {
    let begin = Instant::now();
    let shown = refused(lines(0..35_000, |key| format!("stop_timeout_of_{key}: 1\n")));
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    assert_eq!(shown.lines().count(), Mistakes::LIMIT);
    assert!(shown.ends_with("the mistakes after this one are not shown"));
}

#[test]
fn a_mistake_that_aliases_repeat_costs_what_one_costs() {
    let services = lines(0..900, |service| format!("  service-with-a-long-name-{service}: !FS\n"));
    let text = format!(
        "services:\n{services}server:\n  _:\n    router:\n      - &a [service-with-a-lnog-name]\n{}",
        "      - *a\n".repeat(20_000)
    );
    let begin = Instant::now();
    let shown = refused(text);
    assert!(begin.elapsed().as_secs() < 40, "{:?}", begin.elapsed());
    assert_eq!(shown.lines().count(), 1, "{shown}");
    assert!(shown.contains("did you mean \"service-with-a-long-name-"), "{shown}");
}

#[test]
fn near_misses_of_many_long_words_are_not_looked_for_forever() {
    let services = lines(0..1000, |service| format!("  {service:x<60}: !FS\n"));
    let wrong = lines(0..256, |word| format!("      - {word:y<60}\n"));
    let begin = Instant::now();
    let shown = refused(format!("services:\n{services}server:\n  _:\n    router:\n{wrong}"));
    assert!(begin.elapsed().as_secs() < 40, "{:?}", begin.elapsed());
    assert_eq!(shown.lines().count(), Mistakes::LIMIT);
}

#[test]
fn regular_expressions_share_a_budget() {
    let router = |count: usize, pattern: &str| {
        let routes = lines(0..count, |route| format!("      - '~{pattern}{route}': status 404\n"));
        format!("server:\n  _:\n    router:\n{routes}")
    };
    let begin = Instant::now();
    let shown = refused(router(4000, r"\w{9}"));
    assert!(shown.contains("more regular expressions than this server holds for one manifest"), "{shown}");
    assert!(refused(router(4000, r"(\w{9}){90}")).contains("is too large"));
    assert!(refused(router(30_000, "a")).contains("more regular expressions than"));
    assert!(begin.elapsed().as_secs() < 40, "{:?}", begin.elapsed());
    assert!(read(router(500, "^/shop/[0-9]{1,6}/(edit|show)/").as_bytes()).is_ok());
    assert!(read(router(50, r"^/(\w+)/(\w+)/").as_bytes()).is_ok());
}

#[test]
fn a_regular_expression_is_short() {
    let text = format!("services: {{s: !FS {{match: '{}'}}}}\n", "a".repeat(1025));
    assert!(
        refused(text)
            .contains("services.s.match: expected a regular expression of at most 1024 bytes, found")
    );
    let classes = r"\w".repeat(510);
    let begin = Instant::now();
    refused(format!("services:\n{}", lines(0..500, |s| format!("  s{s}: !FS {{match: '[^{classes}]'}}\n"))));
    assert!(begin.elapsed().as_secs() < 40, "{:?}", begin.elapsed());
}

#[test]
fn the_environments_of_all_services_are_bounded_together() {
    let services = lines(0..1000, |service| format!("  s{service}: !App {{run: x}}\n"));
    let text = format!("env: {{A: {}}}\nservices:\n{services}", "x".repeat(100_000));
    assert_eq!(
        refused(text),
        "pm3.yml:3:3: services: the environments of all services come to more than 16777216 bytes"
    );
}

#[test]
fn a_long_path_is_cut() {
    let pattern = "é".repeat(500);
    let deep = (0..30).fold("[x]".to_owned(), |inner, _| format!("[{{{pattern}: {inner}}}]"));
    let shown = refused(format!("server: {{_: {{router: {deep}}}}}"));
    let longest = shown.lines().map(str::len).max().unwrap();
    assert!(longest < 2000, "{shown}");
}

#[test]
fn what_is_no_utf_8_is_shown_where_it_begins() {
    assert_eq!(
        refused(b"a: 1\nb\xc3\xa9\xff"),
        "pm3.yml:2:3: this is not UTF-8, the one encoding a manifest can have"
    );
    assert_eq!(
        refused(b"a: 1\rb\r\nc: \xff"),
        "pm3.yml:3:4: this is not UTF-8, the one encoding a manifest can have"
    );
    assert_eq!(refused(b"\xff"), "pm3.yml:1:1: this is not UTF-8, the one encoding a manifest can have");
}

#[test]
fn a_mistake_is_one_line_whatever_is_in_it() {
    let shown = refused("\"a\\nb\\e[31m\": 1\nenv: {\"c\\nd\": []}\n");
    assert_eq!(shown.lines().count(), 2);
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn a_nul_character_is_refused() {
    assert!(refused("env: {A: \"x\\0\"}").contains("a NUL character"));
    assert!(refused("services: {a: !App {run: \"x \\0\"}}").contains("a NUL character"));
}

#[test]
fn odd_documents_are_refused_with_a_reason() {
    for (text, reason) in [
        ("", "the manifest is empty"),
        ("\n# only a comment\n", "the manifest is empty"),
        ("---\n...\n", "the manifest is empty"),
        ("services: {}\n---\nservices: {}\n", "a second document"),
        ("[1, 2]", "expected a map"),
        ("services: *a", "unknown anchor"),
        ("services: &a {b: *a}", "this alias lies inside of what it names"),
        ("? [a]\n: 1\n", "a list as a key"),
        ("? {a: b}\n: 1\n", "a map as a key"),
        ("!x a: 1", "a tag on a key"),
        ("services: !x {}", "found !x a map"),
    ] {
        assert!(refused(text).contains(reason), "{text}: {}", refused(text));
    }
    assert!(refused(format!("? {}\n: 1\n", "k".repeat(2000))).contains("a key of more than 1024 bytes"));
}

const GOOD: &str = r#"
root: .
env: &env { KEY: value, OTHER: "1" }
repo: { update: true, rollout: all, bake: 0s, poll: never }
services:
  web: !App &web
    root: web
    run: '@src A=b python3 app.py "x y"'
    build: [make, {cwd: x, exec: y, args: [z], env: {<<: *env}}]
    cluster: 2
    env: *env
    monitor: {healthy: {interval: 1s, threshold: 2}, test: {tcp: !Tcp }, port_owner: any}
    lb: {strat: round-robin, retry: {attempts: 2}, queue: {bytes: 1MiB, for: 5s}}
    stop_timeout: 1h30m
  jobs: !App
    <<: *web
    background: true
    log: other.log
  cdn: !FS {path: public, 404: default}
  old: !Proxy [10.0.0.2:80, "http://app:81", "[::1]:82"]
server:
  "example.com, www.example.org":
    no_upgrade: true
    router:
      - example.com/a/, +.map: web
        ~^x: [cdn, [old]]
      - /b+: return 404 "not here"
      - redirect "https://example.com/"
  _: { router: [status 404] }
"#;

/// Asserts what holds for every text: no panic, and every mistake lies inside of the text.
fn holds(text: &[u8]) -> Result<(), TestCaseError> {
    for unsupported in [Unsupported::Refuse, Unsupported::Warn] {
        let source = ManifestText::new(text, Path::new("pm3.yml"), Path::new("/srv"));
        let shown = String::from_utf8_lossy(text);
        match parse(&source, unsupported) {
            Ok(manifest) => {
                prop_assert!(!manifest.summary().to_string().is_empty());
                let mut warnings = manifest.warnings.iter();
                prop_assert!(
                    unsupported == Unsupported::Warn
                        || !warnings.any(|warning| warning.message.contains("left out"))
                );
            }
            Err(mistakes) => {
                prop_assert!(mistakes.iter().count() > 0);
                // YAML 1.2.2, 5.4: a line ends with CR LF, CR or LF.
                let shown = shown.replace("\r\n", "\n").replace('\r', "\n");
                let lines: Vec<&str> = shown.split('\n').collect();
                for mistake in &mistakes {
                    let inside = mistake.line >= 1
                        && mistake.line <= lines.len()
                        && mistake.column >= 1
                        && mistake.column <= lines[mistake.line - 1].chars().count() + 1;
                    prop_assert!(inside, "{mistake}");
                    prop_assert!(!mistake.to_string().contains('\n'));
                }
                let places: Vec<_> = mistakes.iter().map(|mistake| (mistake.line, mistake.column)).collect();
                prop_assert!(places.is_sorted());
            }
        }
    }
    Ok(())
}

#[test]
fn the_manifest_that_is_changed_below_is_good() {
    assert!(read(GOOD.as_bytes()).is_ok(), "{}", refused(GOOD));
}

/// Bits of YAML and of the format, for texts that get past the first byte.
fn snippet() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "\n",
            "  ",
            "\t",
            "- ",
            ": ",
            "? ",
            ", ",
            "{",
            "}",
            "[",
            "]",
            "'",
            "\"",
            "&a ",
            "*a",
            "<<: ",
            "!App ",
            "!FS ",
            "!Proxy ",
            "!Tcp",
            "!Switch-Host ",
            "|\n",
            ">\n",
            "# ",
            "%",
            "@",
            "$(x)",
            "${y}",
            "$",
            "~",
            "_",
            "+",
            "---\n",
            "never",
            "-4",
            "50%",
            "1h",
            "services:",
            "server:",
            "router:",
            "run:",
            "env:",
            "null",
            "true",
            "web",
            "é",
            "\u{feff}",
            "\r\n",
            "\r",
            "\u{2028}",
            "\u{85}",
            "\\",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        holds(&bytes)?;
    }

    #[test]
    fn text_never_panics(pieces in proptest::collection::vec(snippet(), 0..60)) {
        holds(pieces.concat().as_bytes())?;
    }

    #[test]
    fn a_good_manifest_with_anything_changed_never_panics(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0..6_usize, snippet()), 1..6)
    ) {
        let mut characters: Vec<char> = GOOD.chars().collect();
        for (index, removed, inserted) in changes {
            let at = index.index(characters.len().max(1)).min(characters.len());
            let end = (at + removed).min(characters.len());
            characters.splice(at..end, inserted.chars());
        }
        holds(characters.into_iter().collect::<String>().as_bytes())?;
    }

    #[test]
    fn a_good_manifest_with_bytes_changed_never_panics(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        holds(&bytes)?;
    }
}
