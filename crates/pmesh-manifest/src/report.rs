//! Where decoders write what is wrong, so that none of them stops at the first mistake.

use std::{collections::HashSet, path::Path};

use crate::{
    mistake::{KnownWord, Mistake, Mistakes, NearMisses, expected_one_of},
    needs::{Need, Needed},
    not_served::Feature,
    place::Place,
    scalar::Expressions,
};

/// What becomes of parts of the format that this server does not serve yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// Each is a mistake.
    Refuse,
    /// Each is a warning and left out (`--ignore-unsupported`).
    Warn,
}

/// Mistakes and warnings of one manifest. Keeps [`Mistakes::LIMIT`] of each.
pub(crate) struct Report<'a> {
    file: &'a Path,
    text: &'a str,
    unsupported: Unsupported,
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
    /// A mistake in an anchored value is one, however often it is used.
    seen: HashSet<(Place, String)>,
    /// What has to be on the disk. Bounded by the values of the manifest.
    needs: Vec<Need>,
    near_misses: NearMisses,
    /// What the manifest's regular expressions may still take.
    pub(crate) expressions: Expressions,
    /// The keys of every map that was read, with its path: a test compares them with the document.
    #[cfg(test)]
    pub(crate) tables: Vec<(String, Vec<&'static str>)>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str, unsupported: Unsupported) -> Self {
        Self {
            file,
            text,
            unsupported,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            seen: HashSet::new(),
            needs: Vec::new(),
            near_misses: NearMisses::default(),
            expressions: Expressions::default(),
            #[cfg(test)]
            tables: Vec::new(),
        }
    }

    pub(crate) fn mistake_at(&mut self, place: Place, path: &str, message: String) {
        self.mistake_with(place, path, message, |_| String::new());
    }

    /// A mistake with a near miss at the end of its message, looked for only where it is shown.
    pub(crate) fn mistake_near<'c>(
        &mut self,
        place: Place,
        path: &str,
        message: String,
        text: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) {
        self.mistake_with(place, path, message, |near_misses| near_misses.did_you_mean(text, candidates));
    }

    /// A mistake whose message ends with what `near` says.
    pub(crate) fn mistake_with(
        &mut self,
        place: Place,
        path: &str,
        message: String,
        near: impl FnOnce(&mut NearMisses) -> String,
    ) {
        if !self.is_full()
            && let Some(mut mistake) = self.first(place, path, message)
        {
            mistake.message.push_str(&near(&mut self.near_misses));
            self.mistakes.push(mistake);
        }
    }

    /// A word that is none of those that can stand here: `what` it is, then the nearest, then what is expected.
    pub(crate) fn unknown(
        &mut self,
        place: Place,
        path: &str,
        what: String,
        text: &str,
        known: &[KnownWord<'_>],
    ) {
        self.mistake_with(place, path, what, |near_misses| {
            let expected = expected_one_of(known);
            match near_misses.did_you_mean_one_of(text, known) {
                near if near.is_empty() => format!("; {expected}"),
                near => format!("{near} {expected}"),
            }
        });
    }

    /// Something that is served as it stands, and surely not meant so.
    pub(crate) fn warning(&mut self, place: Place, path: &str, message: String) {
        if self.warnings.len() < Mistakes::LIMIT
            && let Some(warning) = self.first(place, path, message)
        {
            self.warnings.push(warning);
        }
    }

    /// Whether no more mistakes are kept.
    pub(crate) fn is_full(&self) -> bool {
        self.mistakes.len() >= Mistakes::LIMIT
    }

    /// Says that `feature`, which somebody wrote here, is not served yet.
    pub(crate) fn not_served(&mut self, place: Place, path: &str, feature: Feature) {
        self.not_served_text(place, path, feature.name());
    }

    /// The same for what has no [`Feature`] of its own: `name` as the message shows it.
    pub(crate) fn not_served_text(&mut self, place: Place, path: &str, name: &str) {
        let message = format!("{name} is part of the format, but this server does not serve it yet");
        match self.unsupported {
            Unsupported::Refuse => self.mistake_at(place, path, message),
            Unsupported::Warn => self.warning(place, path, format!("{message}; it is left out")),
        }
    }

    /// Says that something else was left out because of what is not served.
    pub(crate) fn left_out(&mut self, place: Place, path: &str, message: String) {
        if self.unsupported == Unsupported::Warn {
            self.warning(place, path, message);
        }
    }

    /// Notes something that has to be on the disk.
    pub(crate) fn needs(&mut self, place: Place, path: &str, what: Needed) {
        let place = self.mistake(place, path, String::new());
        self.needs.push(Need { place, what });
    }

    fn first(&mut self, place: Place, path: &str, message: String) -> Option<Mistake> {
        let message = one_line(message);
        self.seen.insert((place, message.clone())).then(|| self.mistake(place, path, message))
    }

    fn mistake(&self, place: Place, path: &str, message: String) -> Mistake {
        Mistake {
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            path: one_line(path.to_owned()),
            message,
        }
    }

    /// `value` with the warnings and the needs if there is no mistake.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Mistake>, Vec<Need>), Mistakes> {
        self.needs.sort_by_key(|need| (need.place.line, need.place.column));
        if !(self.mistakes.is_empty() && self.warnings.is_empty()) {
            let lines: Vec<&str> = lines(self.text).collect();
            for mistakes in [&mut self.mistakes, &mut self.warnings] {
                for mistake in mistakes.iter_mut() {
                    let place = within(Place { line: mistake.line, column: mistake.column }, &lines);
                    (mistake.line, mistake.column) = (place.line, place.column);
                }
                mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
            }
        }
        match value {
            Some(value) if self.mistakes.is_empty() => Ok((value, self.warnings, self.needs)),
            _ => {
                if self.mistakes.len() == Mistakes::LIMIT
                    && let Some(last) = self.mistakes.last_mut()
                {
                    last.message.push_str("; the mistakes after this one are not shown");
                }
                Err(Mistakes::new(self.mistakes))
            }
        }
    }
}

/// The lines of a text as YAML counts them: CR LF, CR and LF end one (YAML 1.2.2, 5.4).
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let length = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + length..]);
        Some(&text[..end])
    })
}

/// `place`, or the last one of its line or of the file if it lies behind that: the end of a document
/// that breaks off is where the next line would be.
fn within(place: Place, lines: &[&str]) -> Place {
    let line = place.line.clamp(1, lines.len().max(1));
    let end = lines.get(line - 1).map_or(0, |text| text.chars().count()) + 1;
    Place { line, column: if line < place.line { end } else { place.column.clamp(1, end) } }
}

/// `text` without what would end the line of a mistake or move the cursor of a terminal.
fn one_line(text: String) -> String {
    if !text.contains(|c: char| c.is_control()) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
