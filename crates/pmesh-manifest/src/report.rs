//! Where decoders write what is wrong, so that none of them stops at the first mistake.

use std::{collections::HashSet, path::Path};

use crate::{
    mistake::{Mistake, Mistakes},
    not_served::Feature,
    tree::Place,
};

/// What becomes of parts of the format that this server does not serve yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str, unsupported: Unsupported) -> Self {
        let (mistakes, warnings, seen) = (Vec::new(), Vec::new(), HashSet::new());
        Self { file, text, unsupported, mistakes, warnings, seen }
    }

    pub(crate) fn mistake_at(&mut self, place: Place, path: &str, message: String) {
        if !self.is_full()
            && let Some(mistake) = self.first(place, path, message)
        {
            self.mistakes.push(mistake);
        }
    }

    /// Whether no more mistakes are kept, and it is no use to look for their near misses.
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
            Unsupported::Warn if self.warnings.len() < Mistakes::LIMIT => {
                if let Some(warning) = self.first(place, path, format!("{message}; it is left out")) {
                    self.warnings.push(warning);
                }
            }
            Unsupported::Warn => {}
        }
    }

    /// Says that something else was left out because of what is not served.
    pub(crate) fn left_out(&mut self, place: Place, path: &str, message: String) {
        if self.unsupported == Unsupported::Warn
            && self.warnings.len() < Mistakes::LIMIT
            && let Some(warning) = self.first(place, path, message)
        {
            self.warnings.push(warning);
        }
    }

    fn first(&mut self, place: Place, path: &str, message: String) -> Option<Mistake> {
        let place = self.within(place);
        let (path, message) = (one_line(path.to_owned()), one_line(message));
        self.seen.insert((place, message.clone())).then(|| Mistake {
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            path,
            message,
        })
    }

    /// `place`, or the last one of the file if it lies behind that: the end of a document that
    /// breaks off is where the next line would be.
    fn within(&self, place: Place) -> Place {
        let mut last = Place::START;
        for (index, line) in self.text.lines().enumerate() {
            last = Place { line: index + 1, column: line.chars().count() + 1 };
            if last.line == place.line {
                break;
            }
        }
        place.min(last)
    }

    /// `value` with the warnings if there is no mistake.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Mistake>), Mistakes> {
        let by_place = |mistake: &Mistake| (mistake.line, mistake.column);
        self.mistakes.sort_by_key(by_place);
        self.warnings.sort_by_key(by_place);
        match value {
            Some(value) if self.mistakes.is_empty() => Ok((value, self.warnings)),
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
