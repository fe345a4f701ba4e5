//! What `/repo` shows, in every kind of repository that people have.

use pmesh_vcs::{Cancel, Vcs, VcsError};

use crate::site::Site;

/// What is expected, in git's own words.
struct Row {
    situation: &'static str,
    script: &'static str,
    /// The branch and a revision of the server that is its tip; none on an unborn branch.
    head: (&'static str, Option<&'static str>),
    remote: Option<(&'static str, &'static str)>,
    has_url: bool,
}

const MAIN: (&str, Option<&str>) = ("main", Some("HEAD"));

const ROWS: &[Row] = &[
    Row {
        situation: "a fresh clone",
        script: "",
        head: MAIN,
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "a commit that was pushed and not fetched is not seen",
        script: "cd pusher; git commit -q --allow-empty -m two; git push -q",
        head: MAIN,
        remote: Some(("origin/main", "HEAD")),
        has_url: true,
    },
    Row {
        situation: "a commit that was fetched by hand is",
        script: "cd pusher; git commit -q --allow-empty -m two; git push -q; git -C ../server fetch -q",
        head: MAIN,
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "packed refs",
        script: "cd server; git pack-refs --all; git gc -q",
        head: MAIN,
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "a branch with slashes, a hash and an umlaut",
        script: "cd server; git switch -q -c 'feat/ü#1'; git push -q origin HEAD",
        head: ("feat/ü#1", Some("HEAD")),
        remote: Some(("origin/feat/ü#1", "HEAD")),
        has_url: true,
    },
    Row {
        situation: "a local branch that is called like a remote one",
        script: "cd server; git switch -q -c origin/main; git commit -q --allow-empty -m local; \
                 git branch -q --set-upstream-to=refs/remotes/origin/main",
        head: ("origin/main", Some("refs/heads/origin/main")),
        remote: Some(("origin/main", "refs/remotes/origin/main")),
        has_url: true,
    },
    Row {
        situation: "a local branch that is called HEAD",
        script: "cd server; git update-ref refs/heads/HEAD HEAD; git symbolic-ref HEAD refs/heads/HEAD",
        head: ("HEAD", Some("refs/heads/HEAD")),
        remote: None,
        has_url: true,
    },
    Row {
        situation: "an upstream of another name",
        script: "cd server; git push -q origin HEAD:live; git branch -q -u origin/live; git commit -q --allow-empty -m x",
        head: MAIN,
        remote: Some(("origin/live", "HEAD^")),
        has_url: true,
    },
    Row {
        situation: "no upstream: the same name at origin, whatever other remotes there are",
        script: "cd server; git remote add backup ../elsewhere.git; git config --remove-section branch.main",
        head: MAIN,
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "the only remote is not called origin",
        script: "cd server; git remote rename origin upstream; git config --remove-section branch.main",
        head: MAIN,
        remote: Some(("upstream/main", "upstream/main")),
        has_url: true,
    },
    Row {
        situation: "several remotes, none called origin, no upstream",
        script: "cd server; git remote rename origin one; git remote add two ../x; git config --remove-section branch.main",
        head: MAIN,
        remote: None,
        has_url: false,
    },
    Row {
        situation: "a remote that has no such branch",
        script: "cd server; git switch -q -c mine",
        head: ("mine", Some("HEAD")),
        remote: None,
        has_url: true,
    },
    Row {
        situation: "no remote",
        script: "cd server; git remote remove origin",
        head: MAIN,
        remote: None,
        has_url: false,
    },
    Row {
        situation: "detached",
        script: "cd server; git checkout -q --detach",
        head: ("HEAD", Some("HEAD")),
        remote: None,
        has_url: false,
    },
    Row {
        situation: "a rebase in progress",
        script: "cd server; git commit -q --allow-empty -m mine; git rebase -q -i -x false HEAD^ >/dev/null 2>&1 || true",
        head: ("HEAD", Some("HEAD")),
        remote: None,
        has_url: false,
    },
    Row {
        situation: "an orphan branch without a commit",
        script: "cd server; git switch -q --orphan new",
        head: ("new", None),
        remote: None,
        has_url: true,
    },
    Row {
        situation: "a clone of an empty repository",
        script: "rm -rf server; git init -q --bare -b main empty.git; git clone -q file://$PWD/empty.git server 2>/dev/null",
        head: ("main", None),
        remote: None,
        has_url: true,
    },
    Row {
        situation: "a shallow clone",
        script: "cd pusher; git commit -q --allow-empty -m two; git push -q; cd ..; rm -rf server; \
                 git clone -q --depth 1 file://$PWD/remote.git server",
        head: MAIN,
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "a partial clone",
        script: "rm -rf server; git -C remote.git config uploadpack.allowFilter true; \
                 git clone -q --filter=blob:none file://$PWD/remote.git server",
        head: MAIN,
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "a clone of one branch, with another one checked out",
        script: "git -C pusher push -q origin HEAD:dev; rm -rf server; \
                 git clone -q --single-branch file://$PWD/remote.git server; cd server; git switch -q -c dev; \
                 git fetch -q origin +refs/heads/dev:refs/remotes/origin/dev",
        head: ("dev", Some("HEAD")),
        remote: Some(("origin/dev", "refs/remotes/origin/dev")),
        has_url: true,
    },
    Row {
        situation: "a linked work tree",
        script: "git clone -q file://$PWD/remote.git bare-like; rm -rf server; cd bare-like; git worktree add -q -b live ../server; \
                 git branch -q live -u origin/main; git commit -q --allow-empty -m other",
        head: ("live", Some("live")),
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "a submodule",
        script: "rm -rf server; git init -q parent; cd parent; \
                 git -c protocol.file.allow=always submodule --quiet add file://$PWD/../remote.git sub; \
                 cd ..; ln -s parent/sub server",
        head: MAIN,
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "alternates, a sparse checkout and an index of version 4",
        script: "rm -rf server; git clone -q --shared pusher server; cd server; git sparse-checkout set none; \
                 git update-index --index-version 4",
        head: MAIN,
        remote: Some(("origin/main", "origin/main")),
        has_url: true,
    },
    Row {
        situation: "a remote head that is kept elsewhere",
        script: "cd server; git config remote.origin.fetch '+refs/heads/*:refs/remotes/mirror/*'; git fetch -q; \
                 git update-ref -d refs/remotes/origin/main",
        head: MAIN,
        remote: Some(("mirror/main", "mirror/main")),
        has_url: true,
    },
    Row {
        situation: "a commit by hand",
        script: "cd server; git commit -q --allow-empty -m mine",
        head: MAIN,
        remote: Some(("origin/main", "HEAD^")),
        has_url: true,
    },
];

