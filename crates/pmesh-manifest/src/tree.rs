//! The YAML document as a tree that keeps what a decoder needs and serde's data model drops: tags,
//! the raw text of scalars, and the place of everything.
//!
//! Bounded: [`MAX_BYTES`](crate::place::MAX_BYTES) of text, [`MAX_WEIGHT`] with aliases expanded, [`MAX_DEPTH`] levels.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Tag};

use crate::{mistake::quoted, place::Place, report::Report};

/// The most values: each counts 1 and 1 more for every 64 bytes of its text, and an alias counts
/// as much as what it stands for. So a document grows to a few times [`MAX_BYTES`](crate::place::MAX_BYTES) at most.
pub(crate) const MAX_WEIGHT: u32 = 100_000;
/// The longest key, in bytes: that of YAML's simple keys.
pub(crate) const MAX_KEY: usize = 1024;
/// The deepest nesting of lists and maps, through aliases too. Decoders and destructors recurse.
pub(crate) const MAX_DEPTH: usize = 64;

/// A value of the document. A clone shares all that is below it.
#[derive(Clone, Debug)]
pub(crate) struct YamlNode {
    /// Where it begins; for the value of an alias, where the alias is.
    pub(crate) place: Place,
    /// Its tag, as `App` for `!App`; none for YAML's own such as `!!str`.
    pub(crate) tag: Option<Rc<str>>,
    pub(crate) kind: YamlKind,
    /// What it counts against [`MAX_WEIGHT`], with all that is in it.
    weight: u32,
    /// Levels of lists and maps in it.
    height: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum YamlKind {
    Scalar {
        text: Rc<str>,
        style: ScalarStyle,
    },
    List(Rc<[YamlNode]>),
    /// In the order of the file, merge keys expanded, every key once.
    Map(Rc<[(Key, YamlNode)]>),
}

/// A key: its text decides, never its YAML type (`404:` and `on:` are words like others).
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) text: Rc<str>,
}

impl YamlNode {
    pub(crate) fn without_tag(self) -> Self {
        Self { tag: None, ..self }
    }

    /// Nothing, null or `~`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.kind {
            YamlKind::Scalar { text, style: ScalarStyle::Plain } => {
                matches!(&**text, "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }
}

/// A list or map that is not complete yet.
struct Open {
    place: Place,
    tag: Option<Rc<str>>,
    anchor: usize,
    weight: u32,
    height: usize,
    content: Content,
}

enum Content {
    List(Vec<YamlNode>),
    Map { entries: Vec<(Key, YamlNode)>, merges: Vec<(Key, YamlNode)>, pending: NextInMap },
}

/// What a map expects next.
enum NextInMap {
    Key,
    Value(Key),
    /// The value that follows a key which was a mistake.
    Dropped,
}

struct TreeBuilder<'r, 'a> {
    report: &'r mut Report<'a>,
    open: Vec<Open>,
    anchors: HashMap<usize, YamlNode>,
    weight: u32,
    root: Option<YamlNode>,
}

/// The document could not be read to its end; the report says why.
struct Broken;

/// The document in `text`; none if it is empty or cannot be read, and then the report says so.
pub(crate) fn parse(text: &str, report: &mut Report<'_>) -> Option<YamlNode> {
    let mut builder =
        TreeBuilder { report, open: Vec::new(), anchors: HashMap::new(), weight: 0, root: None };
    let mut documents = 0;
    // The parser's own limits stop it before it holds more than we would take.
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
        emit_comments: false,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match next {
            Ok(next) => next,
            Err(error) => {
                let path = builder.path();
                let message = match error.kind() {
                    ErrorKind::RecursionLimitExceeded => too_deep(),
                    kind => format!("this is not YAML: {}{}", error.info(), remedy(kind)),
                };
                builder.report.mistake_at(Place::of(error.marker()), &path, message);
                return None;
            }
        };
        let place = Place::of(&span.tag_start().unwrap_or(span.start));
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                builder.report.mistake_at(place, "", "a second document; a manifest is one".to_owned());
                return None;
            }
        }
        if builder.take(event, place).is_err() {
            return None;
        }
    }
    let root = builder.root.take();
    match root {
        Some(root) if !root.is_null() => Some(root),
        _ => {
            let message = "the manifest is empty; begin with `services:`".to_owned();
            builder.report.mistake_at(Place::START, "", message);
            None
        }
    }
}

