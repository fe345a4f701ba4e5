//! Passwords and tokens of a remote's URL: who gets to see them.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use pmesh_vcs::{Cancel, Vcs, VcsError};

use crate::{
    site::Site,
    web::{Answer, Asked, Web, base64},
};

/// The processes that have `secret` in their arguments or environment (`proc(5)`).
fn showing(secret: &str) -> Vec<String> {
    let has = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap() {
        let folder = process.unwrap().path();
        for file in ["cmdline", "environ"] {
            // A process may have ended, and other files are there, too.
            let Ok(content) = fs::read(folder.join(file)) else { continue };
            if has(&content) {
                let shown = String::from_utf8_lossy(&content).replace('\0', " ");
                found.push(format!("{} {file}: {shown}", folder.display()));
            }
        }
    }
    found
}

/// A remote that looks at all processes while git waits for its answer; and what it has seen.
fn watching(
    site: &Site,
    secret: &str,
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (Web, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, secret) = (Arc::clone(&seen), secret.to_owned());
    let web = Web::serve(site.path(""), move |asked| {
        log.lock().unwrap().extend(showing(&secret));
        answer(asked)
    });
    (web, seen)
}

/// One that no other run of these tests has.
fn secret(name: &str) -> String {
    format!("{name}{}tOkEn", std::process::id())
}

#[test]
fn a_password_reaches_the_remote_and_stands_in_no_process() {
    for is_old in [false, true] {
        let site = Site::new();
        let pushed = site.push(":");
        let secret = secret("pass");
        let right = format!("bot:{secret}@/");
        let (web, seen) = watching(&site, &secret, move |asked| match Answer::for_password(asked, &right) {
            Answer::Git if is_old => Answer::OldGit,
            other => other,
        });
        let url = web.url("/any/remote.git").replacen("//", &format!("//bot:{secret}%40%2F@"), 1);
        site.run(&format!("git -C server remote set-url origin '{url}'"));
        // A helper of the user is neither asked nor told.
        site.run("git -C server config credential.helper '!f() { cat >> ../told; }; f'");
        site.server().fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
        assert_eq!(site.server().remote_head().unwrap().unwrap().commit, Some(pushed));
        assert_eq!(*seen.lock().unwrap(), [""; 0], "{:?}", web.asked());
        assert!(!site.path("told").exists());
    }
}

#[test]
fn a_token_in_the_place_of_the_user_name_needs_no_password() {
    let site = Site::new();
    let secret = secret("user");
    let right = format!("{secret}:");
    let (web, seen) = watching(&site, &secret, move |asked| Answer::for_password(asked, &right));
    let url = web.url("/any/remote.git").replacen("//", &format!("//{secret}@"), 1);
    site.run(&format!("git -C server remote set-url origin '{url}'"));
    site.server().fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
}

#[test]
fn the_password_for_a_user_name_in_the_url_comes_from_the_users_helper() {
    let site = Site::new();
    let web = Web::serve(site.path(""), |asked| Answer::for_password(asked, "deploy:from-helper"));
    let url = web.url("/any/remote.git").replacen("//", "//deploy@", 1);
    site.run(&format!("git -C server remote set-url origin '{url}'"));
    site.run(
        "git -C server config credential.helper \
         '!f() { test \"$1\" = get && grep -q ^username=deploy && echo password=from-helper; }; f'",
    );
    site.server().fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
    let right = format!("Basic {}", base64(b"deploy:from-helper"));
    assert!(web.headers("authorization").contains(&Some(right)));
}

#[test]
fn a_git_of_another_user_finds_what_is_for_it_alone() {
    let site = Site::new();
    if !site.is_of_root() {
        return;
    }
    let secret = secret("other");
    let right = format!("bot:{secret}");
    let (web, seen) = watching(&site, &secret, move |asked| Answer::for_password(asked, &right));
    let url = web.url("/any/remote.git").replacen("//", &format!("//bot:{secret}@"), 1);
    site.run(&format!(
        "git -C server remote set-url origin '{url}'; chmod 755 .; chown -R 65534:65534 server"
    ));
    site.server().fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
}

#[test]
fn a_wrong_password_is_an_error_without_it() {
    let site = Site::new();
    let secret = secret("wrong");
    let web = Web::serve(site.path(""), |asked| Answer::for_password(asked, "bot:right"));
    let url = web.url("/any/remote.git").replacen("//", &format!("//bot:{secret}@"), 1);
    site.run(&format!("git -C server remote set-url origin '{url}'"));
    let error = site.server().fetch(Duration::from_mins(1), &Cancel::new()).unwrap_err();
    assert!(
        matches!(&error, VcsError::Fetch { message, .. } if message.contains("Authentication failed")),
        "{error}"
    );
    assert!(!format!("{error:?}").contains(&secret), "{error:?}");
}

