//! What can be written on the command line and in the environment. Nothing here looks at the disk or
//! the network; that a path exists is asked of the caller.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{
    Args, CommandFactory as _, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser as _},
    error::{ContextKind, ContextValue, ErrorKind},
};
use pmesh_api::client::Endpoint;
use pmesh_sessions::{NetworkError, TrustedProxies};
use pmesh_supervisor::ServiceName;

use crate::{listen_option::ListenOption, version::VERSION};

/// Keeps the web apps of a git repository running and serves them over HTTP.
///
/// `run` is the default command: `pmesh-server [PATH]` serves the manifest there. Each flag has an
/// environment variable (`--help` of a command names it); a flag wins.
#[derive(Debug, Parser)]
#[command(
    name = "pmesh-server",
    version = VERSION,
    propagate_version = true,
    override_usage = "pmesh-server [run] [OPTIONS] [PATH]\n       pmesh-server COMMAND [OPTIONS] …"
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Invocation,
}

/// What the server is asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Invocation {
    /// Serve a manifest until SIGTERM or SIGINT.
    Run(Box<RunArguments>),
    /// Read and validate a manifest, and print what would run.
    Check(CheckArguments),
    #[command(flatten)]
    Control(ControlCommand),
}

/// What a server that runs is asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum ControlCommand {
    /// Services, health, load, memory, revision and clients: one screen.
    Status(ServerArguments),
    /// What is checked out, and what the remote offers as of the last fetch.
    Repo(ServerArguments),
    /// Fetch, move the work tree to the newest commit of the remote branch, and roll out.
    Update(ActionArguments),
    /// Read the manifest from disk and roll over to it.
    Reload(ActionArguments),
    /// The services with their states and ids, also the stopped ones.
    Ls(ServerArguments),
    /// What services have written last, by time; of all services or of those that are named.
    Logs(LogsArguments),
    /// The health of all services or of one.
    Health(ServiceArguments),
    /// Processes, memory and traffic of all services or of one.
    Metrics(ServiceArguments),
    /// Restart all services or one, without a dropped request.
    Restart(RestartArguments),
    /// Stop all services or one, until they are restarted.
    Stop(ServiceArguments),
    /// Start a run of a job now: of a service with a `schedule`, or of one that may end and has.
    RunNow(JobArguments),
    /// The clients and their recent traffic.
    Sessions(ServerArguments),
    /// The last operations and how they ended.
    Operations(ServerArguments),
    /// Take an operation out of the queue, or have one that runs go back.
    Cancel(CancelArguments),
    /// Stop the server and all its services.
    Shutdown(ServerArguments),
}

impl ControlCommand {
    /// Which server is meant.
    pub(crate) fn server(&self) -> &ServerArguments {
        match self {
            Self::Status(server)
            | Self::Repo(server)
            | Self::Ls(server)
            | Self::Sessions(server)
            | Self::Operations(server)
            | Self::Shutdown(server) => server,
            Self::Update(action) | Self::Reload(action) => &action.server,
            Self::Health(which) | Self::Metrics(which) | Self::Stop(which) => &which.server,
            Self::Restart(restart) => &restart.server,
            Self::RunNow(job) => &job.server,
            Self::Cancel(cancel) => &cancel.server,
            Self::Logs(logs) => &logs.server,
        }
    }
}

/// The arguments of `run`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own, given or not")]
pub(crate) struct RunArguments {
    /// A pm3.yml or pm3.yaml, or a folder that has one [default: the current folder]
    pub(crate) path: Option<PathBuf>,

    /// Where the HTTP front listens; repeatable. A port alone is that of every IPv4 and IPv6 address
    #[arg(long, value_name = "ADDR", env = "PMESH_HTTP", value_delimiter = ',', default_value = ":8080")]
    pub(crate) http: Vec<ListenOption>,

    #[command(flatten)]
    not_served: NotServed,

    /// Where the API listens over TCP; repeatable. Beyond loopback only with --api-token-file
    #[arg(long, value_name = "ADDR", env = "PMESH_API", value_delimiter = ',', default_value = DEFAULT_API)]
    pub(crate) api: Vec<ListenOption>,

    /// Let every user of this machine use the API over TCP; else the server's user and root
    #[arg(long, env = "PMESH_API_OPEN", value_parser = BoolishValueParser::new())]
    pub(crate) api_open: bool,

    /// No API over a Unix socket
    #[arg(long, env = "PMESH_NO_SOCKET", value_parser = BoolishValueParser::new())]
    pub(crate) no_socket: bool,

    /// No API at the host `pm3` of the HTTP front
    #[arg(long, env = "PMESH_NO_PM3_HOST", value_parser = BoolishValueParser::new())]
    pub(crate) no_pm3_host: bool,

