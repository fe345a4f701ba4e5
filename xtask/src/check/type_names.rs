//! A word means one thing in the whole workspace: no two types have one name where another file can see one of them.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use syn::{Attribute, Ident, Item, Visibility};

use super::finding::Finding;
use crate::workspace::Workspace;

/// What the API sends bears the name of what it tells of.
const WIRE: &str = "crates/pmesh-api/src/wire.rs";

/// Names that stand for one thing at two places.
const SAME: &[Same] = &[Same {
    name: "Seldom",
    reason: "lets a line through once a minute, in two crates that do not know each other",
}];

struct Same {
    name: &'static str,
    reason: &'static str,
}

/// A type and where it stands.
struct Type {
    name: String,
    path: String,
    /// Whether another file can see it.
    is_shown: bool,
}

/// Each type of the crates and programs whose name another one has that can be seen.
pub(super) fn findings(workspace: &Workspace, files: &[String]) -> Result<Vec<Finding>> {
    let mut types = Vec::new();
    for path in files.iter().filter(|path| is_source(path)) {
        let file = syn::parse_file(&workspace.read(path)?).with_context(|| format!("{path} is no Rust"))?;
        collect(&file.items, path, &mut types);
    }
    Ok(doubles(&types))
}

/// Whether it is a file of a crate or a program, and none of their tests.
fn is_source(path: &str) -> bool {
    let is_home = path.starts_with("crates/") || path.starts_with("bins/");
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    let is_rust = Path::new(path).extension().is_some_and(|end| end == "rs");
    is_home && path.contains("/src/") && is_rust && !is_test
}

fn collect(items: &[Item], path: &str, types: &mut Vec<Type>) {
    for item in items {
        let (attributes, name, visibility): (&[Attribute], &Ident, &Visibility) = match item {
            Item::Struct(item) => (&item.attrs, &item.ident, &item.vis),
            Item::Enum(item) => (&item.attrs, &item.ident, &item.vis),
            Item::Trait(item) => (&item.attrs, &item.ident, &item.vis),
            Item::Type(item) => (&item.attrs, &item.ident, &item.vis),
            Item::Mod(item) if !is_for_tests(&item.attrs) => {
                if let Some((_, items)) = &item.content {
                    collect(items, path, types);
                }
                continue;
            }
            _ => continue,
        };
        if !is_for_tests(attributes) {
            types.push(Type {
                name: name.to_string(),
                path: path.to_owned(),
                is_shown: !matches!(visibility, Visibility::Inherited),
            });
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let of_test = |attribute: &Attribute| attribute.parse_args::<Ident>().is_ok_and(|word| word == "test");
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg") && of_test(attribute))
}

fn doubles(types: &[Type]) -> Vec<Finding> {
    let mut by_name: BTreeMap<&str, Vec<&Type>> = BTreeMap::new();
    for found in types.iter().filter(|found| !SAME.iter().any(|same| same.name == found.name)) {
        by_name.entry(&found.name).or_default().push(found);
    }
    let mut findings = Vec::new();
    for (name, mut found) in by_name {
        // Shown ones first: the others should give way.
        found.sort_by_key(|found| (!found.is_shown, found.path == WIRE));
        let Some((first, others)) = found.split_first() else { continue };
        let others = others.iter().filter(|_| first.is_shown);
        findings.extend(others.filter(|other| !(other.is_shown && other.path == WIRE)).map(|other| {
            Finding::new(
                other.path.clone(),
                format!("`{name}` is also a type of {}", first.path),
                "give it a noun that says what it holds",
            )
        }));
    }
    let is_twice = |name: &str| types.iter().filter(|found| found.name == name).count() > 1;
    findings.extend(SAME.iter().filter(|same| !types.is_empty() && !is_twice(same.name)).map(|same| {
        Finding::new(
            "xtask/src/check/type_names.rs",
            format!("`{}` is not there twice ({})", same.name, same.reason),
            "take it out of the list",
        )
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::{WIRE, collect, doubles, is_source};

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let mut types = Vec::new();
        for (path, source) in files.iter().chain(&[("a", "struct Seldom;"), ("b", "struct Seldom;")]) {
            collect(&syn::parse_file(source).unwrap().items, path, &mut types);
        }
        doubles(&types).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_name_that_another_file_can_see_is_taken() {
        let found = problems(&[("x.rs", "pub(crate) enum Stage {}"), ("y.rs", "struct Stage;")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("y.rs: `Stage` is also a type of x.rs"), "{found:?}");
    }

    #[test]
    fn what_only_its_file_sees_may_have_a_plain_name() {
        let tests = "#[cfg(test)] mod tests { pub(crate) struct World; }";
        let files = [("x.rs", "struct State;"), ("y.rs", "struct State;"), ("z.rs", tests), ("w.rs", tests)];
        assert_eq!(problems(&files), Vec::<String>::new());
    }

    #[test]
    fn what_the_api_sends_bears_the_name_of_what_it_tells_of() {
        let files = [(WIRE, "pub struct Step;"), ("y.rs", "pub struct Step;")];
        assert_eq!(problems(&files), Vec::<String>::new());
        assert_eq!(problems(&[(WIRE, "pub struct Step;"), ("y.rs", "struct Step;")]).len(), 1);
    }

    #[test]
    fn tests_are_left_out() {
        assert!(is_source("crates/x/src/a.rs") && is_source("bins/x/src/a/b.rs"));
        assert!(!is_source("crates/x/src/a/tests.rs") && !is_source("crates/x/tests/a.rs"));
        assert!(!is_source("xtask/src/main.rs"));
    }
}
