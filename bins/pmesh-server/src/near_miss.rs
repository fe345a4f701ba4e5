//! What a person may have meant by a word.

/// The candidate that is nearest to `word`, if one is near: a few letters missing, wrong or swapped.
pub(crate) fn near_miss<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are no slips of the finger, and the distance is quadratic in their length.
    const LONGEST: usize = 80;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(slips, candidate)| *slips <= (candidate.len() / 3).max(1))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::near_miss;

    #[test]
    fn a_near_miss_is_a_slip_and_not_any_other_word() {
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
        assert_eq!(near_miss(&"restart".repeat(20), commands), None);
    }
}
