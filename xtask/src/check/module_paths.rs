//! The paths by which one file of a crate names what stands in another.

use std::collections::BTreeMap;

use super::rust_text::code_only;

/// What a file says about the other files of its crate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Absolute paths from the crate's root that its code uses, each once.
    pub(super) used: Vec<Vec<String>>,
    /// What other files can reach through this one: the name here, and where it comes from.
    pub(super) passed_on: BTreeMap<String, Vec<String>>,
    /// Modules of which everything is passed on.
    pub(super) passed_on_whole: Vec<Vec<String>>,
}

/// Reads `source`, the file of the module at `module` (empty for the crate's root). Test modules do not count.
pub(super) fn names_in(source: &str, module: &[String]) -> Names {
    let tokens = without_tests(&tokens(&code_only(source)));
    let children = children(&tokens);
    let mut reading = Reading { tokens: &tokens, module, children: &children, names: Names::default() };
    reading.run();
    let mut names = reading.names;
    names.used.sort();
    names.used.dedup();
    names
}

/// Words, `::`, and every other visible character by itself.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Leaves out each item behind `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().map(String::as_str).take(MARK.len()).eq(MARK) {
            at = end_of_item(tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Behind the `;` or the closing brace that ends the item at `at`.
fn end_of_item(tokens: &[String], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && tokens[at] == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The modules that the file declares and that have files of their own.
fn children(tokens: &[String]) -> Vec<String> {
    tokens
        .windows(3)
        .filter(|window| window[0] == "mod" && window[2] == ";")
        .map(|window| window[1].clone())
        .collect()
}

struct Reading<'a> {
    tokens: &'a [String],
    module: &'a [String],
    children: &'a [String],
    names: Names,
}

impl Reading<'_> {
    fn run(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            at = match self.tokens[at].as_str() {
                "use" => self.use_item(at),
                // `pub(crate)` and `pub(in crate::a)` name no item.
                "pub" if self.token(at + 1) == "(" => self.behind_parenthesis(at + 1),
                word if word.starts_with(is_word) && self.token(at + 1) == "::" && self.begins_path(at) => {
                    self.inline_path(at)
                }
                _ => at + 1,
            };
        }
    }

    fn token(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", String::as_str)
    }

    fn begins_path(&self, at: usize) -> bool {
        at == 0 || self.token(at - 1) != "::"
    }

    fn behind_parenthesis(&self, open: usize) -> usize {
        let close = self.tokens[open..].iter().position(|token| token == ")");
        close.map_or(self.tokens.len(), |length| open + length + 1)
    }

    fn inline_path(&mut self, mut at: usize) -> usize {
        let mut path = vec![self.tokens[at].clone()];
        while self.token(at + 1) == "::" && self.token(at + 2).starts_with(is_word) {
            path.push(self.tokens[at + 2].clone());
            at += 2;
        }
        if let Some(path) = self.absolute(&path) {
            self.names.used.push(path);
        }
        at + 1
    }

    /// `use a::{b, c as d};` at `at`, with or without `pub` before it.
    fn use_item(&mut self, at: usize) -> usize {
        let is_public = at > 0 && matches!(self.token(at - 1), "pub" | ")");
        let mut leaves = Vec::new();
        let end = self.tree(at + 1, &mut Vec::new(), &mut leaves);
        for (path, name) in leaves {
            let Some(path) = self.absolute(&path) else { continue };
            match name {
                Some(name) => {
                    if !is_public {
                        self.names.used.push(path.clone());
                    }
                    self.names.passed_on.insert(name, path);
                }
                None if is_public => self.names.passed_on_whole.push(path),
                None => self.names.used.push(path),
            }
        }
        end
    }

    /// One tree of a `use`: its leaves with the name that each gets here, none for `*`.
    fn tree(
        &self,
        mut at: usize,
        before: &mut Vec<String>,
        leaves: &mut Vec<(Vec<String>, Option<String>)>,
    ) -> usize {
        let depth = before.len();
        loop {
            match self.token(at) {
                "{" => {
                    at += 1;
                    while self.token(at) != "}" && at < self.tokens.len() {
                        at = self.tree(at, before, leaves);
                        if self.token(at) == "," {
                            at += 1;
                        }
                    }
                    at += 1;
                    break;
                }
                "*" => {
                    leaves.push((before.clone(), None));
                    at += 1;
                    break;
                }
                "::" => at += 1,
                word if word.starts_with(is_word) => {
                    if word != "self" || before.is_empty() {
                        before.push(word.to_owned());
                    }
                    at += 1;
                    if self.token(at) != "::" {
                        let renamed = self.token(at) == "as";
                        let name = if renamed { self.token(at + 1) } else { before.last().map_or("", |l| l) };
                        leaves.push((before.clone(), Some(name.to_owned())));
                        at += if renamed { 2 } else { 0 };
                        break;
                    }
                }
                _ => {
                    at += 1;
                    break;
                }
            }
        }
        before.truncate(depth);
        at
    }

    /// The path from the crate's root; none where another crate is named.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?;
        let mut from = match first.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.to_vec(),
            child if self.children.iter().any(|known| known == child) => {
                return Some([self.module, path].concat());
            }
            _ => return None,
        };
        let ups = path.iter().take_while(|word| *word == "super").count();
        from.truncate(from.len().saturating_sub(ups));
        let names = path.iter().skip_while(|word| matches!(word.as_str(), "crate" | "self" | "super"));
        from.extend(names.cloned());
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::names_in;

    fn words(path: &str) -> Vec<String> {
        path.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn used(source: &str, module: &str) -> Vec<String> {
        names_in(source, &words(module)).used.iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn each_leaf_of_a_use_is_a_path() {
        let source = "use crate::{a::{B, c::D as E}, f};\nuse std::io::{self, Read};\nuse crate::g::*;";
        assert_eq!(used(source, "x"), ["a::B", "a::c::D", "f", "g"]);
    }

    #[test]
    fn paths_within_code_and_macros_count() {
        assert_eq!(used("fn f() { let x = crate::a::b(vec![super::c::d()]); }", "x::y"), ["a::b", "x::c::d"]);
    }

    #[test]
    fn a_child_is_named_by_itself() {
        assert_eq!(used("mod child;\nfn f() { child::g(); other::h(); }", "x"), ["x::child::g"]);
    }

    #[test]
    fn visibility_comments_and_tests_name_nothing() {
        let source =
            "pub(in crate::a) fn f() {} // crate::b\n#[cfg(test)]\nmod tests { use crate::c::D; fn g() {} }";
        assert_eq!(used(source, "x"), Vec::<String>::new());
    }

    #[test]
    fn what_is_passed_on_is_not_used() {
        let names = names_in("mod a;\npub use a::B;\npub(crate) use crate::c::D as E;\npub use a::*;", &[]);
        assert_eq!(names.used, Vec::<Vec<String>>::new());
        assert_eq!(names.passed_on["B"], words("a::B"));
        assert_eq!(names.passed_on["E"], words("c::D"));
        assert_eq!(names.passed_on_whole, [words("a")]);
    }
}
