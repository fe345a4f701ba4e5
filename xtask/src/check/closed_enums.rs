//! A public enum gets another variant without breaking who matches it: it is `#[non_exhaustive]`. Those that are not
//! are listed here with the reason.

use std::collections::BTreeSet;

use anyhow::Result;

use super::finding::Finding;
use crate::public::{List, lists};
use crate::workspace::{Package, Workspace};

/// The enums whose matches must be complete: the compiler asks every one of them about a new variant.
const CLOSED: &[Closed] = &[
    Closed {
        package: "pmesh-api",
        name: "RouteKind",
        reason: "whoever lists the routes says of each who may ask for it",
    },
    Closed { package: "pmesh-api", name: "client::ClientError", reason: "each has an exit code" },
    Closed { package: "pmesh-api", name: "client::Endpoint", reason: "whoever connects must know how" },
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
    Closed { package: "pmesh-node", name: "Outcome", reason: "the API has an answer for each" },
    Closed { package: "pmesh-node", name: "SubmitError", reason: "the API gives each its code" },
    Closed { package: "pmesh-proxy", name: "Handler", reason: "the summary of a manifest shows each" },
    Closed { package: "pmesh-proxy", name: "SiteHost", reason: "the summary of a manifest shows each" },
    Closed { package: "pmesh-sessions", name: "Descent", reason: "who may act is decided for each" },
    Closed { package: "pmesh-sessions", name: "PeerOwner", reason: "who may act is decided for each" },
    Closed { package: "pmesh-sessions", name: "Verdict", reason: "the front must obey each" },
    Closed { package: "pmesh-supervisor", name: "Expected", reason: "a balancer must act on each" },
    Closed { package: "pmesh-supervisor", name: "ListenAddress", reason: "a balancer must reach each" },
    Closed {
        package: "pmesh-supervisor",
        name: "Remade",
        reason: "whoever goes back says of each how the step has ended",
    },
    Closed {
        package: "pmesh-supervisor",
        name: "ServiceKind",
        reason: "the manifest decides for each what it serves and needs",
    },
    Closed { package: "pmesh-supervisor", name: "Signal", reason: "a spawner must send each" },
    Closed { package: "pmesh-supervisor", name: "Status", reason: "they are the words of the API" },
    Closed { package: "pmesh-supervisor", name: "StepState", reason: "they are the words of the API" },
    Closed {
        package: "pmesh-supervisor",
        name: "rollout::Instruction",
        reason: "one that is not carried out stops the rollout for good",
    },
    Closed {
        package: "pmesh-threads",
        name: "Unanswered",
        reason: "each becomes the failure of whoever asked",
    },
    Closed { package: "pmesh-vcs", name: "Relation", reason: "each decides whether an update goes on" },
    Closed { package: "pmesh-vcs", name: "VcsError", reason: "the API gives each its code" },
];

struct Closed {
    package: &'static str,
    /// As `docs/public` calls it.
    name: &'static str,
    reason: &'static str,
}

/// Each public enum that is neither open nor listed, and each that is listed and not there.
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
        for name in list.text.lines().filter_map(|line| line.strip_suffix(": enum")) {
            if closed.iter().any(|closed| (closed.package, closed.name) == (package, name)) {
                seen.insert((package, name));
            } else {
                unlisted.push(Finding::new(
                    &list.path,
                    format!("`{name}` cannot get another variant without breaking who matches it"),
                    "make it `#[non_exhaustive]`, or list it in xtask/src/check/closed_enums.rs with the reason",
                ));
            }
        }
    }
    let gone = closed.iter().filter(|closed| !seen.contains(&(closed.package, closed.name))).map(|closed| {
        Finding::new(
            "xtask/src/check/closed_enums.rs",
            format!("`{}` of {} is no closed enum ({})", closed.name, closed.package, closed.reason),
            "take it out of the list",
        )
    });
    unlisted.into_iter().chain(gone).collect()
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
    fn what_is_listed_is_there_and_closed() {
        let closed = [Closed { package: "x", name: "A", reason: "because" }];
        assert_eq!(problems("A: enum (non_exhaustive)\n", &closed), ["`A` of x is no closed enum (because)"]);
    }
}
