//! A public enum gets another variant, and a struct with public fields another field, without breaking who matches or
//! makes it: it is `#[non_exhaustive]`. Those that are not are listed here with the reason.

use std::collections::BTreeSet;

use anyhow::Result;

use super::finding::Finding;
use crate::public::{List, lists};
use crate::workspace::{Package, Workspace};

/// The types whose matches must be complete, and the structs that others have to make: the compiler asks every place
/// about a new variant or field.
const CLOSED: &[Closed] = &[
    Closed {
        package: "pmesh-api",
        name: "RouteKind",
        reason: "whoever lists the routes says of each who may ask for it",
    },
    Closed { package: "pmesh-api", name: "client::ClientError", reason: "each has an exit code" },
    Closed { package: "pmesh-api", name: "client::Endpoint", reason: "whoever connects must know how" },
    Closed { package: "pmesh-api", name: "testing::FakeCallers", reason: "a name around one value" },
    Closed { package: "pmesh-api", name: "testing::TestApi", reason: "a name around one value" },
    Closed { package: "pmesh-api", name: "wire::Named", reason: "a name around one value" },
    Closed { package: "pmesh-manifest", name: "ReadError", reason: "the API gives each its code" },
    Closed {
        package: "pmesh-manifest",
        name: "Serves",
        reason: "whoever makes destinations of services makes one of each",
    },
    Closed {
        package: "pmesh-node",
        name: "ChangesSince",
        reason: "there is a gap or there is none, and a reader must not miss it",
    },
    Closed { package: "pmesh-node", name: "Failure", reason: "the API gives each its code" },
    Closed { package: "pmesh-node", name: "LogsOf", reason: "all or some, there is nothing else" },
    Closed {
        package: "pmesh-node",
        name: "Measured",
        reason: "the API takes it apart whole, so that no field is lost",
    },
    Closed {
        package: "pmesh-node",
        name: "Metrics",
        reason: "the API takes it apart whole, so that no field is lost",
    },
    Closed { package: "pmesh-node", name: "OperationId", reason: "a name around one value" },
    Closed { package: "pmesh-node", name: "Outcome", reason: "the API has an answer for each" },
    Closed { package: "pmesh-node", name: "SubmitError", reason: "the API gives each its code" },
    Closed { package: "pmesh-proxy", name: "Handler", reason: "the summary of a manifest shows each" },
    Closed { package: "pmesh-proxy", name: "SiteHost", reason: "the summary of a manifest shows each" },
    Closed { package: "pmesh-sessions", name: "Descent", reason: "who may act is decided for each" },
    Closed { package: "pmesh-sessions", name: "PeerOwner", reason: "who may act is decided for each" },
    Closed {
        package: "pmesh-sessions",
        name: "PeerSocket",
        reason: "its maker and its number are all of it",
    },
    Closed { package: "pmesh-sessions", name: "Verdict", reason: "the front must obey each" },
    Closed {
        package: "pmesh-supervisor",
        name: "BuildProgress",
        reason: "the API takes it apart whole, so that no field is lost",
    },
    Closed {
        package: "pmesh-supervisor",
        name: "BuildStep",
        reason: "the API takes it apart whole, so that no field is lost",
    },
    Closed { package: "pmesh-supervisor", name: "Expected", reason: "a balancer must act on each" },
    Closed {
        package: "pmesh-supervisor",
        name: "HealthReport",
        reason: "the API takes it apart whole, so that no field is lost",
    },
    Closed { package: "pmesh-supervisor", name: "Holder", reason: "whoever writes a `Prober` makes it" },
    Closed { package: "pmesh-supervisor", name: "ListenAddress", reason: "a balancer must reach each" },
    Closed {
        package: "pmesh-supervisor",
        name: "Remade",
        reason: "whoever goes back says of each how the step has ended",
    },
    Closed { package: "pmesh-supervisor", name: "ServiceId", reason: "a name around one value" },
    Closed {
        package: "pmesh-supervisor",
        name: "ServiceKind",
        reason: "the manifest decides for each what it serves and needs",
    },
    Closed { package: "pmesh-supervisor", name: "Signal", reason: "a spawner must send each" },
    Closed { package: "pmesh-supervisor", name: "SpawnError", reason: "whoever writes a `Spawner` makes it" },
    Closed { package: "pmesh-supervisor", name: "Status", reason: "they are the words of the API" },
    Closed { package: "pmesh-supervisor", name: "StepState", reason: "they are the words of the API" },
    Closed {
        package: "pmesh-supervisor",
        name: "StopEnd",
        reason: "what it was and how it ended are all of it",
    },
    Closed {
        package: "pmesh-supervisor",
        name: "Survivor",
        reason: "the API takes it apart whole, so that no field is lost",
    },
    Closed {
        package: "pmesh-supervisor",
        name: "rollout::Instruction",
        reason: "one that is not carried out stops the rollout for good",
    },
    Closed {
        package: "pmesh-supervisor",
        name: "rollout::Item",
        reason: "whoever begins a rollout says each of its facts",
    },
    Closed {
        package: "pmesh-threads",
        name: "Unanswered",
        reason: "each becomes the failure of whoever asked",
    },
    Closed { package: "pmesh-vcs", name: "Fetched", reason: "whoever writes a `Vcs` makes it" },
    Closed { package: "pmesh-vcs", name: "Heads", reason: "whoever writes a `Vcs` makes it" },
    Closed { package: "pmesh-vcs", name: "HeldLock", reason: "whoever writes a `Vcs` makes it" },
    Closed { package: "pmesh-vcs", name: "Moved", reason: "whoever writes a `Vcs` makes it" },
    Closed { package: "pmesh-vcs", name: "Relation", reason: "each decides whether an update goes on" },
    Closed { package: "pmesh-vcs", name: "Revision", reason: "whoever writes a `Vcs` makes it" },
    Closed { package: "pmesh-vcs", name: "VcsError", reason: "the API gives each its code" },
    Closed { package: "pmesh-vcs", name: "WorkTree", reason: "whoever writes a `Vcs` makes it" },
];

