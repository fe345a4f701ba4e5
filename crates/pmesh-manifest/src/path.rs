//! Paths of the manifest, worked out without asking the disk.

use std::path::{Component, Path, PathBuf};

/// `text` as a path from `folder`, without `.` and `..`.
///
/// `..` takes away the name before it, whatever a link of that name leads to: the same manifest
/// has to mean the same when it is read out of a commit.
pub(crate) fn resolve(folder: &Path, text: &str) -> PathBuf {
    let mut resolved = PathBuf::new();
    for component in folder.join(text).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                resolved.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => resolved.push(component),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_taken_out() {
        for (text, path) in
            [(".", "/a/b"), ("./c/", "/a/b/c"), ("../c", "/a/c"), ("/x/./y", "/x/y"), ("../../../..", "/")]
        {
            assert_eq!(resolve(Path::new("/a/b"), text), Path::new(path), "{text}");
        }
    }
}
