//! docs/manifest.md says what the code does: its example runs, and its defaults are the defaults.

use std::path::Path;

use pmesh_manifest::{Manifest, ManifestText, Mistakes, Unsupported, parse};

const DOCUMENT: &str = include_str!("../../../docs/manifest.md");

fn read(text: &str) -> Result<Manifest, Mistakes> {
    let source = ManifestText::new(text.as_bytes(), Path::new("pm3.yml"), Path::new("/srv"));
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
    assert_eq!(manifest.warnings, []);
}

#[test]
fn the_defaults_are_those_of_the_specs() {
    for (key, value) in defaults("### `!App`: processes that are kept running") {
        // Only a job has a time for its runs.
        let job = if key == "timeout" { ", schedule: every 1h" } else { "" };
        assert_default(
            &format!("services: {{s: !App {{run: x{job}, {key}: {value}}}}}"),
            &format!("services: {{s: !App {{run: x{job}}}}}"),
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
