//! Documents that state what the code states too.

use anyhow::{Context, Result};

use super::finding::Finding;
use super::layers::workspace_dependencies;
use crate::workspace::Workspace;

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// The tests of pmesh-api that hold docs/api.md to the route table and the codes: its test binary, and the module.
const API_TESTS: (&str, &str) = ("api", "document::");

/// Every place where a document lacks what the code has.
pub(super) fn findings(workspace: &Workspace, root_manifest: &str) -> Vec<Finding> {
    match workspace.read(ARCHITECTURE) {
        Ok(text) => unnamed_dependencies(&text, root_manifest),
        Err(error) => vec![Finding::new(ARCHITECTURE, format!("{error:#}"), "write it")],
    }
}

/// Whether docs/api.md and the route table agree.
///
/// pmesh-api's own tests compare the two; this runs them and sees to it that they are there. To depend on
/// pmesh-api and compare here would have every run of this program wait for the whole server to be compiled.
pub(super) fn api_findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let (binary, module) = API_TESTS;
    // The whole workspace, because that gives the dependencies the features that `cargo test --workspace` gives
    // them: what is built here is not built again there.
    let output = workspace
        .cargo()
        .args(["test", "--locked", "--quiet", "--color=never", "--workspace", "--test", binary, "--", module])
        .output()
        .context("cannot run cargo")?;
    let told = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && passed(&told) > 0 {
        return Ok(Vec::new());
    }
    eprint!("{told}{}", String::from_utf8_lossy(&output.stderr));
    let problem = if output.status.success() {
        "no test compares it with the route table"
    } else {
        "it is not what pmesh_api::ROUTES says, or that could not be found out"
    };
    let remedy = format!("see `cargo test -p pmesh-api --test {binary} {module}`");
    Ok(vec![Finding::new("docs/api.md", problem, remedy)])
}

/// How many tests passed, by the summary lines of the test runner.
fn passed(told: &str) -> u32 {
    told.lines()
        .filter_map(|line| {
            line.strip_prefix("test result: ok. ")?.split_once(" passed")?.0.parse::<u32>().ok()
        })
        .sum()
}

/// A dependency is somebody else's code in everybody's build: the reason for each is written down.
fn unnamed_dependencies(architecture: &str, root_manifest: &str) -> Vec<Finding> {
    workspace_dependencies(root_manifest)
        .into_iter()
        .filter(|name| !names(architecture, name))
        .map(|name| {
            Finding::new(
                ARCHITECTURE,
                format!("the dependency {name} is not named"),
                format!(
                    "say what `{name}` is for in its table of dependencies, or take it out of Cargo.toml"
                ),
            )
        })
        .collect()
}

/// Whether the text names the crate: in backquotes, or in a list that is the first cell of a table's row. Elsewhere it
/// may be a word of the language (`time`, `bytes`); ours are words of nothing else.
fn names(text: &str, name: &str) -> bool {
    let in_table = |line: &str| {
        let cell = line.strip_prefix('|').and_then(|rest| rest.split('|').next()).unwrap_or_default();
        cell.split(',').any(|word| word.trim() == name)
    };
    text.contains(&format!("`{name}`"))
        || (name.starts_with("pmesh-") && text.contains(name))
        || text.lines().any(in_table)
}

#[cfg(test)]
mod tests {
    use super::{passed, unnamed_dependencies};

    #[test]
    fn a_run_in_which_no_test_was_found_proves_nothing() {
        assert_eq!(passed("running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 3 filtered out\n"), 0);
        assert_eq!(passed("running 3 tests\n...\ntest result: ok. 3 passed; 0 failed\n"), 3);
    }

    #[test]
    fn a_dependency_without_a_reason_is_a_finding_even_if_its_name_is_an_english_word() {
        let names = ["pmesh-vcs", "http", "bytes", "time"];
        let manifest = names
            .iter()
            .fold("[workspace.dependencies]\n".to_owned(), |manifest, name| manifest + name + " = \"1\"\n");
        let manifest = manifest.as_str();
        let text = "crates/pmesh-vcs. We use `http`. It saves time.\n| http-body, bytes | parts, time |";
        let problems: Vec<String> =
            unnamed_dependencies(text, manifest).into_iter().map(|finding| finding.problem).collect();
        assert_eq!(problems, ["the dependency time is not named"]);
    }
}