impl TreeBuilder<'_, '_> {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Broken> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let weight = u32::try_from(1 + text.len() / 64).unwrap_or(u32::MAX);
                self.count(place, weight)?;
                let kind = YamlKind::Scalar { text: text.as_ref().into(), style };
                let tag = own_tag(tag.as_deref());
                self.complete(YamlNode { place, tag, kind, weight, height: 0 }, anchor);
            }
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    let message = "this alias lies inside of what it names".to_owned();
                    return self.give_up(place, message);
                };
                let node = YamlNode { place, ..target.clone() };
                self.count(place, node.weight)?;
                if self.open.len() + node.height > MAX_DEPTH {
                    return self.too_deep(place);
                }
                self.complete(node, 0);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.enter(place, anchor, tag.as_deref(), Content::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                let content =
                    Content::Map { entries: Vec::new(), merges: Vec::new(), pending: NextInMap::Key };
                self.enter(place, anchor, tag.as_deref(), content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            _ => {}
        }
        Ok(())
    }

    fn enter(
        &mut self,
        place: Place,
        anchor: usize,
        tag: Option<&Tag>,
        content: Content,
    ) -> Result<(), Broken> {
        if self.open.len() >= MAX_DEPTH {
            return self.too_deep(place);
        }
        self.count(place, 1)?;
        self.open.push(Open { place, tag: own_tag(tag), anchor, weight: 1, height: 0, content });
        Ok(())
    }

    fn leave(&mut self) {
        let Some(Open { place, tag, anchor, weight, height, content }) = self.open.pop() else {
            return;
        };
        let kind = match content {
            Content::List(items) => YamlKind::List(items.into()),
            Content::Map { entries, merges, .. } => {
                let mut complaints = Vec::new();
                let entries = merged(entries, merges, &mut complaints);
                for (place, message) in complaints {
                    let path = self.path();
                    self.report.mistake_at(place, &path, message);
                }
                YamlKind::Map(entries.into())
            }
        };
        self.complete(YamlNode { place, tag, kind, weight, height: height + 1 }, anchor);
    }

    fn complete(&mut self, node: YamlNode, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        parent.weight = parent.weight.saturating_add(node.weight);
        parent.height = parent.height.max(node.height);
        match &mut parent.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, merges, pending } => {
                *pending = match std::mem::replace(pending, NextInMap::Key) {
                    NextInMap::Key => match key_of(&node) {
                        Ok(key) => NextInMap::Value(key),
                        Err(message) => {
                            *pending = NextInMap::Dropped;
                            let path = self.path();
                            self.report.mistake_at(node.place, &path, message);
                            return;
                        }
                    },
                    NextInMap::Value(key) => {
                        if &*key.text == "<<" {
                            merges.push((key, node));
                        } else {
                            entries.push((key, node));
                        }
                        NextInMap::Key
                    }
                    NextInMap::Dropped => NextInMap::Key,
                };
            }
        }
    }

    fn count(&mut self, place: Place, weight: u32) -> Result<(), Broken> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight > MAX_WEIGHT {
            let message = format!("more than {MAX_WEIGHT} values, with what aliases stand for");
            return self.give_up(place, message);
        }
        Ok(())
    }

    fn too_deep(&mut self, place: Place) -> Result<(), Broken> {
        self.give_up(place, too_deep())
    }

    fn give_up(&mut self, place: Place, message: String) -> Result<(), Broken> {
        let path = self.path();
        self.report.mistake_at(place, &path, message);
        Err(Broken)
    }

    /// The keys and numbers that lead to the value which comes next.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            let next = match &open.content {
                Content::List(items) => items.len().to_string(),
                Content::Map { pending: NextInMap::Value(key), .. } => step(&key.text).to_owned(),
                Content::Map { .. } => continue,
            };
            path = joined(&path, &next);
        }
        path
    }
}

