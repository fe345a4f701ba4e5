//! docs/manifest.md lists every key and word of the format, and each is known here: it is served, or it is told that it
//! is not served yet.

use std::{collections::BTreeSet, path::Path};

use crate::{
    ManifestText, Unsupported,
    documented::{DOCUMENT, keys, table},
    parse,
};

/// The rows of the table under "The whole format" whose head is this: where, and what stands in backquotes.
fn rows(head: &str) -> Vec<(String, Vec<String>)> {
    let (_, section) = DOCUMENT.split_once("\n## The whole format\n").expect("the heading is there");
    let (_, table) = section.split_once(head).expect("the table is there");
    let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let (place, words) = row.trim_matches('|').split_once(" | ").expect("two cells");
        (place.trim().to_owned(), ticked(words))
    })
    .collect()
}

/// A manifest that has the map of this row, and the path of that.
fn map_at(place: &str) -> (String, &'static str) {
    let app = |keys: &str| format!("services: {{s: !App {{run: x, {keys}}}}}");
    match place {
        "top level" => ("env: {}".to_owned(), ""),
        "`acme`" => ("acme: {}".to_owned(), "acme"),
        "`acme.eab`" => ("acme: {eab: {}}".to_owned(), "acme.eab"),
        "`repo`" => ("repo: {}".to_owned(), "repo"),
        "`repo.hooks.x`" => ("repo: {hooks: {x: {}}}".to_owned(), "repo.hooks.x"),
        "`limits`" => ("limits: {}".to_owned(), "limits"),
        "`access_log`" => ("access_log: {}".to_owned(), "access_log"),
        "`!App`" => (app("env: {}"), "services.s"),
        "`log`" => (app("log: {}"), "services.s.log"),
        "`!FS`" => ("services: {s: !FS {}}".to_owned(), "services.s"),
        "`!Proxy`" => ("services: {s: !Proxy {}}".to_owned(), "services.s"),
        "a command" => ("services: {s: !App {run: {}}}".to_owned(), "services.s.run"),
        "`monitor`" => (app("monitor: {}"), "services.s.monitor"),
        "`monitor.healthy`" => (app("monitor: {healthy: {}}"), "services.s.monitor.healthy"),
        "`monitor.unhealthy`" => (app("monitor: {unhealthy: {}}"), "services.s.monitor.unhealthy"),
        "`!Http`" => (app("monitor: {test: {t: !Http {}}}"), "services.s.monitor.test.t"),
        "`lb`" => (app("lb: {}"), "services.s.lb"),
        "`lb.state`" => (app("lb: {state: {}}"), "services.s.lb.state"),
        "`lb.retry`" => (app("lb: {retry: {}}"), "services.s.lb.retry"),
        "`lb.queue`" => (app("lb: {queue: {}}"), "services.s.lb.queue"),
        "`lb.404`" => (app("lb: {404: {}}"), "services.s.lb.404"),
        "a site" => ("server: {_: {}}".to_owned(), "server._"),
        "`!Internal`" => ("server: {_: {router: [!Internal {}]}}".to_owned(), "server._.router.0"),
        "`!Limit`" => ("server: {_: {router: [!Limit {}]}}".to_owned(), "server._.router.0"),
        _ => {
            // Wrappers: one for all of the row.
            let tag = place.split('`').nth(1).unwrap_or_else(|| panic!("{place} has no map here"));
            (format!("services: {{s: {tag} {{}}}}"), "services.s")
        }
    }
}

#[test]
fn every_key_of_the_format_is_known_and_no_other() {
    let rows = rows("| where | keys |");
    let keys_of_apps: BTreeSet<String> =
        rows.iter().find(|(place, _)| place == "`!App`").expect("there is one").1.iter().cloned().collect();
    let mut maps = 0;
    for (place, words) in &rows {
        let wraps = words.first().is_some_and(|word| word == "!App");
        let mut listed: BTreeSet<String> = words.iter().skip(usize::from(wraps)).cloned().collect();
        if wraps {
            listed.extend(keys_of_apps.iter().cloned());
        }
        let places: Vec<String> = match place.as_str() {
            place if wraps => place.split(", ").map(str::to_owned).collect(),
            place => vec![place.to_owned()],
        };
        for place in places {
            let (text, path) = map_at(&place);
            assert_eq!(keys(&text, path), listed, "{place}");
            maps += 1;
        }
    }
    assert!(maps > 30, "{maps}");
}