    /// A further Host name that the API answers to; repeatable
    #[arg(long, value_name = "NAME", env = "PMESH_API_HOST", value_delimiter = ',', value_parser = host_name)]
    pub(crate) api_host: Vec<String>,

    /// Ask for the bearer token in this file, which only its owner may read
    #[arg(long, value_name = "FILE", env = "PMESH_API_TOKEN_FILE")]
    pub(crate) api_token_file: Option<PathBuf>,

    /// Where logs, socket and run state are [default: `$XDG_STATE_HOME/pmesh/NAME`, for root
    /// `/var/lib/pmesh/NAME`; NAME is the folder's name and 8 hex digits of its path's hash]
    #[arg(long, value_name = "DIR", env = "PMESH_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Warn about what this server does not serve, instead of refusing it
    #[arg(long, env = "PMESH_IGNORE_UNSUPPORTED", value_parser = BoolishValueParser::new())]
    pub(crate) ignore_unsupported: bool,

    /// Peers whose X-Forwarded-For counts; repeatable [default: `127.0.0.0/8,::1/128`]
    #[arg(long, value_name = "CIDR", env = "PMESH_TRUSTED_PROXY", value_delimiter = ',', value_parser = network)]
    pub(crate) trusted_proxy: Vec<String>,

    /// The form of the server's own log on stderr [default: text; json when stderr is no terminal]
    #[arg(long, value_name = "FORM", env = "PMESH_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// How much the server logs
    #[arg(
        long,
        value_name = "LEVEL",
        env = "PMESH_LOG_LEVEL",
        default_value = "info",
        value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"])
            .map(|level| level.parse::<tracing::Level>().expect("tracing knows the names of its levels"))
    )]
    pub(crate) log_level: tracing::Level,
}

/// Where the API listens over TCP by default, and where it is sought.
pub(crate) const DEFAULT_API: &str = "127.0.0.1:9870";

/// Flags of `run` that are understood and refused, because nothing serves them yet.
#[derive(Debug, Args)]
struct NotServed {
    /// The HTTP front with TLS; not served yet
    #[arg(long, value_name = "ADDR", env = "PMESH_HTTPS", value_delimiter = ',')]
    https: Vec<ListenOption>,

    /// Write the manifest's `hosts` to /etc/hosts, and take them out at the end; not served yet
    #[arg(long, env = "PMESH_MANAGE_HOSTS", value_parser = BoolishValueParser::new())]
    manage_hosts: bool,
}

/// The form of the server's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for a person.
    Text,
    /// A JSON object a line.
    Json,
}

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// A pm3.yml or pm3.yaml, or a folder that has one [default: the current folder]
    pub(crate) path: Option<PathBuf>,

    /// Warn about what this server does not serve, instead of refusing it
    #[arg(long, env = "PMESH_IGNORE_UNSUPPORTED", value_parser = BoolishValueParser::new())]
    pub(crate) ignore_unsupported: bool,
}

/// Which server is meant, and how it is shown what it answers.
#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// The server's API: http://HOST:PORT or unix:PATH [default: the socket of the manifest in the
    /// current folder or above it, then 127.0.0.1:9870]
    #[arg(long, value_name = "URL", env = "PMESH_URL")]
    pub(crate) url: Option<Endpoint>,

    /// Show the bearer token in this file, which only its owner may read
    #[arg(long, value_name = "FILE", env = "PMESH_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Print the API's answer as it came
    #[arg(long, env = "PMESH_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

/// The arguments of an action on everything.
#[derive(Debug, Args)]
pub(crate) struct ActionArguments {
    #[command(flatten)]
    pub(crate) invalidate: Invalidate,

    #[command(flatten)]
    pub(crate) server: ServerArguments,
}

/// The arguments of what is about all services or one.
#[derive(Debug, Args)]
pub(crate) struct ServiceArguments {
    /// The service [default: all services]
    #[arg(value_name = "SVC")]
    pub(crate) service: Option<ServiceName>,

    #[command(flatten)]
    pub(crate) server: ServerArguments,
}

/// The arguments of `cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    /// The operation, as `operations` shows it
    #[arg(value_name = "ID")]
    pub(crate) operation: u64,

    #[command(flatten)]
    pub(crate) server: ServerArguments,
}

/// The arguments of `run-now`.
#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// The service
    #[arg(value_name = "SVC")]
    pub(crate) service: ServiceName,

    #[command(flatten)]
    pub(crate) server: ServerArguments,
}

/// The arguments of `restart`.
#[derive(Debug, Args)]
pub(crate) struct RestartArguments {
    /// The service [default: all services]
    #[arg(value_name = "SVC")]
    pub(crate) service: Option<ServiceName>,

    #[command(flatten)]
    pub(crate) invalidate: Invalidate,

