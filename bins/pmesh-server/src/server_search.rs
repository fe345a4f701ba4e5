//! Which server a command is for: never somebody else's.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use pmesh_api::{
    Token,
    client::{Client, ClientError, Endpoint},
};
use pmesh_manifest::FILE_NAMES;
use pmesh_node::in_one_line;

use crate::{call::is_no_server, place};

/// What the server is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchPurpose {
    /// To be told something.
    Read,
    /// To change something.
    Act,
}

/// The project that a command is given in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    /// Its manifest; two where a folder has both names, because either may be the one that is served.
    manifests: Vec<PathBuf>,
    /// Where its server's socket is if it has one and nobody moved it.
    socket: PathBuf,
}

impl Here {
    /// The project with a manifest in `folder` or above it, in the nearest folder that has one.
    pub(crate) fn find(folder: &Path) -> Option<Self> {
        let found = folder.ancestors().find_map(|folder| {
            let files = FILE_NAMES.map(|name| folder.join(name));
            let files: Vec<PathBuf> = files.into_iter().filter(|file| file.is_file()).collect();
            (!files.is_empty()).then_some(files)
        })?;
        let named = place::socket_path(&place::state_folder(&found[0]));
        // A server may have been given the path without the links that led here.
        let plain = place::socket_path(&place::state_folder_without_links(&found[0]));
        let is_plain = !place::is_trusted_socket(&named) && place::is_trusted_socket(&plain);
        let socket = if is_plain { plain } else { named };
        let manifests = found.into_iter().map(|file| file.canonicalize().unwrap_or(file)).collect();
        Some(Self { manifests, socket })
    }

    fn manifest(&self) -> &Path {
        &self.manifests[0]
    }
}

/// Where to look for a server.
#[derive(Debug)]
pub(crate) struct Search {
    /// What `--url` or `PMESH_URL` say: nothing else counts then.
    pub(crate) url: Option<Endpoint>,
    /// The project that the command is given in, if it is in one.
    pub(crate) here: Option<Here>,
    /// Where any server may be.
    pub(crate) default: Endpoint,
}

/// A server that was found.
#[derive(Debug)]
pub(crate) struct FoundServer {
    /// A client of its API.
    pub(crate) client: Client,
    /// What the person should know about it.
    pub(crate) note: Option<String>,
}

/// No server that this command is for; what was tried, and why none of it is it.
#[derive(Debug, thiserror::Error)]
pub(crate) struct NoServer {
    tried: Vec<String>,
    here: bool,
}

impl std::fmt::Display for NoServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.here { "no server of this project; tried" } else { "no server; tried" })?;
        for tried in &self.tried {
            write!(f, "\n  {tried}")?;
        }
        let project = if self.here { "" } else { " PATH" };
        write!(f, "\nstart one with `pmesh-server run{project}`, or say where it is with --url")
    }
}

impl Search {
    /// Asks one place after the other whether a server is there; with a URL, whoever is there will do.
    ///
    /// # Errors
    ///
    /// [`NoServer`] with what was tried.
    pub(crate) async fn run(
        self,
        purpose: SearchPurpose,
        token: Option<Token>,
    ) -> Result<FoundServer, NoServer> {
        if let Some(url) = self.url {
            return Ok(FoundServer { client: Client::new(url, token), note: None });
        }
        // Nobody has named the others: whoever listens there must not learn the token.
        let client = |endpoint| Client::wary(endpoint, token.clone());
        let mut tried = Vec::new();
        if let Some(here) = &self.here {
            let of_whom =
                format!("unix:{} (the socket of {})", here.socket.display(), here.manifest().display());
            if place::is_trusted_socket(&here.socket) {
                let client = client(Endpoint::Unix(here.socket.clone()));
                match client.manifest().await {
                    Err(error) if is_nobody(&error) => tried.push(format!("{of_whom}: {}", cause(&error))),
                    // What else is wrong with it, the command itself will run into.
                    _ => return Ok(FoundServer { client, note: None }),
                }
            } else {
                tried.push(format!("{of_whom}: there is none"));
            }
        }
        let client = client(self.default);
        let endpoint = client.endpoint();
        match client.manifest().await {
            Err(error) if is_nobody(&error) => tried.push(format!("{endpoint}: {}", cause(&error))),
            asked => {
                let served = asked.unwrap_or_default();
                let here = self.here.as_ref().map(|here| here.manifests.as_slice());
                let mut about = format!("{endpoint} ");
                match &served {
                    Some(served) => write!(about, "serves {}", served.display()),
                    None => write!(about, "does not say which manifest it serves"),
                }
                .expect("writing to a string does not fail");
                match judge(purpose, here, served.as_deref()) {
                    Judgement::Meant => return Ok(FoundServer { client, note: None }),
                    Judgement::Another => {
                        let note = format!("{about}; no server of this project was found");
                        return Ok(FoundServer { client, note: Some(note) });
                    }
                    Judgement::NotToBeTouched => {
                        tried.push(format!("{about}; to act on it all the same, name it with --url"));
                    }
                }
            }
        }
        Err(NoServer { tried, here: self.here.is_some() })
    }
}

