//! A remote that sends us elsewhere, and what it learns and reaches by that.

use std::{io::ErrorKind, net::TcpListener, time::Duration};

use pmesh_vcs::{Cancel, Fetched, Vcs, VcsError};

use crate::{
    site::Site,
    web::{Answer, Web},
};

fn fetch(site: &Site) -> Result<Fetched, VcsError> {
    site.server().fetch(Duration::from_mins(1), &Cancel::new())
}

/// A site whose server follows `url`, and something new on its remote.
fn following(url: &str) -> Site {
    let site = Site::new();
    site.push(":");
    site.run(&format!("git -C server remote set-url origin '{url}'"));
    site
}

fn refused(site: &Site) -> String {
    match fetch(site) {
        Err(VcsError::Fetch { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

/// A listener of this machine that nobody is to ask.
struct Sentinel(TcpListener);

impl Sentinel {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.local_addr().unwrap())
    }

    fn was_asked(&self) -> bool {
        !matches!(self.0.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

#[test]
fn a_remote_cannot_make_us_ask_another_listener_of_this_machine() {
    for status in [301, 302, 303, 307, 308] {
        for path in ["/service/stop?wait=false", "/service/stop/info/refs?service=git-upload-pack"] {
            let sentinel = Sentinel::new();
            let target = sentinel.url(path);
            let shown = target.replace("=false", "=***").replace("=git-upload-pack", "=***");
            let web = Web::serve("/nowhere".into(), move |_| Answer::redirect(status, target.clone()));
            let site = following(&web.url("/any/remote.git"));
            // Not even where the user lets git follow everything from there.
            site.run(&format!(
                "git -C server config http.followRedirects true; git -C server config http.{}.followRedirects true",
                web.url("/any/remote.git")
            ));
            let message = refused(&site);
            assert!(message.contains(&shown), "{message}");
            assert!(message.contains("git remote set-url origin"), "{message}");
            assert!(!sentinel.was_asked(), "{status} {path}");
            assert_eq!(web.asked().len(), 2, "once to fetch and once for the location");
        }
    }
}

#[test]
fn a_repository_that_has_moved_on_its_host_is_fetched_and_its_place_is_named() {
    for status in [301, 302, 307, 308] {
        let site = Site::new();
        let pushed = site.push(":");
        let web = Web::serve(site.path(""), move |asked| match asked.path.strip_prefix("/old/") {
            Some(rest) => Answer::redirect(status, format!("/new/{rest}")),
            None => Answer::for_password(asked, "bot:s3cret@wo/rd"),
        });
        let old = web.url("/old/remote.git").replacen("//", "//bot:s3cret%40wo%2Frd@", 1);
        site.run(&format!("git -C server remote set-url origin '{old}'"));
        let moved = fetch(&site).unwrap().moved_to.expect("it has moved");
        assert_eq!(moved.url, web.url("/new/remote.git"));
        assert_eq!(moved.command, format!("git remote set-url origin {}", web.url("/new/remote.git")));
        assert_eq!(site.server().remote_head().unwrap().unwrap().commit, Some(pushed));
        assert_eq!(site.run("git -C server config remote.origin.url"), old, "the user's configuration stays");
    }
}

#[test]
fn a_redirect_of_the_second_request_is_followed_as_well() {
    let site = Site::new();
    let pushed = site.push(":");
    let web = Web::serve(site.path(""), move |asked| match asked.path.strip_prefix("/old/") {
        Some(rest) if asked.method == "POST" => Answer::redirect(307, format!("/new/{rest}")),
        _ => Answer::Git,
    });
    site.run(&format!("git -C server remote set-url origin '{}'", web.url("/old/remote.git")));
    assert_eq!(fetch(&site).unwrap().moved_to.unwrap().url, web.url("/new/remote.git"));
    assert_eq!(site.server().remote_head().unwrap().unwrap().commit, Some(pushed));
}

#[test]
fn a_remote_that_sends_us_on_and_on_is_left() {
    let web = Web::serve("/nowhere".into(), |asked| {
        let path = asked.path.replacen("/any/", "/any/x/", 1);
        Answer::redirect(301, path)
    });
    let site = following(&web.url("/any/remote.git"));
    let message = refused(&site);
    assert!(message.contains(&web.url("/any/x/remote.git")), "{message}");
    assert_eq!(web.asked().len(), 3);
}

#[test]
fn what_a_remote_without_git_names_as_its_alternates_is_not_asked() {
    let sentinel = Sentinel::new();
    let alternates = sentinel.url("/service/objects\n");
    let web = Web::serve("/nowhere".into(), move |asked| {
        let body = match asked.path.split('?').next().unwrap_or_default() {
            path if path.ends_with("/info/refs") => format!("{}\trefs/heads/main\n", "1".repeat(40)),
            path if path.ends_with("/HEAD") => "ref: refs/heads/main\n".to_owned(),
            path if path.ends_with("/info/http-alternates") => alternates.clone(),
            _ => return Answer::Status(404, Vec::new(), String::new()),
        };
        Answer::Status(200, vec![("Content-Type", "text/plain".into())], body)
    });
    let site = following(&web.url("/any/remote.git"));
    site.run("git -C server config http.followRedirects true");
    refused(&site);
    assert!(web.asked().iter().any(|asked| asked.ends_with("http-alternates")), "{:?}", web.asked());
    assert!(!sentinel.was_asked());
}

#[test]
fn a_url_of_another_transport_is_no_redirect() {
    for target in ["ext::sh -c 'touch /tmp/x'", "file:///etc/info/refs", "ssh://-oProxyCommand=x/y/info/refs"]
    {
        let web = Web::serve("/nowhere".into(), move |_| Answer::redirect(301, target));
        let message = refused(&following(&web.url("/any/remote.git")));
        assert!(message.contains("which is no URL of HTTP"), "{message}");
    }
}
