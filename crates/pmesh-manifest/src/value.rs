//! Reading a value of the tree as what a key wants, with a sentence for everything else.

use std::{collections::BTreeMap, path::Path, time::Duration};

use granit_parser::ScalarStyle;

use crate::{
    elsewhere::{self, Elsewhere, Ours},
    mistake::{KnownWord, NOT_YET, one_of, quoted},
    not_served::Feature,
    place::Place,
    report::Report,
    scalar::{self, Span},
    tree::{Key, YamlKind, YamlNode, joined, step},
};

/// A value of the document with the path that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    node: YamlNode,
    pub(crate) path: String,
    /// Where a person looks for it: the value, or its key where nothing is written behind that.
    pub(crate) place: Place,
}

/// Which durations a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zero {
    Allowed,
    /// Zero is a mistake: it would mean "not at all" where something has to happen.
    Refused,
}

impl Value {
    pub(crate) fn root(node: YamlNode) -> Self {
        let place = node.place;
        Self { node, path: String::new(), place }
    }

    /// The value of `key` in the map at `path`.
    pub(crate) fn of_key(key: &Key, node: &YamlNode, path: &str) -> Self {
        let nothing_written = matches!(
            &node.kind,
            YamlKind::Scalar { text, style: ScalarStyle::Plain } if text.is_empty()
        );
        let place = if nothing_written && node.tag.is_none() { key.place } else { node.place };
        Self { node: node.clone(), path: joined(path, step(&key.text)), place }
    }

    pub(crate) fn mistake(&self, report: &mut Report<'_>, message: String) {
        report.mistake_at(self.place, &self.path, message);
    }

    pub(crate) fn not_served(&self, report: &mut Report<'_>, feature: Feature) {
        report.not_served(self.place, &self.path, feature);
    }

    /// Says that `wanted` was expected instead of this.
    pub(crate) fn expected(&self, report: &mut Report<'_>, wanted: &str) {
        let message = format!("expected {wanted}, found {}", self.found());
        self.mistake(report, message);
    }

    fn found(&self) -> String {
        let tag = self.node.tag.as_ref().map_or_else(String::new, |tag| format!("!{} ", step(tag)));
        let what = match &self.node.kind {
            _ if self.node.is_null() => "nothing".to_owned(),
            YamlKind::Scalar { text, .. } => quoted(text),
            YamlKind::List(_) => "a list".to_owned(),
            YamlKind::Map(_) => "a map".to_owned(),
        };
        format!("{tag}{what}")
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.node.tag.as_deref()
    }

    /// The same value read as if it had no tag.
    pub(crate) fn without_tag(&self) -> Self {
        Self { node: self.node.clone().without_tag(), ..self.clone() }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.node.is_null()
    }