/// Whether nobody is there who could be a pmesh server.
fn is_nobody(error: &ClientError) -> bool {
    is_no_server(error) || matches!(error, ClientError::BrokenOff { .. } | ClientError::TooLarge { .. })
}

/// Why nobody is there, without the address.
fn cause(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { source, .. } => source.to_string(),
        other => in_one_line(other),
    }
}

/// Whether the server at the default address is the one that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    /// It is.
    Meant,
    /// It is not, but looking does no harm.
    Another,
    /// It may be somebody else's.
    NotToBeTouched,
}

/// Judges the server at the default address by the manifests `here` and by the one that it says it
/// serves.
fn judge(purpose: SearchPurpose, here: Option<&[PathBuf]>, served: Option<&Path>) -> Judgement {
    let Some(here) = here else { return Judgement::Meant };
    let is_ours = served.is_some_and(|served| {
        let served = served.canonicalize().unwrap_or_else(|_| served.to_owned());
        here.contains(&served)
    });
    match purpose {
        _ if is_ours => Judgement::Meant,
        SearchPurpose::Read => Judgement::Another,
        SearchPurpose::Act => Judgement::NotToBeTouched,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{SocketAddr, TcpListener},
        os::unix::net::UnixListener,
        path::{Path, PathBuf},
        thread,
    };

    use pmesh_api::client::Endpoint;

    use super::{Here, Judgement, NoServer, Search, SearchPurpose, judge};

    fn at(address: SocketAddr) -> Endpoint {
        Endpoint::Http { host: address.ip().to_string(), port: address.port() }
    }

    /// An address at which nobody listens.
    fn nobody() -> Endpoint {
        at(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n";

    /// Reads a request's head and answers it.
    fn answer(mut stream: impl std::io::Read + std::io::Write, answer: &str) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
    }

    /// A server that answers one request and says that it serves `manifest`.
    fn server_of(manifest: Option<&Path>) -> Endpoint {
        let header =
            manifest.map_or_else(String::new, |path| format!("Pmesh-Manifest: {}\r\n", path.display()));
        answering(format!("{HEAD}{header}\r\n\"web\""))
    }

    fn answering(text: String) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || answer(listener.accept().unwrap().0, &text));
        at(address)
    }

    struct Project {
        folder: tempfile::TempDir,
        here: Here,
    }

    /// A project whose server's socket is not there.
    fn project() -> Project {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pm3.yml"), "").unwrap();
        let mut here = Here::find(folder.path()).unwrap();
        here.socket = folder.path().join("api.sock");
        Project { folder, here }
    }

    fn found(search: Search, purpose: SearchPurpose) -> Result<(Endpoint, Option<String>), NoServer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(search.run(purpose, None))?;
        Ok((found.client.endpoint().clone(), found.note))
    }

    #[test]
    fn a_project_is_the_nearest_folder_above_that_has_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let inner = root.join("web/src");
        fs::create_dir_all(&inner).unwrap();
        fs::write(root.join("pm3.yaml"), "").unwrap();
        assert_eq!(Here::find(&inner).unwrap().manifests, [root.join("pm3.yaml")]);
        fs::write(root.join("pm3.yml"), "").unwrap();
        assert_eq!(Here::find(&inner).unwrap().manifests, [root.join("pm3.yml"), root.join("pm3.yaml")]);
        fs::write(root.join("web/pm3.yml"), "").unwrap();
        assert_eq!(Here::find(&inner).unwrap().manifests, [root.join("web/pm3.yml")]);
        assert_ne!(Here::find(&inner).unwrap().socket, Here::find(&root).unwrap().socket);
    }

    #[test]
    fn a_server_at_the_default_address_is_acted_on_only_if_it_serves_this_project_or_there_is_none() {
        use Judgement::{Another, Meant, NotToBeTouched};
        let here = [PathBuf::from("/srv/shop/pm3.yml")];
        let (ours, other) = (Some(Path::new("/srv/shop/pm3.yml")), Some(Path::new("/srv/blog/pm3.yml")));
        for (here, served, read, act) in [
            (None, None, Meant, Meant),
            (None, other, Meant, Meant),
            (Some(&here[..]), ours, Meant, Meant),
            (Some(&here[..]), other, Another, NotToBeTouched),
            (Some(&here[..]), None, Another, NotToBeTouched),
        ] {
            assert_eq!(judge(SearchPurpose::Read, here, served), read, "{here:?} {served:?}");
            assert_eq!(judge(SearchPurpose::Act, here, served), act, "{here:?} {served:?}");
        }
    }

    #[test]
    fn a_url_is_taken_as_it_is() {
        let url = nobody();
        let search = Search { url: Some(url.clone()), here: Some(project().here), default: nobody() };
        assert_eq!(found(search, SearchPurpose::Act).unwrap(), (url, None));
    }

    #[test]
    fn the_socket_of_the_project_comes_before_the_default_address() {
        let Project { folder, here } = project();
        let listener = UnixListener::bind(&here.socket).unwrap();
        thread::spawn(move || answer(listener.accept().unwrap().0, &format!("{HEAD}\r\n\"web\"")));
        let search = Search { url: None, here: Some(here), default: nobody() };
        assert_eq!(
            found(search, SearchPurpose::Act).unwrap(),
            (Endpoint::Unix(folder.path().join("api.sock")), None)
        );
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_passed_over() {
        let Project { folder: _folder, here } = project();
        drop(UnixListener::bind(&here.socket).unwrap());
        let default = server_of(Some(here.manifest()));
        let search = Search { url: None, here: Some(here), default: default.clone() };
        assert_eq!(found(search, SearchPurpose::Act).unwrap(), (default, None));
    }

    #[test]
    fn somebody_elses_server_is_looked_at_with_a_note_and_never_acted_on() {
        let Project { folder: _folder, here } = project();
        let search = |default| Search { url: None, here: Some(here.clone()), default };
        let other = Path::new("/srv/blog/pm3.yml");
        let (_, note) = found(search(server_of(Some(other))), SearchPurpose::Read).unwrap();
        assert!(note.unwrap().contains("serves /srv/blog/pm3.yml; no server of this project"));
        let refused = found(search(server_of(Some(other))), SearchPurpose::Act).unwrap_err().to_string();
        assert!(
            refused.contains("serves /srv/blog/pm3.yml; to act on it all the same, name it with --url"),
            "{refused}"
        );
        let silent = found(search(server_of(None)), SearchPurpose::Act).unwrap_err().to_string();
        assert!(silent.contains("does not say which manifest it serves"), "{silent}");
    }

    #[test]
    fn without_a_server_the_sentence_says_what_was_tried_and_how_to_start_one() {
        let Project { folder, here } = project();
        let default = nobody();
        let search = Search { url: None, here: Some(here), default: default.clone() };
        let text = found(search, SearchPurpose::Read).unwrap_err().to_string();
        for part in [
            &*folder.path().join("api.sock").to_string_lossy(),
            &default.to_string(),
            "refused",
            "`pmesh-server run`",
            "--url",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let nowhere = Search { url: None, here: None, default: nobody() };
        assert!(
            found(nowhere, SearchPurpose::Read).unwrap_err().to_string().contains("`pmesh-server run PATH`")
        );
    }

    #[test]
    fn what_does_not_speak_http_is_no_server() {
        let search =
            Search { url: None, here: None, default: answering("220 mail.example.org ESMTP\r\n".to_owned()) };
        found(search, SearchPurpose::Read).unwrap_err();
    }

    #[test]
    fn a_token_is_not_for_whoever_listens_at_the_default_address() {
        if !rustix::process::geteuid().is_root() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
            eprintln!("skipped: only root can have somebody else listen");
            return;
        }
        let script = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); \
            print(s.getsockname()[1], flush=True); s.accept()[0].recv(1000)";
        let mut stranger = std::process::Command::new("python3");
        std::os::unix::process::CommandExt::uid(&mut stranger, 54_321);
        let mut stranger =
            stranger.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut says = std::io::BufReader::new(stranger.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut says, &mut line).unwrap();
        let default = Endpoint::Http { host: "127.0.0.1".to_owned(), port: line.trim().parse().unwrap() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "0123456789abcdef").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let token = pmesh_api::Token::read(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let search = Search { url: None, here: None, default };
        let refused = runtime.block_on(search.run(SearchPurpose::Read, Some(token))).unwrap_err().to_string();
        assert!(refused.contains("user id 54321") && refused.contains("not shown the token"), "{refused}");
        stranger.wait().unwrap();
    }
}
