//! What a person may have meant by a name that is not there.

/// `; did you mean "near"?` for the candidate nearest to `text`, or nothing if none is near.
pub(crate) fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    /// Longer words are no slips of the finger, and the distance is quadratic in their length.
    const LONGEST: usize = 80;
    if text.len() > LONGEST {
        return String::new();
    }
    let lower = text.to_lowercase();
    // One slip in three letters, where two that changed places are one.
    let slips = (lower.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, near)| format!("; did you mean {near:?}?"))
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
    use super::{did_you_mean, quoted};

    #[test]
    fn a_near_miss_is_a_slip_and_not_any_other_word() {
        let names = ["web", "worker", "my-api"];
        assert_eq!(did_you_mean("wbe", names), "; did you mean \"web\"?");
        assert_eq!(did_you_mean("Worker", names), "; did you mean \"worker\"?");
        assert_eq!(did_you_mean("database", names), "");
        assert_eq!(did_you_mean(&"web".repeat(100), names), "");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert_eq!(quoted(&"é".repeat(61)), format!("\"{}\"…", "é".repeat(60)));
    }
}