    pub(crate) fn is_scalar(&self) -> bool {
        matches!(self.node.kind, YamlKind::Scalar { .. }) && !self.is_null()
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.kind, YamlKind::List(_))
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.kind, YamlKind::Map(_))
    }

    /// Whether this can be read as a map: nothing is an empty one.
    pub(crate) fn is_map_or_null(&self) -> bool {
        self.is_map() || self.is_null()
    }

    /// Whether this is a map that has `key`.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        matches!(&self.node.kind, YamlKind::Map(entries) if entries.iter().any(|(written, _)| &*written.text == key))
    }

    /// The values of a map, read without a word as in [`peek`](Self::peek).
    pub(crate) fn values(&self) -> impl Iterator<Item = Self> {
        let entries = match &self.node.kind {
            YamlKind::Map(entries) => &entries[..],
            YamlKind::Scalar { .. } | YamlKind::List(_) => &[],
        };
        entries.iter().map(|(key, node)| Self::of_key(key, node, &self.path))
    }

    /// What a map has for `key`, read without a word: whoever decodes the map says what is wrong with it.
    pub(crate) fn peek(&self, key: &str) -> Option<Self> {
        let YamlKind::Map(entries) = &self.node.kind else { return None };
        let (key, node) = entries.iter().find(|(written, _)| &*written.text == key)?;
        Some(Self::of_key(key, node, &self.path))
    }

    /// Whether this is a map in which the preprocessor would write keys.
    pub(crate) fn has_computed_keys(&self) -> bool {
        matches!(&self.node.kind, YamlKind::Map(entries) if entries.iter().any(|(key, _)| key.text.starts_with('$')))
    }

    /// The text of a scalar as it was written, whatever YAML takes it for.
    ///
    /// `$(…)` and `${…}` in it belong to the preprocessor, but not in single quotes or a block.
    pub(crate) fn text(&self, report: &mut Report<'_>, wanted: &str) -> Option<&str> {
        let text = self.raw_text(report, wanted)?;
        if self.is_computed() {
            self.not_served(report, Feature::Preprocessor);
            return None;
        }
        Some(text)
    }

    /// The same for text that has a meaning of its own for `$`.
    pub(crate) fn raw_text(&self, report: &mut Report<'_>, wanted: &str) -> Option<&str> {
        match &self.node.kind {
            YamlKind::Scalar { text, .. } if self.node.tag.is_none() && !self.is_null() => {
                if text.contains('\0') {
                    self.mistake(report, format!("expected {wanted}, found a NUL character in it"));
                    return None;
                }
                Some(text)
            }
            _ => {
                self.expected(report, wanted);
                None
            }
        }
    }

    fn is_computed(&self) -> bool {
        match &self.node.kind {
            YamlKind::Scalar { text, style: ScalarStyle::Plain | ScalarStyle::DoubleQuoted } => {
                text.contains("$(") || text.contains("${") || text.starts_with("$import")
            }
            _ => false,
        }
    }

    pub(crate) fn flag(&self, report: &mut Report<'_>) -> Option<bool> {
        match self.text(report, "true or false")? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => {
                self.expected(report, "true or false");
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number<N>(&self, report: &mut Report<'_>, least: N, most: N) -> Option<N>
    where
        N: Copy + std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let wanted = format!("a whole number from {least} to {most}");
        let text = self.text(report, &wanted)?;
        // Rust reads "+1" as a number, too; nobody writes it.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && number >= least && number <= most => Some(number),
            _ => {
                self.expected(report, &wanted);
                None
            }
        }
    }

    pub(crate) fn duration(&self, report: &mut Report<'_>, zero: Zero) -> Option<Duration> {
        match self.span(report, zero)? {
            Span::For(time) => Some(time),
            Span::Never => {
                let wanted = "a duration that ends, such as `24h`";
                self.expected(report, wanted);
                None
            }
        }
    }

    /// A duration that may be `never`: the longest there is.
    pub(crate) fn duration_or_never(&self, report: &mut Report<'_>, zero: Zero) -> Option<Duration> {
        match self.span(report, zero)? {
            Span::For(time) => Some(time),
            Span::Never => Some(scalar::LONGEST),
        }
    }

    /// A duration, or `never`.
    pub(crate) fn span(&self, report: &mut Report<'_>, zero: Zero) -> Option<Span> {
        match scalar::duration(self.text(report, &scalar::ScalarError::Duration.to_string())?) {
            Ok(Span::For(time)) if time.is_zero() && zero == Zero::Refused => {
                self.expected(report, "a duration above 0");
                None
            }
            Ok(span) => Some(span),
            Err(error) => {
                self.expected(report, &error.to_string());
                None
            }
        }
    }

    pub(crate) fn size(&self, report: &mut Report<'_>) -> Option<u64> {
        match scalar::size(self.text(report, &scalar::ScalarError::Size.to_string())?) {
            Ok(size) => Some(size),
            Err(error) => {
                self.expected(report, &error.to_string());
                None
            }
        }
    }

    /// One of `words`. What is not served yet is told, and is none.
    pub(crate) fn word<T: Copy>(
        &self,
        report: &mut Report<'_>,
        words: &[(&str, Result<T, Feature>)],
    ) -> Option<T> {
        let known: Vec<KnownWord<'_>> =
            words.iter().map(|(word, value)| KnownWord { word, served: value.is_ok() }).collect();
        let wanted = one_of(known.iter().filter(|known| known.served).map(|known| known.word));
        let text = self.text(report, &wanted)?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, Ok(value))) => return Some(*value),
            Some((_, Err(feature))) => self.not_served(report, *feature),
            None => {
                let message = format!("expected {wanted}, found {}", quoted(text));
                report.mistake_with(self.place, &self.path, message, |near_misses| {
                    near_misses.did_you_mean_one_of(text, &known)
                });
            }
        }
        None
    }

    /// The items of a list; nothing is an empty one.
    pub(crate) fn items(&self, report: &mut Report<'_>, wanted: &str) -> Option<Vec<Self>> {
        match &self.node.kind {
            _ if self.tag().is_some() => self.expected(report, wanted),
            YamlKind::List(items) => return Some(self.numbered(items)),
            _ if self.is_null() => return Some(Vec::new()),
            _ => self.expected(report, wanted),
        }
        None
    }

    /// The items of a list, or the value itself as the only one.
    pub(crate) fn one_or_many(&self) -> Vec<Self> {
        match &self.node.kind {
            YamlKind::List(items) if self.tag().is_none() => self.numbered(items),
            _ => vec![self.clone()],
        }
    }

    fn numbered(&self, items: &[YamlNode]) -> Vec<Self> {
        let item = |(index, node): (usize, &YamlNode)| Self {
            path: joined(&self.path, &index.to_string()),
            place: node.place,
            node: node.clone(),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The entries of a map in the order of the file; nothing is an empty one. What belongs to the
    /// preprocessor (`$…` as a key) is taken out.
    pub(crate) fn entries(&self, report: &mut Report<'_>, wanted: &str) -> Option<Vec<(Key, Self)>> {
        let entries = match &self.node.kind {
            _ if self.tag().is_some() => None,
            YamlKind::Map(entries) => Some(entries.iter()),
            _ if self.is_null() => Some([].iter()),
            _ => None,
        };
        let Some(entries) = entries else {
            self.expected(report, wanted);
            return None;
        };
        let mut kept = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            if key.text.starts_with('$') {
                report.not_served(key.place, &self.path, Feature::Preprocessor);
            } else {
                kept.push((key.clone(), Self::of_key(key, node, &self.path)));
            }
        }
        Some(kept)
    }

    /// A map of names to texts, each name checked by `name`.
    pub(crate) fn texts(
        &self,
        report: &mut Report<'_>,
        wanted: &str,
        name: impl Fn(&str) -> Result<(), String>,
    ) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (key, value) in self.entries(report, wanted).unwrap_or_default() {
            if let Err(message) = name(&key.text) {
                report.mistake_at(key.place, &self.path, message);
            }
            if value.is_null() && value.tag().is_none() {
                texts.insert(key.text.to_string(), String::new());
            } else if let Some(text) = value.text(report, "a text") {
                texts.insert(key.text.to_string(), text.to_owned());
            }
        }
        texts
    }

    /// Texts: one, or a list of them.
    pub(crate) fn one_or_many_texts(&self, report: &mut Report<'_>, wanted: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for item in self.one_or_many() {
            texts.extend(item.text(report, wanted).map(str::to_owned));
        }
        texts
    }

    /// Whether this says nothing: null, an empty list or an empty map.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.node.kind {
            YamlKind::Scalar { .. } => self.is_null(),
            YamlKind::List(items) => items.is_empty(),
            YamlKind::Map(entries) => entries.is_empty(),
        }
    }

    /// Checks that this is a regular expression.
    pub(crate) fn regular_expression(&self, report: &mut Report<'_>) {
        let Some(text) = self.raw_text(report, "a regular expression") else { return };
        if let Err(error) = report.expressions.check(text) {
            self.expected(report, &error.to_string());
        }
    }

    /// A path, where it is relative taken from `folder`.
    pub(crate) fn path_under(&self, report: &mut Report<'_>, folder: &Path) -> Option<std::path::PathBuf> {
        let text = self.text(report, "a path")?;
        if text.is_empty() {
            self.expected(report, "a path");
            return None;
        }
        Some(crate::path::resolve(folder, text))
    }
}

