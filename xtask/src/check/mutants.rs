//! The list of pure files and the table of the mutants that are left speak of files that are there.

use anyhow::Result;

use super::finding::Finding;
use crate::mutants::{DOCUMENT, parse_left, pure_files};
use crate::workspace::Workspace;

const LIST: &str = "xtask/src/mutants/pure.rs";

/// Each pure file that is not there or not listed, and each row of the table that is of none or gives no reason.
pub(super) fn findings(workspace: &Workspace, files: &[String]) -> Result<Vec<Finding>> {
    let pure = pure_files();
    let mut findings = in_list(&pure.iter().map(|file| file.path()).collect::<Vec<_>>(), files);
    let names: Vec<String> = pure.iter().map(|file| file.name()).collect();
    findings.extend(in_document(&workspace.read(DOCUMENT)?, &names));
    Ok(findings)
}

fn in_list(pure: &[String], files: &[String]) -> Vec<Finding> {
    let absent = pure
        .iter()
        .filter(|path| !files.contains(path))
        .map(|path| Finding::new(LIST, format!("there is no {path}"), "list the pure files as they are now"));
    // What a pure file has taken out into files below it decides as it does.
    let is_below = |path: &&String| {
        pure.iter().any(|pure| path.starts_with(&format!("{}/", pure.trim_end_matches(".rs"))))
            && !path.ends_with("/tests.rs")
            && !path.contains("/tests/")
    };
    let unlisted = files.iter().filter(is_below).filter(|path| !pure.contains(path)).map(|path| {
        Finding::new(LIST, format!("{path} is part of a pure file and not listed"), "list it too")
    });
    absent.chain(unlisted).collect()
}

fn in_document(document: &str, names: &[String]) -> Vec<Finding> {
    let left = match parse_left(document) {
        Ok(left) => left,
        Err(error) => {
            return vec![Finding::new(DOCUMENT, format!("{error:#}"), "write file, mutant, reason")];
        }
    };
    let mut findings = Vec::new();
    for (index, row) in left.iter().enumerate() {
        let mut add = |problem: String, remedy: &str| {
            findings.push(Finding::new(format!("{DOCUMENT}:{}", row.line), problem, remedy));
        };
        if !names.contains(&row.file) {
            add(format!("{} is none of the files in {LIST}", row.file), "take the row out, or list the file");
        }
        if row.reason.is_empty() {
            add(format!("`{}` is left without a reason", row.mutant), "say why no test has to notice it");
        }
        if left[..index].iter().any(|other| (&other.file, &other.mutant) == (&row.file, &row.mutant)) {
            add(format!("`{}` stands there twice", row.mutant), "take one of the rows out");
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{in_document, in_list};

    #[test]
    fn a_pure_file_is_there_and_so_are_its_parts_in_the_list() {
        let strings = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let pure = strings(&["crates/x/src/a.rs", "crates/x/src/a/part.rs", "crates/x/src/gone.rs"]);
        let files = strings(&[
            "crates/x/src/a.rs",
            "crates/x/src/a/part.rs",
            "crates/x/src/a/new.rs",
            "crates/x/src/a/tests.rs",
            "crates/x/src/a/tests/world.rs",
            "crates/x/src/ab.rs",
        ]);
        let problems: Vec<String> = in_list(&pure, &files).into_iter().map(|found| found.problem).collect();
        assert_eq!(
            problems,
            [
                "there is no crates/x/src/gone.rs",
                "crates/x/src/a/new.rs is part of a pure file and not listed"
            ]
        );
    }

    #[test]
    fn a_mutant_that_is_left_has_a_file_that_is_tested_and_a_reason() {
        let table = |rows: &str| format!("## Mutants that are left\n| f | m | w |\n|---|---|---|\n{rows}");
        let problems = |rows: &str| -> Vec<String> {
            let findings = in_document(&table(rows), &["x/a.rs".to_owned()]);
            findings.into_iter().map(|finding| finding.problem).collect()
        };
        assert_eq!(problems("| `x/a.rs` | `replace f` | the same |"), [""; 0]);
        assert_eq!(problems("| `x/a.rs` | `replace f` | |"), ["`replace f` is left without a reason"]);
        assert_eq!(
            problems("| `x/b.rs` | `replace f` | y |"),
            ["x/b.rs is none of the files in xtask/src/mutants/pure.rs"]
        );
        assert_eq!(
            problems("| `x/a.rs` | `replace f` | y |\n| `x/a.rs` | `replace f` | z |"),
            ["`replace f` stands there twice"]
        );
        assert!(in_document("", &[])[0].problem.contains("no section"));
    }
}
