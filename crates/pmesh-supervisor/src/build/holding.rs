//! Whose product a service's folder holds in place. A plain type.
//!
//! What a build makes outside of its own `.build-<id>/` (`dist/`, `node_modules/`, `.venv/`) is there once for
//! all builds. So a build is as good as new only while the folder holds what it held when the build ended.

use super::product::BuildId;

/// What a service's folder holds in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Nothing that a build has made.
    Nothing,
    /// What the build of this id has made.
    Of(BuildId),
    /// What a build has begun to make: nobody's product.
    Unfinished,
}

impl Holding {
    const UNFINISHED: &str = "unfinished";

    /// As it is written down; none where nothing is.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Of(id) => Some(format!("{id}\n")),
            Self::Unfinished => Some(format!("{}\n", Self::UNFINISHED)),
        }
    }

    /// What was written down. Text that is nothing of ours claims nothing.
    pub(super) fn parse(text: &str) -> Self {
        BuildId::parse(text.trim()).map_or(Self::Unfinished, Self::Of)
    }

    /// What the folder holds after the build `id` has ended well; `touched`: it has changed something there.
    ///
    /// What others had begun is its own as well, if it was content with that.
    pub(super) fn after_success(self, id: &BuildId, touched: bool) -> Self {
        if touched || self == Self::Unfinished { Self::Of(id.clone()) } else { self }
    }

    /// What it holds after a build has failed.
    pub(super) fn after_failure(self, touched: bool) -> Self {
        if touched { Self::Unfinished } else { self }
    }

    /// What a build has to remember of the folder that it ended in; none: it needs nothing there.
    pub(super) fn remembered(&self) -> Option<BuildId> {
        match self {
            Self::Of(id) => Some(id.clone()),
            Self::Nothing | Self::Unfinished => None,
        }
    }

    /// Whether a build that has this remembered is as good as new in this folder.
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
