//! What has to be said where root serves what somebody else may write.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Whose the project is: its folder, its manifest and, if it has one, the top of its repository.
/// What cannot be looked at is nobody's here; whoever opens it says why.
pub(crate) fn owners(manifest: &Path, repository: Option<&Path>) -> Vec<(PathBuf, u32)> {
    let places = [repository, manifest.parent(), Some(manifest)];
    let look = |place: &Path| Some((place.to_owned(), place.metadata().ok()?.uid()));
    places.into_iter().flatten().filter_map(look).collect()
}

/// The warning for a server that runs as `server`, if one of its places is somebody else's.
///
/// Every service has the server's user, so whoever may write what they are is that user.
pub(crate) fn warning(server: u32, places: &[(PathBuf, u32)]) -> Option<String> {
    if server != 0 {
        return None;
    }
    let (place, owner) = places.iter().find(|(_, owner)| *owner != 0)?;
    Some(format!(
        "every build, service and command of this manifest runs as root, and {} belongs to user {owner}: whoever can \
         write there, or push to its branch, becomes root on this machine; run the server as that user",
        place.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_over_somebody_elses_tree_is_said_and_nothing_else() {
        let places = |owner| vec![(PathBuf::from("/srv/app"), owner), ("/srv/app/pm3.yml".into(), owner)];
        let said = warning(0, &places(1001)).unwrap();
        assert!(said.contains("as root") && said.contains("/srv/app belongs to user 1001"), "{said}");
        let only_the_file = [("/srv/app".into(), 0), (PathBuf::from("/srv/app/pm3.yml"), 1001)];
        assert!(warning(0, &only_the_file).unwrap().contains("pm3.yml"));
        for (server, owner) in [(0, 0), (1001, 1001), (1001, 1002), (1001, 0)] {
            assert_eq!(warning(server, &places(owner)), None);
        }
    }

    #[test]
    fn the_places_are_those_that_decide_what_runs() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("pm3.yml");
        std::fs::write(&manifest, "").unwrap();
        let places: Vec<_> =
            owners(&manifest, Some(Path::new("/"))).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, [Path::new("/"), folder.path(), &manifest]);
    }
}
