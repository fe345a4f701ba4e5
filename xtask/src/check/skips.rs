//! A test that is skipped says so, and fails in CI, which has all that tests need: there nobody reads what they say.

use std::path::Path;

use anyhow::Result;

use super::finding::Finding;
use crate::workspace::Workspace;

const SAYS_SO: &str = "eprintln!(\"skipped";
const FAILS_IN_CI: &str = "\"nothing is skipped in CI";

/// Each place in Rust files that says `skipped` and does not fail in CI right before.
pub(super) fn findings(workspace: &Workspace, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| Path::new(path).extension().is_some_and(|end| end == "rs")) {
        findings.extend(in_file(path, &workspace.read(path)?));
    }
    Ok(findings)
}

fn in_file(path: &str, source: &str) -> Vec<Finding> {
    /// As long as formatting makes the assertion.
    const BEFORE: usize = 5;
    let lines: Vec<_> = source.lines().collect();
    let is_silent = |line: &usize| {
        let before = &lines[line.saturating_sub(BEFORE)..*line];
        lines[*line].trim_start().starts_with(SAYS_SO)
            && !before.iter().any(|line| line.contains(FAILS_IN_CI))
    };
    let finding = |line| {
        Finding::new(
            format!("{path}:{}", line + 1),
            "a test is skipped in CI as well",
            "before it says so, assert that the environment has no CI=true: \"nothing is skipped in CI\"",
        )
    };
    (0..lines.len()).filter(is_silent).map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_that_ci_would_not_notice_is_found() {
        let skip = format!("if !is_root {{\n    {SAYS_SO}: only root\");\n    return;\n}}\n");
        let places: Vec<_> = in_file("a.rs", &skip).into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["a.rs:2"]);
        let good = skip
            .replace("    eprintln", &format!("    assert_ne!(ci(), true, {FAILS_IN_CI}\");\n    eprintln"));
        assert_eq!(in_file("a.rs", &good), []);
    }
}
