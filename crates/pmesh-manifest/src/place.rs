//! Where in the text of a manifest something stands.

use granit_parser::Marker;

/// The largest manifest, in bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// A place in the file; both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    /// Where a mistake about the whole file is shown.
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    pub(crate) fn of(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}