    #[command(flatten)]
    pub(crate) server: ServerArguments,
}

/// The arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// The services [default: all services]
    #[arg(value_name = "SVC")]
    pub(crate) services: Vec<ServiceName>,

    /// Go on with what comes, also after a restart of the server, until Ctrl-C
    #[arg(short, long, env = "PMESH_FOLLOW", value_parser = BoolishValueParser::new())]
    pub(crate) follow: bool,

    /// How many lines at most, the newest ones [default: 200; 10000 with --since]
    #[arg(short = 'n', long, value_name = "N", env = "PMESH_LINES")]
    pub(crate) lines: Option<u32>,

    /// Only what was written since a time such as `2026-03-09T02:02:52Z`, or in the last `10m`
    #[arg(long, value_name = "T", env = "PMESH_SINCE")]
    pub(crate) since: Option<String>,

    /// Only what the instance of this number has written
    #[arg(long, value_name = "N", env = "PMESH_INSTANCE")]
    pub(crate) instance: Option<u32>,

    /// Show the time of each line
    #[arg(short, long, env = "PMESH_TIME", value_parser = BoolishValueParser::new())]
    pub(crate) time: bool,

    #[command(flatten)]
    pub(crate) server: ServerArguments,
}

/// Whether to build again what did not change.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Invalidate {
    /// Build again although nothing changed
    #[arg(long, env = "PMESH_INVALIDATE", value_parser = BoolishValueParser::new())]
    pub(crate) invalidate: bool,
}

/// Reads a whole command line, the program's name included. `exists` says whether there is anything at
/// a path.
///
/// # Errors
///
/// What is wrong with it – or a request for help or the version, which clap reports in the same way.
pub(crate) fn parse(
    mut words: Vec<OsString>,
    exists: impl Fn(&Path) -> bool,
) -> Result<Invocation, clap::Error> {
    let implied = match words.get(1).map(|word| word.to_string_lossy()) {
        None => true,
        Some(word) if ["-h", "--help", "-V", "--version"].contains(&&*word) || is_command(&word) => false,
        Some(word) if word.starts_with('-') => true,
        Some(word) if exists(Path::new(&words[1])) || word.is_empty() => true,
        Some(word) => return Err(neither_command_nor_path(&word)),
    };
    if implied {
        words.insert(words.len().min(1), "run".into());
    }
    let parsed = CommandLine::try_parse_from(words).map_err(|mut error| {
        if implied && error.kind() == ErrorKind::UnknownArgument {
            let tip = "the flags of a command stand after its name; `pmesh-server help` lists the commands";
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
        error
    })?;
    if let Invocation::Run(run) = &parsed.command {
        match &run.path {
            Some(path) if implied && !exists(path) => {
                return Err(neither_command_nor_path(&path.to_string_lossy()));
            }
            _ => run.check()?,
        }
    }
    Ok(parsed.command)
}

impl RunArguments {
    /// Checks what the values together must be.
    fn check(&self) -> Result<(), clap::Error> {
        let wrong = |text: String| Err(CommandLine::command().error(ErrorKind::ValueValidation, text));
        if !self.not_served.https.is_empty() {
            return wrong(
                "--https: TLS is not served yet; use --http behind a proxy that ends TLS".to_owned(),
            );
        }
        if self.not_served.manage_hosts {
            return wrong(
                "--manage-hosts: /etc/hosts is not managed yet; write the names there by hand".to_owned(),
            );
        }
        match self.api.iter().find(|address| !address.is_loopback()) {
            Some(address) if self.api_token_file.is_none() => wrong(format!(
                "--api {address}: other machines could reach it; ask for a token with --api-token-file FILE"
            )),
            _ => Ok(()),
        }
    }
}

fn is_command(word: &str) -> bool {
    word == "help" || CommandLine::command().find_subcommand(word).is_some()
}

fn neither_command_nor_path(word: &str) -> clap::Error {
    let mut command = CommandLine::command();
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let remedy = match pmesh_api::near_miss(word, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the commands are {}", names.join(", ")),
    };
    command.error(
        ErrorKind::InvalidSubcommand,
        format!("`{}` is neither a command nor a path; {remedy}", word.escape_debug()),
    )
}

fn network(text: &str) -> Result<String, NetworkError> {
    TrustedProxies::parse([text]).map(|_| text.to_owned())
}

/// A text that cannot stand in a `Host` header without its port.
#[derive(Debug, thiserror::Error)]
#[error("write a name as it stands in a URL, without scheme and port")]
struct BadHostName;

fn host_name(text: &str) -> Result<String, BadHostName> {
    let is_address =
        || text.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    let is_name = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if is_name || is_address() { Ok(text.to_owned()) } else { Err(BadHostName) }
}

#[cfg(test)]
mod tests;