struct Closed {
    package: &'static str,
    /// As `docs/public` calls it.
    name: &'static str,
    reason: &'static str,
}

/// Each public type that is neither open nor listed, and each that is listed and not there.
pub(super) fn findings(
    workspace: &Workspace,
    packages: &[Package],
    files: &[String],
) -> Result<Vec<Finding>> {
    Ok(in_lists(&lists(workspace, packages, files)?, CLOSED))
}

fn in_lists(lists: &[List], closed: &[Closed]) -> Vec<Finding> {
    let mut unlisted = Vec::new();
    let mut seen = BTreeSet::new();
    for list in lists {
        let package = list.path.trim_start_matches("docs/public/").trim_end_matches(".txt");
        for (name, problem) in closed_types(&list.text) {
            if closed.iter().any(|closed| (closed.package, closed.name) == (package, name)) {
                seen.insert((package, name));
            } else {
                unlisted.push(Finding::new(
                    &list.path,
                    format!("`{name}` cannot get another {problem} it"),
                    "make it `#[non_exhaustive]`, or list it in xtask/src/check/closed_types.rs with the reason",
                ));
            }
        }
    }
    let gone = closed.iter().filter(|closed| !seen.contains(&(closed.package, closed.name))).map(|closed| {
        Finding::new(
            "xtask/src/check/closed_types.rs",
            format!("`{}` of {} is no closed type ({})", closed.name, closed.package, closed.reason),
            "take it out of the list",
        )
    });
    unlisted.into_iter().chain(gone).collect()
}

/// The enums, and the structs with public fields, that are not open, each with what that means. A struct without
/// public fields can be made and taken apart by nobody else.
fn closed_types(list: &str) -> impl Iterator<Item = (&str, &'static str)> {
    let fields = list.lines().filter_map(|line| line.strip_suffix(": field")?.rsplit_once("::"));
    let with_fields: BTreeSet<&str> = fields.map(|(of, _)| of).collect();
    list.lines().filter_map(move |line| {
        let enumeration =
            line.strip_suffix(": enum").map(|name| (name, "variant without breaking who matches"));
        let structure = line.strip_suffix(": struct").filter(|name| with_fields.contains(name));
        enumeration.or(structure.map(|name| (name, "field without breaking who makes or matches")))
    })
}

#[cfg(test)]
mod tests {
    use super::{Closed, in_lists};
    use crate::public::List;

    fn problems(text: &str, closed: &[Closed]) -> Vec<String> {
        let list = List { path: "docs/public/x.txt".to_owned(), text: text.to_owned() };
        in_lists(&[list], closed).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn an_enum_is_open_or_listed_with_a_reason() {
        let closed = [Closed { package: "x", name: "B", reason: "because" }];
        let found = problems("A: enum (non_exhaustive)\nB: enum\nm::C: enum\nm::C::D: variant\n", &closed);
        assert_eq!(found, ["`m::C` cannot get another variant without breaking who matches it"]);
    }

    #[test]
    fn a_struct_with_public_fields_is_open_or_listed_and_one_without_is_closed_to_others_anyway() {
        let closed = [Closed { package: "x", name: "B", reason: "because" }];
        let list = "A: struct (non_exhaustive)\nA::a: field\nB: struct\nB::0: field\nm::C: struct\nm::C::c: field\n\
                    m::D: struct\nm::D::d: method\n";
        let found = problems(list, &closed);
        assert_eq!(found, ["`m::C` cannot get another field without breaking who makes or matches it"]);
    }

    #[test]
    fn what_is_listed_is_there_and_closed() {
        let closed = [Closed { package: "x", name: "A", reason: "because" }];
        assert_eq!(problems("A: enum (non_exhaustive)\n", &closed), ["`A` of x is no closed type (because)"]);
    }
}
