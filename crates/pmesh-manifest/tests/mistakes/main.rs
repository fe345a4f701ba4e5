//! Every mistake, exactly as a person sees it.

mod elsewhere;
mod routing;
mod services;
mod text;
mod top_level;
mod warnings;

use std::path::Path;

use pmesh_manifest::{ManifestText, Unsupported, parse};

/// Asserts that `text` has exactly these mistakes; how many keys are not named is `N`, as that changes with each new key.
#[track_caller]
fn assert_mistakes(text: &str, expected: &[&str]) {
    let found = mistakes(text);
    assert_eq!(found, expected, "\n{}", found.join("\n"));
}

/// The mistakes of `text`.
fn mistakes(text: &str) -> Vec<String> {
    // The text begins on a line of its own, for the eye only.
    let text = text.strip_prefix('\n').unwrap_or(text);
    let source = ManifestText::new(text.as_bytes(), Path::new("pm3.yml"), Path::new("/srv"));
    let mistakes = parse(&source, Unsupported::Refuse).expect_err("it has mistakes").to_string();
    mistakes.lines().map(without_count).collect()
}

fn without_count(line: &str) -> String {
    let count = line.strip_suffix(" more").and_then(|rest| rest.rsplit_once(" and "));
    match count {
        Some((before, number)) if number.parse::<u32>().is_ok() => format!("{before} and N more"),
        _ => line.to_owned(),
    }
}
