//! docs/manifest.md says what the code does: its example runs, its defaults are the defaults, and
//! every key is in it.

use std::{collections::BTreeSet, path::Path};

use pmesh_manifest::{Manifest, Mistakes, Source, Unsupported, parse};

const DOCUMENT: &str = include_str!("../../../docs/manifest.md");

fn read(text: &str) -> Result<Manifest, Mistakes> {
    let source = Source { text: text.as_bytes(), file: Path::new("pm3.yml"), folder: Path::new("/srv") };
    parse(&source, Unsupported::Refuse)
}

/// The rows of the first table under this heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = DOCUMENT.split_once(&format!("\n{heading}\n")).expect("the heading is there");
    section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// Keys and their defaults, of the rows whose default is a value.
fn defaults(heading: &str) -> Vec<(String, String)> {
    let mut defaults = Vec::new();
    for row in table(heading) {
        let keys: Vec<&str> = row[0].split(", ").map(|key| key.trim_matches('`')).collect();
        let values: Vec<&str> = match row[1].as_str() {
            // A map has commas of its own.
            map if map.starts_with("`{") => vec![map.trim_matches('`')],
            list => list.split(", ").map(|value| value.trim_matches('`')).collect(),
        };
        assert_eq!(keys.len(), values.len(), "{row:?}");
        for (key, value) in keys.into_iter().zip(values) {
            let prose = ["none", "–", "see below"].contains(&value) && key != "state";
            if !prose && (!value.contains(' ') || value.starts_with('{')) {
                let value = value.replace("<service_root>/", "").replace("<name>", "s");
                defaults.push((key.to_owned(), value));
            }
        }
    }
    assert!(!defaults.is_empty(), "{heading}");
    defaults
}

#[track_caller]
fn assert_default(written: &str, default: &str) {
    let read = |text: &str| read(text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes}"));
    assert_eq!(read(written), read(default), "{written}");
}

#[test]
fn the_example_is_served() {
    let (_, example) = DOCUMENT.split_once("```yaml\n").expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let manifest = read(example).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!((manifest.services.len(), manifest.sites.len()), (4, 2));
}

#[test]
fn the_defaults_are_those_of_the_specs() {
    for (key, value) in defaults("### `!App`: processes that are kept running") {
        assert_default(
            &format!("services: {{s: !App {{run: x, {key}: {value}}}}}"),
            "services: {s: !App {run: x}}",
        );
    }
    for (key, value) in defaults("### `!FS`: static files") {
        assert_default(&format!("services: {{s: !FS {{{key}: {value}}}}}"), "services: {s: !FS }");
    }
    for (key, value) in defaults("### `monitor`") {
        assert_default(
            &format!("services: {{s: !App {{run: x, monitor: {{{key}: {value}}}}}}}"),
            "services: {s: !App {run: x}}",
        );
    }
    for (key, value) in defaults("### `lb`") {
        assert_default(
            &format!("services: {{s: !Proxy {{upstreams: 1, lb: {{{key}: {value}}}}}}}"),
            "services: {s: !Proxy 1}",
        );
    }
    for (key, value) in defaults("### `repo`") {
        assert_default(&format!("repo: {{{key}: {value}}}"), "repo: {}");
    }
}

/// The keys that are expected where there is none named `?`.
fn known(text: &str) -> BTreeSet<String> {
    let mistakes = read(text).expect_err("`?` is no key");
    let message =
        mistakes.iter().map(|mistake| &*mistake.message).find(|message| message.contains("unknown key"));
    let (_, keys) =
        message.expect("`?` is an unknown key").split_once("expected one of ").expect("keys are named");
    keys.split(';').next().unwrap_or_default().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented_and_no_other() {
    let not_served: BTreeSet<String> = table("## Known, but not served yet")
        .into_iter()
        .flat_map(|row| row[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for (heading, text) in [
        ("## Top level", "'?': 1"),
        ("### `repo`", "repo: {'?': 1}"),
        ("### `!App`: processes that are kept running", "services: {s: !App {run: x, '?': 1}}"),
        ("### `!FS`: static files", "services: {s: !FS {'?': 1}}"),
        ("### `!Proxy`: addresses that somebody else keeps running", "services: {s: !Proxy {'?': 1}}"),
        ("### `monitor`", "services: {s: !App {run: x, monitor: {'?': 1}}}"),
        ("### `lb`", "services: {s: !App {run: x, lb: {'?': 1}}}"),
        ("## Routing: `server`", "server: {_: {'?': 1}}"),
    ] {
        let documented: BTreeSet<String> = table(heading)
            .iter()
            .flat_map(|row| {
                row[0].split(", ").map(|key| key.trim_matches('`').to_owned()).collect::<Vec<_>>()
            })
            .collect();
        let known = known(text);
        // The three keys of `retry` may stand beside it.
        let served: BTreeSet<&String> = known
            .iter()
            .filter(|key| !not_served.contains(*key))
            .filter(|key| {
                heading != "### `lb`" || !["attempts", "backoff", "timeout"].contains(&key.as_str())
            })
            .collect();
        let missing: Vec<_> = served.iter().filter(|key| !documented.contains(**key)).collect();
        assert!(missing.is_empty(), "{heading}: not documented: {missing:?}");
        let foreign: Vec<_> = documented.iter().filter(|key| !known.contains(*key)).collect();
        assert!(foreign.is_empty(), "{heading}: not known: {foreign:?}");
    }
}
