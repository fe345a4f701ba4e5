//! The lists of public items in docs/public are those of the sources.

use anyhow::Result;

use super::finding::Finding;
use crate::public::lists;
use crate::workspace::{Package, Workspace};

/// Each list that is not there or not true any more, with the first line that differs.
pub(super) fn findings(
    workspace: &Workspace,
    packages: &[Package],
    files: &[String],
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for list in lists(workspace, packages, files)? {
        let kept = workspace.read(&list.path).unwrap_or_default();
        if kept != list.text {
            let problem = match first_difference(&kept, &list.text) {
                Some(line) => format!("the crate's public items have changed, first at `{line}`"),
                None => "the list ends too early".to_owned(),
            };
            findings.push(Finding::new(
                list.path,
                problem,
                "run `cargo xtask public`, and read the difference",
            ));
        }
    }
    Ok(findings)
}

/// The first line that only one of two sorted lists has.
fn first_difference<'a>(kept: &'a str, now: &'a str) -> Option<&'a str> {
    let differs = |(kept, now): &(&str, &str)| kept != now;
    let pair = kept.lines().zip(now.lines()).find(differs);
    pair.map(|(kept, now)| kept.min(now)).or_else(|| {
        let shorter = kept.lines().count().min(now.lines().count());
        kept.lines().nth(shorter).or_else(|| now.lines().nth(shorter))
    })
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn the_first_line_that_only_one_list_has_is_named() {
        assert_eq!(first_difference("a\nb\nc\n", "a\nc\n"), Some("b"));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some("b"));
        assert_eq!(first_difference("", "a\n"), Some("a"));
        assert_eq!(first_difference("a\n", "a\n"), None);
    }
}