/// What to do about a slip that many make.
fn remedy(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::UnexpectedCharacter { .. } => "; put the text in quotes",
        ErrorKind::MappingValueNotAllowed => "; a text with `: ` in it needs quotes around all of it",
        ErrorKind::UnknownAnchor => {
            "; a text that begins with `*` needs quotes, and every host or request is `_`"
        }
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => "; indent with spaces",
        _ => "",
    }
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

/// A key as a step of a path in messages: cut where it is long.
pub(crate) fn step(key: &str) -> &str {
    const LONGEST: usize = 60;
    key.char_indices().nth(LONGEST).map_or(key, |(end, _)| &key[..end])
}

/// A path with one more step. Where it is long already the step is left out: every value has a path of
/// its own, and a list of many deep down would hold megabytes of them.
pub(crate) fn joined(path: &str, step: &str) -> String {
    const LONGEST: usize = 400;
    match path {
        "" => step.to_owned(),
        path if path.len() > LONGEST && path.ends_with('…') => path.to_owned(),
        path if path.len() > LONGEST => format!("{path}…"),
        path => format!("{path}.{step}"),
    }
}

fn own_tag(tag: Option<&Tag>) -> Option<Rc<str>> {
    let tag = tag.filter(|tag| tag.is_custom())?;
    match tag.original() {
        // YAML 1.2.2, 6.9.1: the non-specific tag only forbids to guess a type from the text.
        name if name == "!" => None,
        name => Some(name.strip_prefix('!').unwrap_or(&name).into()),
    }
}

fn key_of(node: &YamlNode) -> Result<Key, String> {
    match &node.kind {
        YamlKind::Scalar { .. } if node.tag.is_some() => Err("a tag on a key; expected a word".to_owned()),
        YamlKind::Scalar { text, .. } if text.len() > MAX_KEY => {
            Err(format!("a key of more than {MAX_KEY} bytes"))
        }
        YamlKind::Scalar { text, .. } => Ok(Key { place: node.place, text: text.clone() }),
        YamlKind::List(_) => Err("a list as a key; expected a word".to_owned()),
        YamlKind::Map(_) => Err("a map as a key; expected a word".to_owned()),
    }
}

/// The entries of a map with those of its merge keys (<https://yaml.org/type/merge.html>): its own
/// win, then those of the earlier map. What is wrong goes to `complaints`.
fn merged(
    written: Vec<(Key, YamlNode)>,
    merges: Vec<(Key, YamlNode)>,
    complaints: &mut Vec<(Place, String)>,
) -> Vec<(Key, YamlNode)> {
    let mut seen: HashSet<Rc<str>> = HashSet::new();
    let mut entries = Vec::with_capacity(written.len());
    for (key, value) in written {
        if seen.insert(key.text.clone()) {
            entries.push((key, value));
        } else {
            complaints.push((key.place, format!("key {} is there twice", quoted(&key.text))));
        }
    }
    for (index, (key, merge)) in merges.into_iter().enumerate() {
        if index > 0 {
            complaints.push((key.place, format!("key {} is there twice", quoted(&key.text))));
            continue;
        }
        let sources = match &merge.kind {
            YamlKind::List(items) => items.to_vec(),
            _ => vec![merge],
        };
        for source in sources {
            let YamlKind::Map(others) = &source.kind else {
                complaints.push((source.place, "`<<` takes a map or a list of maps".to_owned()));
                continue;
            };
            for (key, value) in others.iter() {
                if seen.insert(key.text.clone()) {
                    entries.push((key.clone(), value.clone()));
                }
            }
        }
    }
    entries
}
