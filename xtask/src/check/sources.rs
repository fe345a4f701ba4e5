//! Words that must not stand in Rust code, or only at one place, and how long a file may be.

use std::path::Path;

use anyhow::Result;

use super::finding::Finding;
use super::rust_text::{code_only, lines_with_word};
use crate::workspace::Workspace;

const WORDS: &[Banned] = &[
    Banned {
        name: "unsafe",
        only_in: &["crates/pmesh-supervisor/src/sys.rs", "crates/pmesh-vcs/src/git/ids.rs"],
        remedy: "use a safe wrapper such as rustix, or put the call there, documented",
    },
    Banned { name: "set_var", only_in: &[], remedy: "set it for the child, with Command::env" },
    Banned { name: "remove_var", only_in: &[], remedy: "remove it for the child, with Command::env_remove" },
    Banned {
        name: "set_current_dir",
        only_in: &[],
        remedy: "set it for the child, with Command::current_dir, or join paths",
    },
];

/// A file with more lines than this has a second thing in it.
const MOST_LINES: usize = 600;

struct Banned {
    name: &'static str,
    /// The files in which it may stand.
    only_in: &'static [&'static str],
    remedy: &'static str,
}

/// Every such word in the `.rs` files among `files`.
pub(super) fn findings(workspace: &Workspace, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| Path::new(path).extension().is_some_and(|end| end == "rs")) {
        findings.extend(in_file(path, &workspace.read(path)?));
    }
    Ok(findings)
}

fn in_file(path: &str, source: &str) -> Vec<Finding> {
    let code = code_only(source);
    let mut findings = Vec::new();
    let lines = source.lines().count();
    if lines > MOST_LINES {
        let problem = format!("{lines} lines, more than {MOST_LINES}");
        findings.push(Finding::new(
            path,
            problem,
            "find the second thing in it, and give it a file of its own",
        ));
    }
    for rule in WORDS.iter().filter(|rule| !rule.only_in.contains(&path)) {
        for line in lines_with_word(&code, rule.name) {
            let problem = match rule.only_in {
                [] => format!("`{}` changes the whole process", rule.name),
                homes => format!("`{}` outside {}", rule.name, homes.join(" and ")),
            };
            findings.push(Finding::new(format!("{path}:{line}"), problem, rule.remedy));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::in_file;

    #[test]
    fn a_module_for_system_calls_may_be_unsafe_and_no_other() {
        let source = "\nunsafe { now() }\n";
        for home in ["crates/pmesh-supervisor/src/sys.rs", "crates/pmesh-vcs/src/git/ids.rs"] {
            assert!(in_file(home, source).is_empty());
        }
        assert_eq!(in_file("crates/pmesh-vcs/src/git.rs", source)[0].place, "crates/pmesh-vcs/src/git.rs:2");
    }

    #[test]
    fn a_file_has_at_most_six_hundred_lines() {
        let lines = |count: usize| in_file("crates/x/src/a.rs", &"//\n".repeat(count)).len();
        assert_eq!((lines(600), lines(601)), (0, 1));
    }

    #[test]
    fn the_environment_of_the_process_is_changed_nowhere() {
        let source = "std::env::set_var(\"A\", \"b\"); // set_current_dir";
        let findings = in_file("tests/pmesh/main.rs", source);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].problem, "`set_var` changes the whole process");
    }
}
