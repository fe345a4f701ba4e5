//! What a build has made, by the content that it was made from.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::saved::{BadBytes, Saved, SavedReader, SavedWriter, saved};

/// The name of a build: a hash of everything that it is made from, in 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(pub(super) Arc<str>);

impl BuildId {
    /// Parses an id; `None` if the text is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_one = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_one.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Saved for BuildId {
    fn write(&self, to: &mut SavedWriter) {
        self.as_str().to_owned().write(to);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        Ok(Self(String::read(from)?.into()))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A finished build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    pub(super) id: BuildId,
    pub(super) folder: PathBuf,
    /// Which build's product the service's folder held in place when this build was finished.
    pub(super) held: Option<BuildId>,
}

saved!(struct Build { id, folder, held });

impl Build {
    /// A build that was made in place, whose id is this digit 16 times.
    #[cfg(test)]
    pub(crate) fn in_place(digit: &str) -> Self {
        let id = BuildId(digit.repeat(16).into());
        Self { folder: PathBuf::from(format!("/web/.build-{id}")), held: Some(id.clone()), id }
    }

    /// The same build, as if it had changed nothing else in the folder.
    #[cfg(test)]
    pub(crate) fn alone(self) -> Self {
        Self { held: None, ..self }
    }

    /// The hash of what it was made from.
    pub fn id(&self) -> &BuildId {
        &self.id
    }

    /// The folder of its product; absolute if the service's folder is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it needs what builds have made in the service's folder outside of [`folder`](Self::folder),
    /// such as `dist/` or `node_modules/`.
    pub fn is_in_place(&self) -> bool {
        self.held.is_some()
    }

    /// Resolves a word of a `run` command for an instance of this build: a path that begins with `.run/` is
    /// taken in this build's own folder, wherever the link `.run` leads later.
    pub(crate) fn resolve(&self, word: &str) -> OsString {
        match word.strip_prefix(".run/") {
            Some(rest) => self.folder.join(rest).into_os_string(),
            None => word.into(),
        }
    }
}
