//! Every key that is read is in docs/manifest.md, no other is, and what people are told to write instead of
//! another program's word is one of them.

use std::{collections::BTreeSet, path::Path};

use crate::{
    Unsupported,
    elsewhere::{self, Elsewhere, Ours},
    manifest::decode,
    report::Report,
    tree,
    value::Value,
};

pub(crate) const DOCUMENT: &str = include_str!("../../../docs/manifest.md");

/// The rows of the first table under this heading.
pub(crate) fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = DOCUMENT.split_once(&format!("\n{heading}\n")).expect("the heading is there");
    section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The keys of the map at `path` of a manifest.
pub(crate) fn keys(text: &str, path: &str) -> BTreeSet<String> {
    let mut report = Report::new(Path::new("pm3.yml"), text, Unsupported::Warn);
    let root = tree::parse(text, &mut report).expect("it is YAML");
    decode(&Value::root(root), Path::new("/srv"), &mut report);
    let (_, keys) =
        report.tables.iter().find(|(read, _)| read == path).unwrap_or_else(|| panic!("{path} was read"));
    keys.iter().map(|&key| key.to_owned()).collect()
}

#[test]
fn every_key_is_documented_and_no_other() {
    let not_served: BTreeSet<String> = table("## Known, but not served yet")
        .into_iter()
        .flat_map(|row| row[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for (heading, path, text) in [
        ("## Top level", "", "env: {}"),
        ("### `repo`", "repo", "repo: {}"),
        ("### `!App`: processes that are kept running", "services.s", "services: {s: !App {run: x}}"),
        ("### `!FS`: static files", "services.s", "services: {s: !FS {path: x}}"),
        (
            "### `!Proxy`: addresses that somebody else keeps running",
            "services.s",
            "services: {s: !Proxy {upstreams: 1}}",
        ),
        ("### `monitor`", "services.s.monitor", "services: {s: !App {run: x, monitor: {}}}"),
        ("### `lb`", "services.s.lb", "services: {s: !App {run: x, lb: {}}}"),
        ("## Routing: `server`", "server._", "server: {_: {router: []}}"),
    ] {
        let documented: BTreeSet<String> = table(heading)
            .iter()
            .flat_map(|row| {
                row[0].split(", ").map(|key| key.trim_matches('`').to_owned()).collect::<Vec<_>>()
            })
            .collect();
        let known = keys(text, path);
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

#[test]
fn what_other_programs_words_lead_to_is_a_key_of_the_same_map() {
    let tables: [(Elsewhere, &str, &str); 9] = [
        (elsewhere::TOP, "", "env: {}"),
        (elsewhere::REPO, "repo", "repo: {}"),
        (elsewhere::APP, "services.s", "services: {s: !App {run: x}}"),
        (elsewhere::FILES, "services.s", "services: {s: !FS {path: x}}"),
        (elsewhere::PROXY, "services.s", "services: {s: !Proxy {upstreams: 1}}"),
        (elsewhere::MONITOR, "services.s.monitor", "services: {s: !App {run: x, monitor: {}}}"),
        (elsewhere::BALANCING, "services.s.lb", "services: {s: !App {run: x, lb: {}}}"),
        (elsewhere::SITE, "server._", "server: {_: {router: []}}"),
        (elsewhere::COMMAND, "services.s.run", "services: {s: !App {run: {exec: x}}}"),
    ];
    for (elsewhere, path, text) in tables {
        let keys = keys(text, path);
        for (words, ours) in elsewhere {
            if let Ours::Key(key) = ours {
                assert!(keys.contains(*key), "{path}: {words}: {key}");
            }
            // A key of ours is never taken for another program's.
            assert!(words.split(' ').all(|word| !keys.contains(word)), "{path}: {words}");
        }
    }
}
