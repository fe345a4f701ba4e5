//! `run`: puts the parts together, and takes them apart again in the reverse order.

use std::{
    fmt, io,
    io::Write,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use futures_util::future::OptionFuture;
use http_body_util::BodyExt;
use pmesh_api::{Api, ApiSettings, KernelCallers, Token};
use pmesh_manifest::{Manifest, Unsupported};
use pmesh_node::{Node, NodeParts, Rebuild, RepositorySource, Request, StateError, StateFolder, in_one_line};
use pmesh_proxy::{
    ConnectionInfo, DescriptorBudget, Front, FrontLimits, LocalBody, LocalHandler, RequestBody, Tables,
};
use pmesh_sessions::{PeerSource, Peers, SessionLimits, Sessions, TrustedProxies};
use pmesh_supervisor::{CancelToken, LogFolder, LogLimits, NodeCgroups, NodeMark, OsSpawner, WorkThreads};
use pmesh_threads::NoThread;
use pmesh_vcs::VcsError;
use tokio::{
    net::UnixListener,
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, JoinHandle, JoinSet},
};
use tracing::{error, info, warn};

use crate::{
    arguments::RunArguments,
    bind::{self, BindError},
    exit_code::HELD,
    leftovers, log, notify,
    orphans::{self, Orphans},
    place,
    remains::{self, Remnant},
    repositories::GitRepositories,
    version::VERSION,
    work_tree_lock::WorkTreeError,
};

/// How long answers that are under way at the API may take at the server's end, after everything
/// else has ended: they are those of the operations that ended with it.
const API_GRACE: Duration = Duration::from_secs(2);

/// The same after a second signal.
const HURRIED_API_GRACE: Duration = Duration::from_millis(500);

/// How long after a second signal nothing more is waited for, whatever still stands still.
const HURRIED_LIMIT: Duration = Duration::from_secs(3);

/// What documents promise of a second signal.
const HURRIED_END: Duration = Duration::from_secs(5);

const _: () = {
    let longest =
        HURRIED_LIMIT.as_millis() + HURRIED_API_GRACE.as_millis() + remains::HURRIED_LIMIT.as_millis();
    assert!(longest < HURRIED_END.as_millis(), "a second signal must end the server in its time");
};