#[test]
fn head_and_remote_head_are_what_a_user_of_git_would_say() {
    for row in ROWS {
        let site = Site::after(row.script);
        let repo = site.server();
        for _ in 0..2 {
            let context = row.situation;
            let head = repo.head().expect(context);
            assert_eq!(head.branch.as_str(), row.head.0, "{context}");
            assert_eq!(head.commit, row.head.1.map(|rev| site.commit("server", rev)), "{context}");

            let remote = repo.remote_head().expect(context);
            let expected =
                row.remote.map(|(branch, rev)| (branch.to_owned(), Some(site.commit("server", rev))));
            let found = remote.map(|remote| (remote.branch.to_string(), remote.commit));
            assert_eq!(found, expected, "{context}");

            let heads = repo.heads(&Cancel::new()).expect(context);
            assert_eq!(heads.head, repo.head().expect(context), "{context}");
            assert_eq!(heads.remote_head, repo.remote_head().expect(context), "{context}");
            assert_eq!(heads.remote_url.is_some(), row.has_url, "{context}");
        }
    }
}

#[test]
fn a_sha256_repository_has_ids_of_64_digits() {
    let site = Site::empty();
    site.run(
        "git init -q --object-format=sha256 -b main server; cd server; git commit -q --allow-empty -m one",
    );
    let head = site.server().head().unwrap();
    assert_eq!(head.commit, Some(site.commit("server", "HEAD")));
    assert_eq!(head.commit.unwrap().as_str().len(), 64);
}

