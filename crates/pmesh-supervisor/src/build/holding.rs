//! Which build's product a service's folder holds in place. A plain type.
//!
//! What a build makes outside of its own `.build-<id>/` (`dist/`, `node_modules/`, `.venv/`) exists only
//! once, for all builds together. So a build is usable only while the folder holds what it held when that
//! build ended.

use super::product::BuildId;

/// What a service's folder holds in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Nothing that was made by a build.
    Nothing,
    /// What the build of this id made.
    Of(BuildId),
    /// What an unfinished build has begun to make: no build can use it.
    Unfinished,
}

impl Holding {
    const UNFINISHED: &str = "unfinished";

    /// The content of the file that records this; `None` where there is no file.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Of(id) => Some(format!("{id}\n")),
            Self::Unfinished => Some(format!("{}\n", Self::UNFINISHED)),
        }
    }

    /// Reads what [`text`](Self::text) gives. Any other text counts as unfinished.
    pub(super) fn parse(text: &str) -> Self {
        BuildId::parse(text.trim()).map_or(Self::Unfinished, Self::Of)
    }

    /// What the folder holds after the build `id` has succeeded; `touched`: the build has changed something
    /// there.
    ///
    /// If the folder held an unfinished build and this build has changed nothing, the content still becomes
    /// this build's: it has succeeded with that content.
    pub(super) fn after_success(self, id: &BuildId, touched: bool) -> Self {
        if touched || self == Self::Unfinished { Self::Of(id.clone()) } else { self }
    }

    /// What the folder holds after a build has failed.
    pub(super) fn after_failure(self, touched: bool) -> Self {
        if touched { Self::Unfinished } else { self }
    }

    /// What a finished build records about the folder; `None`: it needs nothing there.
    pub(super) fn remembered(&self) -> Option<BuildId> {
        match self {
            Self::Of(id) => Some(id.clone()),
            Self::Nothing | Self::Unfinished => None,
        }
    }

    /// Whether a build that has recorded this is usable in this folder.
    pub(super) fn fits(&self, remembered: Option<&BuildId>) -> bool {
        match self {
            Self::Nothing => remembered.is_none(),
            Self::Of(id) => remembered == Some(id),
            Self::Unfinished => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BuildId, Holding};

    fn id(digit: &str) -> BuildId {
        BuildId::parse(&digit.repeat(16)).unwrap()
    }

    #[test]
    fn a_build_fits_the_folder_that_it_ended_in_and_no_other() {
        let (one, two) = (id("1"), id("2"));
        let states =
            [Holding::Nothing, Holding::Of(one.clone()), Holding::Of(two.clone()), Holding::Unfinished];
        for before in &states {
            for touched in [false, true] {
                let after = before.clone().after_success(&one, touched);
                assert!(after.fits(after.remembered().as_ref()), "{before:?}");
                assert!(!touched || after == Holding::Of(one.clone()));
                for other in states.iter().filter(|&other| *other != after) {
                    assert!(!other.fits(after.remembered().as_ref()), "{other:?} after {after:?}");
                }
            }
            assert_eq!(before.clone().after_failure(false), *before);
            let failed = before.clone().after_failure(true);
            assert!(![None, Some(&one), Some(&two)].into_iter().any(|with| failed.fits(with)));
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_torn_claims_nothing() {
        for holding in [Holding::Of(id("a")), Holding::Unfinished] {
            assert_eq!(Holding::parse(&holding.text().unwrap()), holding);
        }
        for torn in ["", "aaaa", "not an id\n", "AAAAAAAAAAAAAAAA"] {
            assert_eq!(Holding::parse(torn), Holding::Unfinished);
        }
    }
}
