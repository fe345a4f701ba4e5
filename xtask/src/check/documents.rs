//! Documents that state what the code states too.

use super::Finding;
use super::layers::workspace_dependencies;
use crate::workspace::Workspace;

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// Every place where a document lacks what the code has.
pub(super) fn findings(workspace: &Workspace, root_manifest: &str) -> Vec<Finding> {
    match workspace.read(ARCHITECTURE) {
        Ok(text) => unnamed_dependencies(&text, root_manifest),
        Err(error) => vec![Finding::new(ARCHITECTURE, format!("{error:#}"), "write it")],
    }
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
                format!("say what `{name}` is for (in backquotes), or take it out of Cargo.toml"),
            )
        })
        .collect()
}

/// Whether the text names the crate. Names that are words of the language (`time`, `bytes`) count in
/// backquotes only; ours are words of nothing else.
fn names(text: &str, name: &str) -> bool {
    text.contains(&format!("`{name}`")) || (name.starts_with("pmesh-") && text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::unnamed_dependencies;

    #[test]
    fn a_dependency_without_a_reason_is_a_finding_even_if_its_name_is_an_english_word() {
        let manifest = "[workspace.dependencies]\npmesh-vcs = \"1\"\nhttp = \"1\"\ntime = \"1\"\n";
        let text = "crates/pmesh-vcs. We use `http`. It saves time.";
        let problems: Vec<String> =
            unnamed_dependencies(text, manifest).into_iter().map(|finding| finding.problem).collect();
        assert_eq!(problems, ["the dependency time is not named"]);
    }
}
