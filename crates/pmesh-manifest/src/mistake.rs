//! A mistake in a manifest, and the sentence that tells a person how to mend it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::place::{MAX_BYTES, Place};

/// Something in a manifest that cannot be served, and its place.
///
/// Printed as `pm3.yml:7:5: services.web: unknown key "stop_timeuot"; …`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// The file, as it was named to [`parse`](crate::parse).
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Where in the document: the keys from its root, joined by dots, list items by their number
    /// from 0; empty for the root. For an unknown key the path of the map that has it.
    pub path: String,
    /// What was found, what was expected, and a near miss where there is one.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// All mistakes of a manifest, at least one, in the order of their places; one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// How many mistakes are kept of one manifest; the last of so many says that there are more.
    pub const LIMIT: usize = 256;

    /// What [`parse`](crate::parse) says of a text that is larger than a manifest can be (1 MiB): for a caller
    /// that has not read it. `file` is the file, as messages name it.
    pub fn too_large(file: &Path) -> Self {
        let Place { line, column } = Place::START;
        let message = format!("the file is larger than {MAX_BYTES} bytes");
        Self(vec![Mistake { file: file.to_owned(), line, column, path: String::new(), message }])
    }

    /// Expects at least one, in order.
    pub(crate) fn new(mistakes: Vec<Mistake>) -> Self {
        Self(mistakes)
    }

    /// The mistakes in the order of their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Mistakes {
    type Item = Mistake;
    type IntoIter = std::vec::IntoIter<Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

/// `text` in quotes as a message shows it: escaped, and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// `a, b or c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => (*only).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// A word that may stand somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownWord<'a> {
    pub(crate) word: &'a str,
    /// Whether this server does something about it.
    pub(crate) served: bool,
}

impl<'a> KnownWord<'a> {
    pub(crate) const fn served(word: &'a str) -> Self {
        Self { word, served: true }
    }
}

/// What messages say behind a word that has a meaning and no effect yet.
pub(crate) const NOT_YET: &str = ", which this server does not serve yet";

/// `expected one of a, b or c`: those of the words that are served, and no more than a person reads.
pub(crate) fn expected_one_of(known: &[KnownWord<'_>]) -> String {
    const MOST: usize = 8;
    let served: Vec<&str> = known.iter().filter(|known| known.served).map(|known| known.word).collect();
    match served[..] {
        [] => "expected nothing".to_owned(),
        [only] => format!("expected {only}"),
        _ if served.len() <= MOST => format!("expected one of {}", served.join(", ")),
        _ => {
            let more = served.len() - MOST;
            format!("expected one of {} and {more} more", served[..MOST].join(", "))
        }
    }
}

/// Finds near misses. Bounded for a whole manifest: beyond [`MOST_WORK`](Self::MOST_WORK) there are none.
#[derive(Debug, Default)]
pub(crate) struct NearMisses {
    /// Letters compared with letters so far.
    work: usize,
}

impl NearMisses {
    /// As much as takes about a second. 256 mistakes in words as long as those of the format take a tenth of it.
    const MOST_WORK: usize = 16 << 20;

    /// `; did you mean "near"?` for the candidate nearest to `text`, or nothing if none is near.
    pub(crate) fn did_you_mean<'a>(
        &mut self,
        text: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> String {
        let near = self.nearest(text, candidates);
        near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
    }

    /// The same for words of which some are not served yet: then it says so.
    pub(crate) fn did_you_mean_one_of(&mut self, text: &str, known: &[KnownWord<'_>]) -> String {
        let Some(near) = self.nearest(text, known.iter().map(|known| known.word)) else {
            return String::new();
        };
        let served = known.iter().any(|known| known.word == near && known.served);
        format!("; did you mean \"{near}\"{}?", if served { "" } else { NOT_YET })
    }

    /// The candidate nearest to `text`, if any is near.
    fn nearest<'a>(&mut self, text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        // Longer words are no slips of the finger, and the distance is quadratic in their length.
        const LONGEST: usize = 80;
        if text.len() > LONGEST {
            return None;
        }
        let lower = text.to_lowercase();
        candidates
            .into_iter()
            .filter(|candidate| candidate.len() <= LONGEST)
            .take_while(|candidate| {
                self.work += text.len() * candidate.len();
                self.work <= Self::MOST_WORK
            })
            .filter_map(|candidate| Some((nearness(&lower, &candidate.to_lowercase())?, candidate)))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, near)| near)
    }
}

/// How near two words are, if they are: a few letters missing, wrong or swapped, or one that begins
/// like the other.
fn nearness(text: &str, candidate: &str) -> Option<f64> {
    const ALIKE: f64 = 0.88;
    let letters = text.chars().count().min(candidate.chars().count());
    let slips = strsim::damerau_levenshtein(text, candidate);
    let few = match letters {
        0..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    let alike = strsim::jaro_winkler(text, candidate);
    let begins = letters >= 3 && (candidate.starts_with(text) || text.starts_with(candidate));
    ((slips <= few && slips < letters) || alike >= ALIKE || begins).then_some(alike - slips as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_a_slip_and_not_any_other_word() {
        let keys = ["stop_timeout", "ready_timeout", "run", "build"];
        let mut near_misses = NearMisses::default();
        let mut did_you_mean = |text: &str, keys: [&'static str; 4]| near_misses.did_you_mean(text, keys);
        assert_eq!(did_you_mean("stop_timeuot", keys), "; did you mean \"stop_timeout\"?");
        assert_eq!(did_you_mean("Run", keys), "; did you mean \"run\"?");
        assert_eq!(did_you_mean("urn", keys), "; did you mean \"run\"?");
        assert_eq!(did_you_mean("stop", keys), "; did you mean \"stop_timeout\"?");
        assert_eq!(did_you_mean("memory", keys), "");
        assert_eq!(did_you_mean("b", ["a", "c", "d", "e"]), "");
        assert_eq!(did_you_mean(&"run".repeat(100), keys), "");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert_eq!(quoted(&"é".repeat(61)), format!("\"{}\"…", "é".repeat(60)));
    }
}
