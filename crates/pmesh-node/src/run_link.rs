//! Files that an app's build has made, as they are served: through the link `.run` of the app's folder.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

const RUN: &str = ".run";

/// Whether a folder is reached through such a link.
pub(crate) fn is_through(folder: &Path) -> bool {
    folder.components().any(|part| part == Component::Normal(RUN.as_ref()))
}

/// The same folder as the links lead to it now, wherever they lead later. Blocks for a system call for each `.run` in it.
pub(crate) fn pinned(folder: &Path) -> PathBuf {
    let mut pinned = PathBuf::new();
    for part in folder.components() {
        pinned.push(part);
        // A folder of that name is not ours, and no link.
        if part == Component::Normal(RUN.as_ref())
            && let Ok(target) = fs::read_link(&pinned)
        {
            pinned.pop();
            pinned.push(target);
        }
    }
    pinned
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_pinned_folder_stays_where_the_link_has_led() {
        let project = tempfile::tempdir().unwrap();
        let web = project.path().join("web");
        fs::create_dir(&web).unwrap();
        let run = web.join(RUN);
        let pages = run.join("public");
        assert_eq!(pinned(&pages), pages, "nothing was built yet");
        symlink(".build-1", &run).unwrap();
        assert_eq!(pinned(&pages), web.join(".build-1/public"));
        fs::remove_file(&run).unwrap();
        fs::create_dir(&run).unwrap();
        assert_eq!(pinned(&pages), pages, "a folder of somebody's own");
        assert!(is_through(&pages) && !is_through(&web.join("a.run")));
    }
}
