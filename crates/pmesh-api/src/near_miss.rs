//! What a person may have meant by a name that is not there.

/// The candidate that is nearest to `text`, if one is near: a few letters missing, wrong or swapped, at
/// most one in three.
pub fn near_miss<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are no slips of the finger, and the distance is quadratic in their length.
    const LONGEST: usize = 80;
    if text.len() > LONGEST {
        return None;
    }
    let lower = text.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(slips, candidate)| *slips <= (candidate.len() / 3).max(1))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "near"?` for the candidate nearest to `text`, or nothing if none is near.
pub(crate) fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    near_miss(text, candidates).map_or_else(String::new, |near| format!("; did you mean {near:?}?"))
}

/// `text` in quotes, escaped, and cut where it is long: what was sent, in a sentence about it.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, near_miss, quoted};

    #[test]
    fn a_near_miss_is_a_slip_and_not_any_other_word() {
        let names = ["web", "worker", "my-api"];
        assert_eq!(did_you_mean("wbe", names), "; did you mean \"web\"?");
        assert_eq!(did_you_mean("Worker", names), "; did you mean \"worker\"?");
        assert_eq!(did_you_mean("database", names), "");
        assert_eq!(did_you_mean(&"web".repeat(100), names), "");
        let commands = ["run", "check", "status", "restart", "reload", "ls"];
        for (word, near) in [
            ("restrat", Some("restart")),
            ("Restart", Some("restart")),
            ("stat", Some("status")),
            ("relaod", Some("reload")),
            ("chek", Some("check")),
            ("rnu", Some("run")),
            ("l", Some("ls")),
            ("frobnicate", None),
            ("shop", None),
            ("", None),
        ] {
            assert_eq!(near_miss(word, commands), near, "{word}");
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert_eq!(quoted(&"é".repeat(61)), format!("\"{}\"…", "é".repeat(60)));
    }
}
