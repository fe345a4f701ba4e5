//! A remote that speaks HTTP, and does what a test says.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

/// What was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
pub(crate) enum Answer {
    /// What git answers for the repository, which is at the path after its first part: `/any/remote.git`.
    Git,
    /// As [`Git`](Self::Git), by a git that knows the first version of the protocol only.
    OldGit,
    /// A status with fields and a body.
    Status(u16, Vec<(&'static str, String)>, String),
}

impl Answer {
    pub(crate) fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::Status(status, vec![("Location", location.into())], String::new())
    }

    /// Git for who has the right password, `401` for others.
    pub(crate) fn for_password(asked: &Asked, user_and_password: &str) -> Self {
        if asked.header("authorization") == Some(&format!("Basic {}", base64(user_and_password.as_bytes()))) {
            return Self::Git;
        }
        Self::Status(401, vec![("WWW-Authenticate", "Basic realm=\"git\"".into())], String::new())
    }
}

/// A server for as long as the process runs.
pub(crate) struct Web {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    /// Answers for the repositories in `folder` as `answer` says.
    pub(crate) fn serve(folder: PathBuf, answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Self { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let (log, answer) = (Arc::clone(&web.asked), Arc::new(answer));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (folder, log, answer) = (folder.clone(), Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let connection = connection.unwrap();
                    let mut reader = BufReader::new(connection.try_clone().unwrap());
                    while let Some(asked) = read(&mut reader) {
                        log.lock().unwrap().push(asked.clone());
                        write(&connection, &asked, answer(&asked), &folder);
                    }
                });
            }
        });
        web
    }

    /// What was asked so far, such as `GET /x/remote.git/info/refs`.
    pub(crate) fn asked(&self) -> Vec<String> {
        let log = self.asked.lock().unwrap();
        log.iter()
            .map(|asked| format!("{} {}", asked.method, asked.path.split('?').next().unwrap_or_default()))
            .collect()
    }

    /// A header of all requests so far.
    pub(crate) fn headers(&self, name: &str) -> Vec<Option<String>> {
        self.asked.lock().unwrap().iter().map(|asked| asked.header(name).map(str::to_owned)).collect()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
    Some(line.trim_end().to_owned())
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let first = line(reader)?;
    let mut words = first.split(' ');
    let mut asked =
        Asked { method: words.next()?.to_owned(), path: words.next()?.to_owned(), ..Asked::default() };
    while let Some(header) = line(reader).filter(|header| !header.is_empty()) {
        let (name, value) = header.split_once(':')?;
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if let Some(length) = asked.header("content-length") {
        asked.body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut asked.body).unwrap();
    } else if asked.header("transfer-encoding").is_some() {
        loop {
            let mut chunk = vec![0; usize::from_str_radix(&line(reader)?, 16).unwrap()];
            reader.read_exact(&mut chunk).unwrap();
            line(reader);
            if chunk.is_empty() {
                break;
            }
            asked.body.extend(chunk);
        }
    }
    Some(asked)
}

fn write(mut connection: &TcpStream, asked: &Asked, answer: Answer, folder: &Path) {
    let (status, fields, body) = match answer {
        Answer::Git => backend(asked, folder, asked.header("git-protocol").unwrap_or_default()),
        Answer::OldGit => backend(asked, folder, ""),
        Answer::Status(status, fields, body) => {
            let fields = fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
            (status, fields, body.into_bytes())
        }
    };
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for field in fields {
        head += &format!("{field}\r\n");
    }
    // Who asked may have gone.
    let _gone =
        connection.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| connection.write_all(&body));
}

/// git-http-backend(1), by CGI (RFC 3875).
fn backend(asked: &Asked, folder: &Path, protocol: &str) -> (u16, Vec<String>, Vec<u8>) {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let inside = path[1..].find('/').map_or("", |at| &path[1 + at..]);
    let mut git = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .envs([("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")])
        .env("GIT_PROTOCOL", protocol)
        .env("PATH_INFO", inside)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", &asked.method)
        .env("CONTENT_TYPE", asked.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", asked.header("content-encoding").unwrap_or_default())
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(&asked.body).unwrap();
    let output = git.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let mut status = 200;
    let mut fields = Vec::new();
    for field in head.lines() {
        match field.strip_prefix("Status: ") {
            Some(value) => status = value[..3].parse().unwrap(),
            None => fields.push(field.to_owned()),
        }
    }
    (status, fields, output.get(end + 4..).unwrap_or_default().to_vec())
}

/// RFC 4648, 4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0_u32, |number, &byte| number << 8 | u32::from(byte));
        let number = number << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = usize::try_from(number >> (18 - 6 * place) & 63).unwrap();
            text.push(if place <= three.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    text
}