#[test]
fn author_and_message_are_those_of_the_commit_in_any_encoding() {
    for (situation, script, author, message) in [
        ("plain", "git commit -q --allow-empty -m two", "Ada <ada@example.org>", "two"),
        (
            "a body and blank lines",
            "printf 'subject\\n\\nbody \\n\\n\\n' | git commit -q --allow-empty --cleanup=verbatim -F -",
            "Ada <ada@example.org>",
            "subject\n\nbody ",
        ),
        (
            "no message",
            "git commit -q --allow-empty --allow-empty-message -m ''",
            "Ada <ada@example.org>",
            "",
        ),
        (
            "quotes, angle brackets and a line separator",
            "git commit -q --allow-empty -m '\"<b>&\u{2028}x'",
            "Ada <ada@example.org>",
            "\"<b>&\u{2028}x",
        ),
        (
            "UTF-8",
            "GIT_AUTHOR_NAME='Jörg 🦀' git commit -q --allow-empty -m grün",
            "Jörg 🦀 <ada@example.org>",
            "grün",
        ),
        (
            "Latin-1 that says so",
            "git config i18n.commitEncoding ISO-8859-1; GIT_AUTHOR_NAME=$(printf 'J\\366rg') \
             git commit -q --allow-empty -m \"$(printf 'gr\\374n')\"",
            "J\u{fffd}rg <ada@example.org>",
            "gr\u{fffd}n",
        ),
        (
            "another author than the committer",
            "git commit -q --allow-empty -m x --author='Bob B <bob@example.org>'",
            "Bob B <bob@example.org>",
            "x",
        ),
        (
            "an author who is malformed",
            "git commit -q --allow-empty -m x; commit=$(git cat-file commit HEAD | sed 's/^author .*/author nobody/' | \
             git hash-object -t commit -w --stdin --literally); git update-ref HEAD $commit",
            "nobody",
            "x",
        ),
        (
            "a signature in the header",
            "git commit -q --allow-empty -m x; commit=$(git cat-file commit HEAD | \
             sed 's/^committer .*/&\\ngpgsig -----BEGIN\\n author Eve <eve@example.org>\\n  -----END/' | \
             git hash-object -t commit -w --stdin); git update-ref HEAD $commit",
            "Ada <ada@example.org>",
            "x",
        ),
    ] {
        let site = Site::after(&format!("cd server; {script}; git push -q"));
        let repo = site.server();
        let head = repo.head().expect(situation);
        assert_eq!((&*head.author, &*head.message), (author, message), "{situation}");
        let remote = repo.remote_head().expect(situation).expect(situation);
        assert_eq!((&*remote.author, &*remote.message), (author, message), "{situation}, remote");
    }
}

#[test]
fn the_url_is_the_configured_one_without_credentials() {
    for (configured, shown) in [
        ("https://bot:t0ken@example.org/app.git", "https://example.org/app.git"),
        ("https://t0ken@example.org/app.git", "https://example.org/app.git"),
        ("git@example.org:team/app.git", "git@example.org:team/app.git"),
        ("ssh://git:t0ken@example.org/app.git", "ssh://git@example.org/app.git"),
        ("../remote.git", "../remote.git"),
    ] {
        let script = format!(
            "cd server; git remote set-url origin '{configured}'; git remote set-url --push origin https://push@x/; \
             git config url.https://t0ken@other/.insteadOf https://example.org/"
        );
        let site = Site::after(&script);
        assert_eq!(site.server().heads(&Cancel::new()).unwrap().remote_url.as_deref(), Some(shown));
    }
}

#[test]
fn a_repository_that_is_damaged_or_gone_says_so() {
    let site = Site::new();
    let repo = site.server();
    site.run("cd server; mv .git/objects .git/away; mkdir .git/objects");
    assert!(matches!(repo.head(), Err(VcsError::Damaged { .. })));
    assert!(matches!(repo.remote_head(), Err(VcsError::Damaged { .. })));
    site.run(
        "cd server; rm -rf .git/objects; mv .git/away .git/objects; echo rubbish > .git/refs/heads/main",
    );
    assert!(matches!(repo.head(), Err(VcsError::Damaged { .. })));
    site.run("cd server; rm .git/HEAD");
    assert!(matches!(repo.head(), Err(VcsError::Damaged { .. })));
    site.run("rm -rf server/.git; git init -q .");
    assert!(matches!(repo.head(), Err(VcsError::NotFound(_))), "the one above is not ours");
    assert!(matches!(repo.work_tree(&Cancel::new()), Err(VcsError::NotFound(_))));
}