/// A map with known keys. Each key is taken once; [`end`](Self::end) complains about the rest.
pub(crate) struct KeyedMap {
    path: String,
    pub(crate) place: Place,
    entries: Vec<(Key, Value)>,
    known: Vec<KnownWord<'static>>,
}

impl KeyedMap {
    /// The map in `value`; an empty one, and a mistake, if it is none.
    pub(crate) fn of(value: &Value, report: &mut Report<'_>, wanted: &str) -> Self {
        let entries = value.entries(report, wanted).unwrap_or_default();
        Self { path: value.path.clone(), place: value.place, entries, known: Vec::new() }
    }

    /// What is written for `key`.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.take_known(KnownWord { word: key, served: true })
    }

    /// The same for a key of which nothing is served yet: nobody is told to write it.
    pub(crate) fn take_later(&mut self, key: &'static str) -> Option<Value> {
        self.take_known(KnownWord { word: key, served: false })
    }

    fn take_known(&mut self, known: KnownWord<'static>) -> Option<Value> {
        self.known.push(known);
        let key = known.word;
        let index = self.entries.iter().position(|(written, _)| &*written.text == key)?;
        Some(self.entries.remove(index).1)
    }

    /// Takes the values that are left and that `is_meant` picks, whatever their keys are.
    pub(crate) fn take_all(&mut self, is_meant: impl Fn(&Value) -> bool) -> Vec<(Key, Value)> {
        self.entries.extract_if(.., |(_, value)| is_meant(value)).collect()
    }

    /// Whether keys are left that were not taken.
    pub(crate) fn has_more(&self) -> bool {
        !self.entries.is_empty()
    }

    /// The keys that were not taken are mistakes.
    pub(crate) fn end(self, report: &mut Report<'_>) {
        self.end_with(&[], report);
    }

    /// The same, where some may be what other programs call keys of ours.
    pub(crate) fn end_with(self, elsewhere: Elsewhere, report: &mut Report<'_>) {
        #[cfg(test)]
        report.tables.push((self.path.clone(), self.known.iter().map(|known| known.word).collect()));
        for (key, _) in &self.entries {
            if report.is_full() {
                break;
            }
            let what = format!("unknown key {}", quoted(&key.text));
            match elsewhere::find(elsewhere, &key.text) {
                Some(Ours::Key(ours)) => {
                    let served = self.known.iter().any(|known| known.word == ours && known.served);
                    let later = if served { "" } else { NOT_YET };
                    report.mistake_at(key.place, &self.path, format!("{what}; here it is `{ours}`{later}"));
                }
                Some(Ours::Told(told)) => {
                    report.mistake_at(key.place, &self.path, format!("{what}; {told}"));
                }
                None if self.known.is_empty() => {
                    report.mistake_at(key.place, &self.path, format!("{what}; expected no key"));
                }
                None => report.unknown(key.place, &self.path, what, &key.text, &self.known),
            }
        }
    }
}
