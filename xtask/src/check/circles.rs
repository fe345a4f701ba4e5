//! No two files of a crate know each other, directly or around a circle: what one can read first, one can also
//! test, move and replace alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::finding::Finding;
use super::module_paths::{Names, names_in};
use crate::workspace::Workspace;

const REMEDY: &str = "move what both need into a file of its own, or what one needs into the other";

/// How often a name is followed through files that pass it on.
const MAX_HOPS: usize = 8;

/// A file and the files that it uses, each with the names that tie it to them.
type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// A circle of files for each one that `files` have in the sources of a crate.
pub(super) fn findings(workspace: &Workspace, files: &[String]) -> Result<Vec<Finding>> {
    let mut crates: BTreeMap<&str, Vec<(&str, String)>> = BTreeMap::new();
    for path in files {
        let is_rust = Path::new(path).extension().is_some_and(|end| end == "rs");
        if let (true, Some((home, _))) = (is_rust, path.split_once("/src/")) {
            crates.entry(home).or_default().push((path, workspace.read(path)?));
        }
    }
    let sources = |files: &[(&str, String)]| {
        files.iter().map(|(path, source)| ((*path).to_owned(), source.clone())).collect::<Vec<_>>()
    };
    Ok(crates.values().flat_map(|files| in_crate(&sources(files))).collect())
}

/// The circles among the files of one crate.
fn in_crate(files: &[(String, String)]) -> Vec<Finding> {
    let has_library = files.iter().any(|(path, _)| path.ends_with("/src/lib.rs"));
    let mut crate_files = CrateFiles::default();
    for (path, source) in files {
        // Beside a library, the program is a crate of its own, with one file.
        if !(has_library && path.ends_with("/src/main.rs")) {
            let module = module_of(path);
            crate_files.names.insert(module.clone(), names_in(source, &module));
            crate_files.paths.insert(module, path.clone());
        }
    }
    circles(&crate_files.graph()).iter().map(|(files, graph)| finding(files, graph)).collect()
}

fn finding(files: &BTreeSet<String>, graph: &Graph) -> Finding {
    let mut ties = Vec::new();
    for from in files {
        for (to, names) in graph[from].iter().filter(|(to, _)| files.contains(*to)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            ties.push(format!("{} uses {} of {}", short(from), names.join(", "), short(to)));
        }
    }
    let place = files.first().cloned().unwrap_or_default();
    Finding::new(place, format!("{} files know each other: {}", files.len(), ties.join("; ")), REMEDY)
}

fn short(path: &str) -> &str {
    path.split_once("/src/").map_or(path, |(_, short)| short)
}

/// The module of a file, from the crate's root.
fn module_of(path: &str) -> Vec<String> {
    let inside = short(path).trim_end_matches(".rs");
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

#[derive(Default)]
struct CrateFiles {
    names: BTreeMap<Vec<String>, Names>,
    paths: BTreeMap<Vec<String>, String>,
}

impl CrateFiles {
    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for (module, names) in &self.names {
            let from = &self.paths[module];
            let edges = graph.entry(from.clone()).or_default();
            for path in &names.used {
                let Some(to) = self.home(path, MAX_HOPS) else { continue };
                if to != from {
                    edges.entry(to.clone()).or_default().insert(path.last().cloned().unwrap_or_default());
                }
            }
        }
        graph
    }

    /// The file in which what `path` names stands.
    fn home(&self, path: &[String], hops: usize) -> Option<&String> {
        let length = (0..=path.len()).rev().find(|length| self.names.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let names = &self.names[module];
        if let (Some(name), Some(hops)) = (rest.first(), hops.checked_sub(1)) {
            if let Some(origin) = names.passed_on.get(name)
                && origin != path
            {
                let path: Vec<String> = origin.iter().chain(&rest[1..]).cloned().collect();
                return self.home(&path, hops);
            }
            let through = names
                .passed_on_whole
                .iter()
                .find(|whole| self.names.get(*whole).is_some_and(|names| names.passed_on.contains_key(name)));
            if let Some(whole) = through {
                return self.home(&[whole.as_slice(), rest].concat(), hops);
            }
        }
        self.paths.get(module)
    }
}

/// The sets of files from each of which all others of the set can be reached.
fn circles(graph: &Graph) -> Vec<(BTreeSet<String>, &Graph)> {
    let reachable: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|from| (from, reachable_from(from, graph))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (from, reached) in &reachable {
        if reached.contains(from) && !found.iter().any(|circle| circle.contains(*from)) {
            let circle = reached.iter().filter(|to| reachable[**to].contains(from));
            found.push(circle.map(|to| (*to).clone()).collect());
        }
    }
    found.into_iter().map(|circle| (circle, graph)).collect()
}

fn reachable_from<'a>(from: &String, graph: &'a Graph) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = graph[from].keys().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(graph[next].keys());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::in_crate;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, source)| (format!("crates/x/src/{path}"), (*source).to_owned()))
            .collect();
        in_crate(&files).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn two_files_that_use_each_other_are_named_with_what_ties_them() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "use crate::A; pub struct B(Box<A>);"),
        ]);
        assert_eq!(found, ["2 files know each other: a.rs uses B of b.rs; b.rs uses A of a.rs"]);
    }

    #[test]
    fn a_circle_of_three_is_one_finding() {
        let found = circles(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::f;"),
            ("b.rs", "use super::c::g;"),
            ("c.rs", "fn g() { crate::a::h() }"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("3 files know each other"), "{found:?}");
    }

    #[test]
    fn a_file_whose_child_uses_it_is_a_circle_and_one_that_only_declares_it_is_not() {
        let child = ("a/b.rs", "use super::A;");
        assert_eq!(circles(&[("a.rs", "mod b; pub struct A;"), child]), Vec::<String>::new());
        assert_eq!(circles(&[("a.rs", "mod b; use b::B; pub struct A;"), child]).len(), 1);
    }

    #[test]
    fn a_program_beside_its_library_and_tests_are_no_part_of_a_circle() {
        let found = circles(&[
            ("lib.rs", "pub fn f() {} #[cfg(test)] mod tests { use crate::a::g; }"),
            ("main.rs", "mod a;"),
            ("a.rs", "use crate::f; pub fn g() {}"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
