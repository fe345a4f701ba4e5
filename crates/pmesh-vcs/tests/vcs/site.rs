//! A remote, someone who pushes to it, and a server that follows it: three folders and real git.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use pmesh_vcs::{CommitId, git::GitRepo};
use tempfile::TempDir;

/// The folders `remote.git`, `pusher` and `server`; each has the commit `one` with `a.txt`.
pub(crate) struct Site {
    folder: TempDir,
}

const SETUP: &str = r#"
    git init -q --bare -b main remote.git
    git clone -q "file://$PWD/remote.git" pusher 2>/dev/null
    cd pusher
    git checkout -q -B main
    echo one > a.txt
    git add . && git commit -qm one && git push -q origin main
    cd ..
    git clone -q "file://$PWD/remote.git" server
"#;

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self::empty();
        site.run(SETUP);
        site
    }

    /// A folder with nothing in it.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    /// Whether the tests run as root, who alone can mount, and become somebody else. If not, it is said that a test is skipped; in
    /// CI nothing is skipped.
    pub(crate) fn is_of_root(&self) -> bool {
        let is_root = self.run("id -u") == "0";
        if !is_root {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "nothing is skipped in CI: only root can do this"
            );
            eprintln!("skipped: only root can do this");
        }
        is_root
    }

    /// A new site in which `script` has run.
    pub(crate) fn after(script: &str) -> Self {
        let site = Self::new();
        site.run(script);
        site
    }

    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }

    /// Runs a shell script in the folder of the site, and answers with what it printed.
    pub(crate) fn run(&self, script: &str) -> String {
        let mut shell = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") {
                shell.env_remove(name);
            }
        }
        let output = shell
            .args(["-ec", script])
            .current_dir(self.path(""))
            .env("HOME", self.path(""))
            .envs([
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_CONFIG_SYSTEM", "/dev/null"),
                ("GIT_AUTHOR_NAME", "Ada"),
                ("GIT_AUTHOR_EMAIL", "ada@example.org"),
                ("GIT_COMMITTER_NAME", "Ada"),
                ("GIT_COMMITTER_EMAIL", "ada@example.org"),
                ("GIT_AUTHOR_DATE", "1700000000 +0000"),
                ("GIT_COMMITTER_DATE", "1700000000 +0000"),
                ("GIT_EDITOR", "true"),
            ])
            .output()
            .expect("there is a shell");
        assert!(
            output.status.success(),
            "{script}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Whoever pushes changes files with `script`, commits all and pushes.
    pub(crate) fn push(&self, script: &str) -> CommitId {
        self.run(&format!(
            "cd pusher; {script}\n git add -A; git commit -q --allow-empty -m pushed; git push -q origin HEAD"
        ));
        self.commit("pusher", "HEAD")
    }

    pub(crate) fn commit(&self, folder: &str, revision: &str) -> CommitId {
        CommitId::new(&self.run(&format!("git -C {folder} rev-parse '{revision}^{{commit}}'"))).unwrap()
    }

    pub(crate) fn server(&self) -> GitRepo {
        GitRepo::discover(&self.path("server/pm3.yml")).expect("the server has a repository")
    }

    /// Every path below a folder but `.git`, with what is there: mode and content, or the target of a link.
    pub(crate) fn snapshot(&self, folder: &str) -> BTreeMap<PathBuf, String> {
        let top = self.path(folder);
        let mut found = BTreeMap::new();
        let mut to_visit = vec![top.clone()];
        while let Some(folder) = to_visit.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let kind = path.symlink_metadata().unwrap();
                let what = if path.ends_with(".git") {
                    continue;
                } else if kind.is_dir() {
                    to_visit.push(path.clone());
                    "folder".to_owned()
                } else if kind.is_symlink() {
                    format!("link to {}", fs::read_link(&path).unwrap().display())
                } else {
                    format!("{:o} {:?}", kind.permissions().mode() & 0o777, fs::read(&path).unwrap())
                };
                found.insert(path.strip_prefix(&top).unwrap().to_owned(), what);
            }
        }
        found
    }

    /// The lock files that are left in the server's repository.
    pub(crate) fn locks(&self) -> String {
        self.run("find server/.git -name '*.lock'")
    }
}
