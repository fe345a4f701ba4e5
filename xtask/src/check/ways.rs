//! The ways through the house that docs/ARCHITECTURE.md describes lead through functions that are there.

use anyhow::Result;

use super::finding::Finding;
use super::rust_text::code_only;
use crate::workspace::Workspace;

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// How the ways begin that must be there.
const WAYS: [&str; 3] = ["**One request.**", "**One update.**", "**One crash.**"];

/// Each hop whose file or function is not there, and each way without any.
pub(super) fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let document = workspace.read(ARCHITECTURE)?;
    Ok(in_document(&document, |path| workspace.read(path).ok()))
}

/// A hop is written `crate/file.rs:function` or `crate/file.rs:Type::function`.
fn in_document(document: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut way = None;
    let mut found = [0; WAYS.len()];
    for (index, line) in document.lines().enumerate() {
        way =
            WAYS.iter().position(|begin| line.starts_with(begin)).or(way.filter(|_| !line.starts_with('#')));
        // What stands between two backticks is every second piece.
        for (file, function) in line.split('`').skip(1).step_by(2).filter_map(hop) {
            if let Some(way) = way {
                found[way] += 1;
            }
            let place = format!("{ARCHITECTURE}:{}", index + 1);
            let problem = match read(&path_of(file)) {
                None => format!("there is no {}", path_of(file)),
                Some(source) if !has_function(&source, function) => {
                    format!("there is no function `{function}` in {}", path_of(file))
                }
                Some(_) => continue,
            };
            findings.push(Finding::new(place, problem, "describe the way as it is now"));
        }
    }
    for (begin, _) in WAYS.iter().zip(found).filter(|(_, hops)| *hops == 0) {
        findings.push(Finding::new(
            ARCHITECTURE,
            format!("it describes no way that begins with {begin}"),
            "write its hops as `crate/file.rs:function`",
        ));
    }
    findings
}

fn hop(words: &str) -> Option<(&str, &str)> {
    let (file, function) = words.split_once(".rs:")?;
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    (file.contains('/') && !function.is_empty() && function.chars().all(is_name)).then_some((file, function))
}

/// `pmesh-proxy/front` is `crates/pmesh-proxy/src/front.rs`; the program is in `bins`.
fn path_of(file: &str) -> String {
    let (package, inside) = file.split_once('/').unwrap_or((file, ""));
    let folder = if package == "pmesh-server" { "bins" } else { "crates" };
    format!("{folder}/{package}/src/{inside}.rs")
}

fn has_function(source: &str, function: &str) -> bool {
    let name = function.rsplit("::").next().unwrap_or(function);
    let code = code_only(source);
    code.match_indices("fn ").any(|(at, _)| {
        let rest = code[at..].strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(['(', '<']))
    })
}

#[cfg(test)]
mod tests {
    use super::in_document;

    fn problems(document: &str) -> Vec<String> {
        let read = |path: &str| {
            (path == "crates/pmesh-proxy/src/front.rs")
                .then(|| "// – a comment\nimpl Front { async fn accept<T>() {} }".to_owned())
        };
        let found = in_document(document, read).into_iter().map(|finding| finding.problem);
        found.filter(|problem| !problem.contains("no way")).collect()
    }

    fn missing(document: &str) -> Vec<String> {
        let read = |_: &str| Some("fn accept() {}".to_owned());
        in_document(document, read).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_hop_that_is_there_is_no_finding() {
        assert_eq!(problems("`pmesh-proxy/front.rs:accept` → `pmesh-proxy/front.rs:Front::accept`"), [""; 0]);
    }

    #[test]
    fn a_hop_through_nothing_is_named() {
        assert_eq!(
            problems("x `pmesh-proxy/front.rs:acce` y `pmesh-server/run.rs:run`"),
            [
                "there is no function `acce` in crates/pmesh-proxy/src/front.rs",
                "there is no bins/pmesh-server/src/run.rs"
            ]
        );
    }

    #[test]
    fn each_of_the_three_ways_must_have_a_hop_of_its_own() {
        let hop = "`pmesh-proxy/front.rs:accept`";
        let whole = format!("**One request.** {hop}\n**One update.**\nThen {hop}\n**One crash.** {hop}");
        assert_eq!(missing(&whole), [""; 0]);
        let lost = |way: &str| format!("it describes no way that begins with {way}");
        let without = format!("**One request.** {hop}\n**One crash.** soon\n## More\n{hop}");
        assert_eq!(missing(&without), [lost("**One update.**"), lost("**One crash.**")]);
    }
}
