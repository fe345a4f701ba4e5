//! What a remote says, and what is said to it: nobody else sees a secret, and no terminal acts on a word.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::mpsc,
};

use crate::harness::{Project, Server, git, pmesh};

/// A remote that answers each request with this, and tells of the request once somebody has looked at what goes on meanwhile.
fn remote(answer: String) -> (u16, mpsc::Receiver<mpsc::Sender<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let head = BufReader::new(connection.try_clone().unwrap()).lines();
            head.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let (go_on, looked) = mpsc::channel();
            // Without a listener nobody looks.
            if asked.send(go_on).is_ok() {
                looked.recv().unwrap_or_default();
            }
            // Who asked may have gone.
            connection.write_all(answer.as_bytes()).unwrap_or_default();
        }
    });
    (port, requests)
}

/// The arguments and environments of all processes that have `secret` in them, but for our own.
fn showing(secret: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes
        .flat_map(|process| ["cmdline", "environ"].map(|file| process.join(file)))
        .filter_map(|file| {
            let text = String::from_utf8_lossy(&fs::read(&file).ok()?).replace('\0', " ");
            text.contains(secret).then(|| format!("{}: {text}", file.display()))
        })
        .collect()
}

#[test]
fn a_hostile_remote_learns_nothing_and_its_words_do_nothing() {
    let project = Project::new("services: {}\n");
    let secret = format!("s3cret{}pa7h", std::process::id());
    let body = format!("no \u{1b}[2J\u{9b}31m\u{202e} {secret}");
    let (port, requests) = remote(format!(
        "HTTP/1.1 403 X\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let url = format!("http://bot:{secret}@127.0.0.1:{port}/{secret}/app.git");
    git(&project.work, &["remote", "set-url", "origin", &url]);
    let server = Server::serve(&project);
    std::thread::scope(|scope| {
        let update = scope.spawn(|| server.call("POST", "/repo/update", &[], ""));
        let go_on = requests.recv().unwrap();
        assert_eq!(showing(&secret), [""; 0]);
        drop((go_on, requests));
        let (status, answer) = update.join().unwrap();
        assert_eq!((status, answer["code"].as_str()), (502, Some("fetch_failed")), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("\\u{1b}[2J\\u{9b}31m\\u{202e} ***"), "{answer}");
    });
    let printed = |arguments: &[&str]| {
        let output =
            pmesh().args(arguments).env("PMESH_URL", format!("http://{}", server.api)).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let shown = [
        server.log(),
        server.get("/operation").to_string(),
        server.get("/repo").to_string(),
        printed(&["repo"]),
        printed(&["repo", "--json"]),
        printed(&["status"]),
        printed(&["operations"]),
        printed(&["operations", "--json"]),
        printed(&["update"]),
        server.log(),
    ];
    for text in shown {
        assert!(!text.contains(&secret), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text:?}");
    }
    assert_eq!(server.get("/repo")["url"], format!("http://127.0.0.1:{port}/***/app.git"));
}

#[test]
fn the_words_of_whoever_pushes_cannot_steer_a_terminal() {
    let project = Project::new("services: {}\n");
    let words = "a\u{9b}2J\u{202e}b\u{1b}]0;x\u{7}";
    git(&project.work, &["-c", &format!("user.name={words}"), "commit", "-q", "--allow-empty", "-m", words]);
    git(&project.work, &["checkout", "-q", "-b", "x\u{9b}2J\u{202e}"]);
    let server = Server::serve(&project);
    let printed = |arguments: &[&str]| {
        let output =
            pmesh().args(arguments).env("PMESH_URL", format!("http://{}", server.api)).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for arguments in [&["repo"][..], &["status"], &["update"], &["repo", "--json"], &["status", "--json"]] {
        let text = printed(arguments);
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{7}']), "{arguments:?}: {text:?}");
    }
    assert_eq!(server.get("/repo")["ref"]["message"], words, "JSON has it as it is");
}
