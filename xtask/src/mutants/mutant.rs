//! What became of each mutant, from what cargo-mutants writes down.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// A place of a file that was changed, and what the tests said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// Line and column.
    pub(super) place: (u64, u64),
    /// As cargo-mutants words it, without the place, which changes with each line above; with its number where several
    /// in the file are worded alike: `replace + with - in jitter (2 of 3)`.
    pub(super) text: String,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A test failed.
    Caught,
    /// A test did not end.
    TimedOut,
    /// No test noticed.
    Missed,
    /// It does not compile.
    Unviable,
}

/// The mutants of one file in the order of their places, by the `outcomes.json` of each stage: the last one that has
/// tested a mutant says what became of it.
pub(super) fn parse(stages: &[String]) -> Result<Vec<Mutant>> {
    let mut fates = BTreeMap::new();
    for stage in stages {
        let outcomes: Value = serde_json::from_str(stage).context("outcomes.json is no JSON")?;
        for outcome in outcomes["outcomes"].as_array().context("outcomes.json has no outcomes")? {
            let Mutant { place, text, fate } = one(outcome)?;
            fates.insert((place, text), fate);
        }
    }
    let mutants = fates.into_iter().map(|((place, text), fate)| Mutant { place, text, fate });
    let mut mutants: Vec<_> = mutants.collect();
    number(&mut mutants);
    Ok(mutants)
}

fn one(outcome: &Value) -> Result<Mutant> {
    let mutant = &outcome["scenario"]["Mutant"];
    let name = mutant["name"].as_str().context("an outcome of no mutant")?;
    let (_, text) = name.split_once(": ").with_context(|| format!("{name} does not start with a place"))?;
    let start = &mutant["span"]["start"];
    let number = |key: &str| start[key].as_u64().with_context(|| format!("{name} has no {key}"));
    let fate = match outcome["summary"].as_str() {
        Some("CaughtMutant") => Fate::Caught,
        Some("Timeout") => Fate::TimedOut,
        Some("MissedMutant") => Fate::Missed,
        Some("Unviable") => Fate::Unviable,
        other => bail!("{name}: the unknown outcome {other:?}"),
    };
    Ok(Mutant { place: (number("line")?, number("column")?), text: text.to_owned(), fate })
}

fn number(mutants: &mut [Mutant]) {
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for mutant in &*mutants {
        *all.entry(mutant.text.clone()).or_default() += 1;
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for mutant in mutants {
        let of = all[&mutant.text];
        let nth = seen.entry(mutant.text.clone()).or_default();
        *nth += 1;
        if of > 1 {
            mutant.text += &format!(" ({nth} of {of})");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Fate, Mutant, parse};

    fn outcome(name: &str, (line, column): (u64, u64), summary: &str) -> serde_json::Value {
        let span = json!({ "start": { "line": line, "column": column } });
        json!({ "scenario": { "Mutant": { "name": name, "span": span } }, "summary": summary })
    }

    #[test]
    fn mutants_are_known_by_their_words_and_those_worded_alike_by_their_order() {
        let outcomes = json!({ "outcomes": [
            outcome("crates/x/src/a.rs:9:1: replace + with - in f", (9, 1), "MissedMutant"),
            outcome("crates/x/src/a.rs:3:5: replace + with - in f", (3, 5), "CaughtMutant"),
            outcome("crates/x/src/a.rs:4:5: replace g -> u64 with 0", (4, 5), "Timeout"),
            outcome("crates/x/src/a.rs:5:5: replace h -> H with Default::default()", (5, 5), "Unviable"),
        ] });
        let mutant = |place, text: &str, fate| Mutant { place, text: text.to_owned(), fate };
        assert_eq!(
            parse(&[outcomes.to_string()]).unwrap(),
            [
                mutant((3, 5), "replace + with - in f (1 of 2)", Fate::Caught),
                mutant((4, 5), "replace g -> u64 with 0", Fate::TimedOut),
                mutant((5, 5), "replace h -> H with Default::default()", Fate::Unviable),
                mutant((9, 1), "replace + with - in f (2 of 2)", Fate::Missed),
            ]
        );
    }

    #[test]
    fn what_the_near_tests_let_through_is_asked_of_all() {
        let (f, g, start) = ("crates/x/src/a.rs:3:5: replace f", "crates/x/src/a.rs:3:5: replace g", (3, 5));
        let near =
            json!({ "outcomes": [outcome(f, start, "MissedMutant"), outcome(g, start, "CaughtMutant")] });
        let all = json!({ "outcomes": [outcome(f, start, "Timeout")] });
        let mutants = parse(&[near.to_string(), all.to_string()]).unwrap();
        let fates: Vec<_> = mutants.iter().map(|mutant| (mutant.text.as_str(), mutant.fate)).collect();
        assert_eq!(fates, [("replace f", Fate::TimedOut), ("replace g", Fate::Caught)]);
    }

    #[test]
    fn an_outcome_that_is_not_known_is_an_error() {
        let outcomes = json!({ "outcomes": [outcome("a.rs:1:1: replace f", (1, 1), "Failure")] });
        assert!(parse(&[outcomes.to_string()]).unwrap_err().to_string().contains("Failure"));
    }
}