#[test]
fn a_token_in_the_path_reaches_the_remote_and_stands_in_no_process_and_no_answer() {
    let site = Site::new();
    let pushed = site.push(":");
    let secret = secret("path");
    let right = format!("bot:{secret}");
    let (web, seen) = watching(&site, &secret, move |asked| Answer::for_password(asked, &right));
    let url = web.url(&format!("/{secret}/remote.git")).replacen("//", &format!("//bot:{secret}@"), 1);
    site.run(&format!("git -C server remote set-url origin '{url}'"));
    site.server().fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
    let heads = site.server().heads(&Cancel::new()).unwrap();
    assert_eq!(heads.remote_head.unwrap().commit, Some(pushed));
    assert_eq!(heads.remote_url, Some(web.url("/***/remote.git")));
}

#[test]
fn what_a_remote_says_back_has_no_secret_of_ours_and_no_control_character() {
    let secret = secret("echo");
    let basic = base64(format!("bot:{secret}").as_bytes());
    for (configuration, path) in [
        (format!("http.extraHeader 'Authorization: Basic {basic}'"), "/any/remote.git".to_owned()),
        (format!("http.extraHeader 'X-Key: {secret}'"), "/any/remote.git".to_owned()),
        ("user.name x".to_owned(), format!("/{secret}/remote.git")),
        ("user.name x".to_owned(), format!("/any/remote.git?private_token={secret}")),
        ("user.name x".to_owned(), format!("/any/remote.git#{secret}")),
        ("http.emptyAuth false".to_owned(), format!("//bot:{secret}@/any/remote.git")),
    ] {
        let site = Site::new();
        let is_user = path.starts_with("//");
        let echoed = format!("no \u{1b}[31m\u{9b}2J\u{202e} {secret} for {path}");
        let (web, seen) = watching(&site, &secret, move |asked| match asked.header("authorization") {
            None if is_user => Answer::for_password(asked, "nobody:"),
            basic => Answer::Status(
                403,
                vec![("Content-Type", "text/plain; charset=utf-8".into())],
                format!("{echoed} {basic:?}"),
            ),
        });
        let url = match path.strip_prefix("//").and_then(|path| path.split_once('@')) {
            Some((user, path)) => web.url(path).replacen("//", &format!("//{user}@"), 1),
            None => web.url(&path),
        };
        site.run(&format!(
            "git -C server config {configuration}; git -C server remote set-url origin '{url}'"
        ));
        let error = site.server().fetch(Duration::from_mins(1), &Cancel::new()).unwrap_err();
        let VcsError::Fetch { url, message } = &error else { panic!("{error:?}") };
        for shown in [url, message, &error.to_string()] {
            assert!(!shown.contains(&secret) && !shown.contains(&basic), "{shown}");
            assert!(!shown.chars().any(pmesh_vcs::redact::is_unprintable), "{shown:?}");
        }
        assert!(message.contains("\\u{1b}[31m\\u{9b}2J\\u{202e}"), "{message}");
        assert_eq!(*seen.lock().unwrap(), [""; 0]);
    }
}

#[test]
fn what_a_partial_clone_lacks_is_brought_without_showing_who_asks() {
    let site = Site::new();
    site.run("git -C remote.git config uploadpack.allowFilter true; git -C remote.git config uploadpack.allowAnySHA1InWant true");
    let secret = secret("lazy");
    let right = format!("bot:{secret}");
    let (web, seen) = watching(&site, &secret, move |asked| Answer::for_password(asked, &right));
    let url = web.url("/any/remote.git").replacen("//", &format!("//bot:{secret}@"), 1);
    let to = site.push("echo two > a.txt; echo three > b.txt; echo 'services: {}' > pm3.yml");
    site.run(&format!(
        "git -C server remote set-url origin '{url}'; git -C server config remote.origin.promisor true; \
         git -C server config remote.origin.partialclonefilter blob:none; git -C server config core.repositoryformatversion 1; \
         git -C server config extensions.partialClone origin"
    ));
    let repo = site.server();
    repo.fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
    assert!(repo.file(&to, "pm3.yml".as_ref(), &Cancel::new()).unwrap().is_some());
    repo.check_out(&to, &Cancel::new()).unwrap();
    assert_eq!(site.run("cat server/b.txt"), "three");
    assert!(web.asked().len() > 6, "objects were brought: {:?}", web.asked());
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
}

#[test]
fn a_token_that_the_systems_configuration_puts_into_the_url_stands_in_no_process() {
    let site = Site::new();
    let secret = secret("system");
    let right = format!("bot:{secret}");
    let (web, seen) = watching(&site, &secret, move |asked| Answer::for_password(asked, &right));
    let base = web.url("/any/").replacen("//", &format!("//bot:{secret}@"), 1);
    // What only git knows: a file that a file of the configuration includes on a condition that gix does not have.
    site.run(&format!(
        "git config -f rewriting url.{base}.insteadOf company:; git -C server remote set-url origin company:remote.git; \
         git -C server config 'includeIf.hasconfig:remote.*.url:company:**.path' \"$PWD/rewriting\""
    ));
    site.server().fetch(Duration::from_mins(1), &Cancel::new()).unwrap();
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
}