#[test]
fn every_key_is_in_a_table_of_what_is_served_or_of_what_is_not() {
    let not_served: BTreeSet<String> = table("## Known, but not served yet")
        .into_iter()
        .flat_map(|row| row[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for (place, heading) in [
        ("top level", "## Top level"),
        ("`repo`", "### `repo`"),
        ("`!App`", "### `!App`: processes that are kept running"),
        ("`!FS`", "### `!FS`: static files"),
        ("`!Proxy`", "### `!Proxy`: addresses that somebody else keeps running"),
        ("`monitor`", "### `monitor`"),
        ("`lb`", "### `lb`"),
        ("a site", "## Routing: `server`"),
    ] {
        let served: BTreeSet<String> = table(heading)
            .iter()
            .flat_map(|row| row[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let rows = rows("| where | keys |");
        let (_, keys) = rows.iter().find(|(row, _)| row == place).expect("there is a row");
        // The three keys of `retry` may stand beside it.
        let beside = if place == "`lb`" { &["attempts", "backoff", "timeout"][..] } else { &[] };
        let is_told =
            |key: &String| served.contains(key) || not_served.contains(key) || beside.contains(&key.as_str());
        let untold: Vec<&String> = keys.iter().filter(|key| !is_told(key)).collect();
        assert!(untold.is_empty(), "{place}: {untold:?}");
    }
}

/// A manifest that has this word in the place of its row, and nothing that could be wrong beside it.
fn with_word(place: &str, word: &str) -> String {
    let app = |keys: &str| format!("services: {{s: !App {{run: x, {keys}}}}}");
    match place {
        "a service's type" if word == "!Proxy" => "services: {s: !Proxy 1}".to_owned(),
        "a service's type" if word == "!App" => app(""),
        "a service's type" => format!("services: {{s: {word} {{}}}}"),
        "`repo.rollout`" => format!("repo: {{rollout: {word}}}"),
        "`repo.hooks.x.kind`" => format!("repo: {{hooks: {{x: {{kind: {word}}}}}}}"),
        "`acme.challenge`" => format!("acme: {{challenge: [{word}]}}"),
        "`access_log.format`" => format!("access_log: {{format: {word}}}"),
        "`restart`" => app(&format!("background: true, restart: {word}")),
        "a check" if word == "!Exec" => app("monitor: {test: {t: !Exec ./check}}"),
        "a check" => app(&format!("monitor: {{test: {{t: {word}}}}}")),
        "`monitor.port_owner`" => app(&format!("monitor: {{port_owner: {word}}}")),
        "`lb.strat`" => app(&format!("lb: {{strat: {word}}}")),
        "`lb.state`" => app(&format!("lb: {{state: {word}}}")),
        "`lb.proto`" => app(&format!("lb: {{proto: {word}}}")),
        "a list of routes" => {
            let inner = match word {
                "!Internal" => "{inner: status 404}",
                "!Limit" => "{rate: 10/s}",
                _ => "[a: status 404]",
            };
            format!("server: {{_: {{router: [{word} {inner}]}}}}")
        }
        "a handler" => format!("server:\n  _:\n    router:\n      - {}\n", directive(word)),
        other => panic!("{other}"),
    }
}

/// A directive with the words that it takes.
pub(crate) fn directive(word: &str) -> String {
    let arguments = match word {
        "return" => "200 \"fine\"",
        "status" => "404",
        "redirect" => "\"/new\"",
        "rewrite" => "^/a /b",
        "max-body" => "1MiB",
        "read-timeout" | "write-timeout" => "5s",
        "auth" => "staff ann:secret",
        "limit" => "@x 10/s burst=5 block_after=100/5m block_for=1h advise=true",
        "debug" | "log" | "warn" | "err" => "\"text\"",
        "portal" => "/other",
        "hook" => "push",
        "abort" | "drop" | "internal" | "allow-internal" => "",
        _ => "x y",
    };
    format!("{word} {arguments}").trim_end().to_owned()
}

#[test]
fn every_word_of_the_format_is_served_or_told_that_it_is_not_yet() {
    let mut words_seen = 0;
    for (place, words) in rows("| where | words |") {
        for word in words {
            let text = with_word(&place, &word);
            let source =
                ManifestText { text: text.as_bytes(), file: Path::new("pm3.yml"), folder: Path::new("/srv") };
            let mistakes: Vec<String> = match parse(&source, Unsupported::Refuse) {
                Ok(_) => Vec::new(),
                Err(mistakes) => mistakes.iter().map(|mistake| mistake.message.clone()).collect(),
            };
            let not_yet = "is part of the format, but this server does not serve it yet";
            assert!(mistakes.len() <= 1, "{text}: {mistakes:?}");
            assert!(mistakes.iter().all(|message| message.ends_with(not_yet)), "{text}: {mistakes:?}");
            words_seen += 1;
        }
    }
    assert!(words_seen > 80, "{words_seen}");
}