/// Why the server cannot start, or has ended by itself.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Manifest(#[from] pmesh_manifest::ReadError),
    #[error(transparent)]
    NotifyState(#[from] StateError),
    #[error(transparent)]
    WorkTree(#[from] WorkTreeError),
    #[error(transparent)]
    NoThread(#[from] NoThread),
    #[error(transparent)]
    Repository(#[from] VcsError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Token(#[from] pmesh_api::TokenError),
    #[error(
        "the API must not listen on {0}, which others can reach, without a token; give one with --api-token-file"
    )]
    OpenApi(SocketAddr),
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },
    #[error("the node's task ended early; every service was stopped")]
    Node(#[source] JoinError),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// Serves a manifest until a signal or the API ends it.
pub(crate) fn run(arguments: &RunArguments) -> ExitCode {
    log::start(arguments.log_format, arguments.log_level);
    match start(arguments) {
        Ok(held) if held.is_empty() => ExitCode::SUCCESS,
        Ok(held) => {
            for one in held {
                error!("no signal of this server ends it: {one}");
                crate::terminal::complain(&one.left());
            }
            ExitCode::from(HELD)
        }
        Err(error) => {
            crate::terminal::complain(&in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Everything that can fail before the first service starts, in the order in which it undoes itself. The answer is what the
/// server has to leave behind.
fn start(arguments: &RunArguments) -> Result<Vec<Remnant>, StartError> {
    let file = pmesh_manifest::find(arguments.path.as_deref().unwrap_or(Path::new(".")))?;
    let given = place::given(&file);
    let file = without_links(&file).map_err(system("find the manifest's folder"))?;
    let unsupported = if arguments.ignore_unsupported { Unsupported::Warn } else { Unsupported::Refuse };
    let manifest = pmesh_manifest::read(&file, unsupported)?;
    for warning in &manifest.warnings {
        warn!("{warning}");
    }
    let token = arguments.api_token_file.as_deref().map(Token::read).transpose()?;
    let state = match &arguments.state_dir {
        Some(named) => StateFolder::open(named)?,
        None => StateFolder::open_default(&place::state_folder(&given))?,
    };
    let descriptors = descriptors();
    orphans::adopt().map_err(system("take in the orphans of services"))?;

    let front = bind::all(&arguments.http, "front")?;
    let api = bind::all(&arguments.api, "API")?;
    if token.is_none()
        && let Some(open) = api.iter().find(|listener| !listener.address.ip().to_canonical().is_loopback())
    {
        return Err(StartError::OpenApi(open.address));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(system("start threads"))?;
    let socket = if arguments.no_socket {
        None
    } else {
        let path = place::socket_path(state.path());
        let _in_runtime = runtime.enter();
        let socket = bind::unix(&path)?;
        Some((path, socket))
    };
    let mark = NodeMark::new(state.node_id());
    let cgroups = NodeCgroups::open(mark.as_str())
        .inspect_err(
            |why| info!(%why, "no control groups: processes are known by session, descent and a mark"),
        )
        .ok();
    leftovers::end(&mark, cgroups.as_ref())
        .map_err(system("look for what a server before has left running"))?;
    let threads = WorkThreads::start()?;
    let logs = {
        LogFolder::open(&state.logs(), LogLimits::default(), &threads)
            .map_err(system("open the log folder"))?
    };
    let state_path = state.path().to_owned();
    let parts = Parts {
        given,
        file,
        manifest,
        unsupported,
        token,
        front,
        api,
        socket,
        logs,
        threads,
        state: state_path,
        mark,
        cgroups,
        descriptors,
    };
    let served = serve(&runtime, arguments, parts);
    // What blocking threads still do (a look-up of a name, say) is nobody's any more.
    runtime.shutdown_background();
    // Also where it could not go on: nothing of it does without it.
    let mut held = remains::end(!matches!(served, Ok(ServerEnd::AsAsked)));
    let end = served?;
    held.extend(remains::threads(end == ServerEnd::Forced));
    drop(state);
    Ok(held)
}

/// How the server has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerEnd {
    AsAsked,
    /// A second signal has cut it short.
    Hurried,
    /// Not everything had ended when the time of the second signal was over.
    Forced,
}

/// The manifest's file in its folder as the repository knows it: absolute, without links and `..`. What
/// the file itself may be a link to is the repository's affair.
fn without_links(file: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(file)?;
    Ok(match (absolute.parent(), absolute.file_name()) {
        (Some(folder), Some(name)) => folder.canonicalize()?.join(name),
        _ => absolute,
    })
}

/// The descriptors that the process may have: the soft limit becomes the hard one, because each client and each
/// instance takes some.
fn descriptors() -> DescriptorBudget {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        warn!(%error, "the limit of open descriptors stays as it is");
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) => DescriptorBudget::new(limit),
        None => DescriptorBudget::unlimited(),
    }
}

struct Parts {
    /// The manifest's file by the path that was given: a reload follows its links anew.
    given: PathBuf,
    file: PathBuf,
    manifest: Manifest,
    unsupported: Unsupported,
    token: Option<Token>,
    front: Vec<bind::BoundListener>,
    api: Vec<bind::BoundListener>,
    socket: Option<(PathBuf, UnixListener)>,
    logs: LogFolder,
    threads: WorkThreads,
    /// Where the state folder is.
    state: PathBuf,
    mark: NodeMark,
    cgroups: Option<NodeCgroups>,
    descriptors: DescriptorBudget,
}

fn serve(runtime: &Runtime, arguments: &RunArguments, parts: Parts) -> Result<ServerEnd, StartError> {
    let trusted = if arguments.trusted_proxy.is_empty() {
        TrustedProxies::default()
    } else {
        let networks = arguments.trusted_proxy.iter().map(String::as_str);
        TrustedProxies::parse(networks).expect("the arguments were parsed by the same rules")
    };
    let sessions = Arc::new(Sessions::new(&SessionLimits::default()));
    let tables = Tables::within(parts.descriptors.clone(), sessions, trusted);
    let (node, driver) = {
        let _in_runtime = runtime.enter();
        let vcs = GitRepositories.find(&parts.file)?;
        let hold = GitRepositories::take_if(parts.manifest.repo.update, vcs.as_deref())?;
        let mut of_node = NodeParts::new(parts.file, parts.manifest, parts.logs, parts.threads.clone())?;
        of_node.given = parts.given;
        let spawner = OsSpawner::new(parts.threads.proc.clone()).marked(parts.mark);
        of_node.spawner = Arc::new(spawner.contained(parts.cgroups));
        of_node.vcs = vcs;
        of_node.hold = hold;
        of_node.repositories = Arc::new(GitRepositories);
        of_node.unsupported = parts.unsupported;
        of_node.supervisor.state = Some(parts.state);
        of_node.tables = tables.clone();
        Node::new(of_node)
    };
    let settings = ApiSettings::default().with(|settings| {
        VERSION.clone_into(&mut settings.version);
        settings.host_names.clone_from(&arguments.api_host);
        settings.token = parts.token;
        settings.open = arguments.api_open;
        settings.callers =
            Some(Arc::new(KernelCallers::new(peers(&parts.threads), parts.threads.proc.clone())));
        // Each of these three takes a small part of the descriptors: two listeners, and who waits.
        settings.connections = parts.descriptors.share(16, pmesh_api::serve::MAX_CONNECTIONS);
        settings.waiting = parts.descriptors.share(16, Api::MAX_WAITING);
    });
    let api = Api::new(node.clone(), settings);
    let local: Option<(Arc<dyn LocalHandler>, _)> = (!arguments.no_pm3_host && api.serves_front_host())
        .then(|| (Arc::new(Pm3Host(api.clone())) as Arc<dyn LocalHandler>, runtime.handle().clone()));

    let lines =
        listener_lines(&parts.front, &parts.api, parts.socket.as_ref().map(|(path, _)| path.as_path()));
    let listeners: Vec<TcpListener> = parts.front.into_iter().map(|bound| bound.listener).collect();
    let front =
        Front::serve(listeners, tables, FrontLimits::default(), local).map_err(system("start the front"))?;
    runtime.block_on(async {
        let signals = Signals::new().map_err(system("wait for signals"))?;
        let mut orphans = Orphans::new().map_err(system("wait for the ends of processes"))?;
        let driving = tokio::spawn(driver);
        let ended = CancelToken::new();
        let mut apis = JoinSet::new();
        for bound in parts.api {
            let listener =
                tokio::net::TcpListener::from_std(bound.listener).map_err(system("serve the API"))?;
            apis.spawn(pmesh_api::serve_tcp(listener, api.clone(), cancelled(&ended)));
        }
        let socket_path = parts.socket.as_ref().map(|(path, _)| path.clone());
        if let Some((_, listener)) = parts.socket {
            apis.spawn(pmesh_api::serve_unix(listener, api.clone(), cancelled(&ended)));
        }
        print(&lines);
        notify::tell(notify::NotifyState::Ready);
        let obeyed = tokio::select! {
            obeyed = obey(&node, signals, front, driving) => obeyed,
            never = orphans.reap() => match never {},
        };
        ended.cancel();
        let grace = match obeyed {
            Ok(ServerEnd::Forced) => Duration::ZERO,
            Ok(ServerEnd::Hurried) => HURRIED_API_GRACE,
            Ok(ServerEnd::AsAsked) | Err(_) => API_GRACE,
        };
        let answered = tokio::time::timeout(grace, async { while apis.join_next().await.is_some() {} });
        if answered.await.is_err() {
            info!("clients of the API were still being answered");
        }
        if let Some(path) = socket_path
            && let Err(error) = std::fs::remove_file(&path)
        {
            warn!(%error, path = %path.display(), "the socket stays behind");
        }
        obeyed
    })
}

/// One line per listener, with its address.
fn listener_lines(
    front: &[bind::BoundListener],
    api: &[bind::BoundListener],
    socket: Option<&Path>,
) -> String {
    let mut lines = String::new();
    for bound in front {
        lines.push_str(&format!("front   http://{}\n", bound.address));
    }
    for bound in api {
        lines.push_str(&format!("api     http://{}\n", bound.address));
    }
    if let Some(path) = socket {
        lines.push_str(&format!("api     unix:{}\n", path.display()));
    }
    lines
}

/// The kernel's word about who asks.
fn peers(threads: &WorkThreads) -> Peers {
    let peers = Peers::open(threads.proc.clone());
    if peers.source() == PeerSource::Tables {
        warn!(
            "this kernel has no socket diagnostics for TCP (tcp_diag): who asks is looked up in /proc/net/tcp, \
             which takes some milliseconds"
        );
    }
    peers
}

/// Prints the listeners; somebody who does not listen is no reason not to serve.
fn print(lines: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        info!(%error, "nobody reads the standard output");
    }
}

/// Does what signals and the API ask for, until everything has ended.
///
/// # Errors
///
/// [`StartError::Node`] where the node's task has ended without having been asked to.
async fn obey(
    node: &Node,
    mut signals: Signals,
    front: Front,
    mut driving: JoinHandle<()>,
) -> Result<ServerEnd, StartError> {
    // A reload under way does not keep anybody from ending the server. One that is asked for meanwhile
    // ends after it, and takes its place here.
    let mut reloading: OptionFuture<_> = None.into();
    loop {
        tokio::select! {
            () = node.ending() => break,
            ended = &mut driving => return ended.map(|()| ServerEnd::AsAsked).map_err(StartError::Node),
            Some(()) = &mut reloading => {
                notify::tell(notify::NotifyState::Ready);
                reloading = None.into();
            }
            asked = signals.next() => match asked {
                SignalRequest::Stop => break,
                SignalRequest::Reload => {
                    notify::tell(notify::NotifyState::Reloading);
                    reloading = Some(Box::pin(reload(node))).into();
                }
            },
        }
    }
    drop(reloading);
    info!("ending: nothing is accepted any more");
    notify::tell(notify::NotifyState::Stopping);
    node.shut_down();
    let grace = node.drain_limit();
    let hurried = CancelToken::new();
    let mut ending = pin!(async {
        tokio::select! {
            () = front.shutdown(grace) => {}
            // Dropped, the front cuts what is left.
            () = hurried.cancelled() => {}
        }
        node.close();
        driving.await
    });
    let mut end = ServerEnd::AsAsked;
    let mut forced: OptionFuture<_> = None.into();
    loop {
        tokio::select! {
            ended = &mut ending => return ended.map(|()| end).map_err(StartError::Node),
            Some(()) = &mut forced => {
                error!("not everything has ended; the server does all the same");
                return Ok(ServerEnd::Forced);
            }
            asked = signals.next() => if let (SignalRequest::Stop, ServerEnd::AsAsked) = (asked, end) {
                warn!("asked again: nothing more is waited for");
                end = ServerEnd::Hurried;
                forced = Some(Box::pin(tokio::time::sleep(HURRIED_LIMIT))).into();
                hurried.cancel();
                node.hurry();
            },
        }
    }
}

async fn reload(node: &Node) {
    match node.submit(Request::Reload(Rebuild::Changed)) {
        Ok(id) => drop(node.operation_ended(id).await),
        Err(error) => warn!(%error, "no reload"),
    }
}

/// Resolves when `token` is cancelled.
fn cancelled(token: &CancelToken) -> impl Future<Output = ()> + Send + use<> {
    let token = token.clone();
    async move { token.cancelled().await }
}

/// What a signal asks for.
enum SignalRequest {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Whether SIGHUP means that somebody's terminal has gone.
    has_terminal: bool,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            has_terminal: io::IsTerminal::is_terminal(&io::stdin()),
        })
    }

    async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.terminate.recv() => SignalRequest::Stop,
            _ = self.interrupt.recv() => SignalRequest::Stop,
            _ = self.hang_up.recv() => if self.has_terminal { SignalRequest::Stop } else { SignalRequest::Reload },
        }
    }
}

/// The API as the virtual host `pm3` of the front.
struct Pm3Host(Api);

impl fmt::Debug for Pm3Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pm3Host")
    }
}

impl LocalHandler for Pm3Host {
    fn handle(
        &self,
        request: http::Request<RequestBody>,
        connection: ConnectionInfo,
    ) -> futures_util::future::BoxFuture<'static, http::Response<LocalBody>> {
        let api = self.0.clone();
        let ConnectionInfo { local, peer, owner, .. } = connection;
        Box::pin(async move {
            let answer = api.handle_at_front(request, (local, peer, owner)).await;
            answer.map(|body| LocalBody::new(body.map_err(Into::into)))
        })
    }
}
