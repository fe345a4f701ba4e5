//! What a service is told to be. Plain values; the defaults of the manifest format are the
//! `Default` implementations here and nowhere else.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

use crate::{Schedule, ServiceName, saved::saved};

/// A service as it was declared.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServiceSpec {
    /// Its name, unique in the node.
    pub name: ServiceName,
    /// What it is.
    pub kind: ServiceKind,
}

saved!(struct ServiceSpec { name, kind });

impl ServiceSpec {
    /// A service of this name.
    pub fn new(name: ServiceName, kind: ServiceKind) -> Self {
        Self { name, kind }
    }
}

impl ServiceSpec {
    /// A command that is kept running in `folder`, without an HTTP server and with the defaults of the format.
    pub fn background(name: ServiceName, folder: PathBuf, command: Command) -> Self {
        let app = AppSpec { run: Some(command), background: true, ..AppSpec::new(&name, folder) };
        Self { name, kind: ServiceKind::App(Box::new(app)) }
    }
}

impl ServiceSpec {
    /// The services that must be ready before this one starts.
    pub(crate) fn after(&self) -> &[ServiceName] {
        match &self.kind {
            ServiceKind::App(app) => &app.after,
            ServiceKind::External(_) | ServiceKind::Files => &[],
        }
    }
}

/// The three kinds of service.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceKind {
    /// Processes that are kept running (boxed: by far the largest of the three).
    App(Box<AppSpec>),
    /// Addresses that somebody else keeps running.
    External(ExternalSpec),
    /// A folder of files: nothing to run and nothing to probe.
    Files,
}

saved!(enum ServiceKind { 0 App(value), 1 External(value), 2 Files });

/// A service of processes (`!App`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AppSpec {
    /// The folder that commands start in; absolute.
    pub folder: PathBuf,
    /// The command of an instance; none for a service that is only built.
    pub run: Option<Command>,
    /// Commands that make the build, in order.
    pub build: Vec<Command>,
    /// Whether a build with the same content hash is taken again.
    pub build_cache: BuildCache,
    /// Commands that run, in order, after the build and before the first instance, once for each commit and build.
    pub release: Vec<Command>,
    /// Commands that run, in order, before the instances of a run are stopped.
    pub shutdown: Vec<Command>,
    /// The services that must be ready before this one starts, and that stop after it.
    pub after: Vec<ServiceName>,
    /// How many instances run.
    pub instances: u32,
    /// Environment of every command of the service, on top of the server's and of what the env files say.
    pub env: BTreeMap<String, String>,
    /// Files of more environment, absolute; of two that set a variable the later one counts.
    pub env_files: Vec<PathBuf>,
    /// Whom its processes run as, a name or a number; none: whoever the server runs as.
    pub user: Option<String>,
    /// The environment variable that names the address to listen on.
    pub host_variable: String,
    /// The environment variable that names the port to listen on.
    pub port_variable: String,
    /// The environment variable that names both, as `HOST:PORT`.
    pub listen_variable: String,
    /// The soft limit of open descriptors that instances get, cut to the hard one.
    pub nofile: u64,
    /// A service without a port: its processes are counted, not probed.
    pub background: bool,
    /// How instances are probed.
    pub monitor: Monitor,
    /// From spawn to ready; an instance that takes longer is stopped.
    pub ready_timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// How long the build may take in all, and the release.
    pub build_timeout: Duration,
    /// From "no new requests" to SIGTERM, while requests are under way.
    pub drain_timeout: Duration,
    /// How long an instance may be unhealthy before it is replaced.
    pub unhealthy_timeout: Duration,
    /// Whether old instances serve until the new ones are ready.
    pub overlap: Overlap,
    /// Whether instances start side by side.
    pub start: StartOrder,
    /// The name of the log file in the log folder.
    pub log: String,
    /// What instances read from their standard input.
    pub stdin: Stdin,
    /// Whether an instance that ends by itself is started again. Of instances with a port it always is.
    pub restart: RestartPolicy,
    /// The times at which instances of a background service are started, which end by themselves; none: they run all the time.
    pub schedule: Option<Schedule>,
    /// How long a run of a [`schedule`](Self::schedule) may take.
    pub run_timeout: Duration,
}

saved!(struct AppSpec {
    folder, run, build, build_cache, release, shutdown, after, instances, env, env_files, user, host_variable, port_variable,
    listen_variable, nofile, background, monitor, ready_timeout, stop_timeout, build_timeout, drain_timeout, unhealthy_timeout,
    overlap, start, log, stdin, restart, schedule, run_timeout,
});

impl AppSpec {
    /// The default of [`drain_timeout`](Self::drain_timeout).
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

    /// A service `name` in `folder` with the defaults of the format: one instance of nothing.
    pub fn new(name: &ServiceName, folder: PathBuf) -> Self {
        Self {
            folder,
            run: None,
            build: Vec::new(),
            build_cache: BuildCache::ByContent,
            release: Vec::new(),
            shutdown: Vec::new(),
            after: Vec::new(),
            instances: 1,
            env: BTreeMap::new(),
            env_files: Vec::new(),
            user: None,
            host_variable: "HOST".to_owned(),
            port_variable: "PORT".to_owned(),
            listen_variable: "LISTEN".to_owned(),
            nofile: 65_536,
            background: false,
            monitor: Monitor { readiness: Readiness::Answer, ..Monitor::default() },
            ready_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(10),
            build_timeout: Duration::from_mins(15),
            drain_timeout: Self::DRAIN_TIMEOUT,
            unhealthy_timeout: Duration::from_secs(10),
            overlap: Overlap::default(),
            start: StartOrder::SideBySide,
            log: format!("{name}.log"),
            stdin: Stdin::Null,
            restart: RestartPolicy::Always,
            schedule: None,
            run_timeout: Duration::from_hours(1),
        }
    }

    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Whether anything is made, or found out on this machine, before it can be started.
    pub(crate) fn has_preparation(&self) -> bool {
        !self.build.is_empty() || !self.env_files.is_empty() || self.user.is_some()
    }

    /// Whether old instances serve until the new ones are ready: as declared, and by default not
    /// for a background service.
    pub fn overlaps(&self) -> bool {
        match self.overlap {
            // A new run of a job has nothing to do but to wait for its time.
            Overlap::ByKind => !self.background || self.schedule.is_some(),
            Overlap::Yes => true,
            Overlap::No => false,
        }
    }
}

/// Whether old and new instances of a service may run at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// Yes, but for background services.
    #[default]
    ByKind,
    /// The old instances serve until the new ones are ready.
    Yes,
    /// The old instances are stopped first, and start again if the new ones fail.
    No,
}

saved!(enum Overlap { 0 ByKind, 1 Yes, 2 No });

/// Whether a build is made when there is one of the same content hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildCache {
    /// No: the one that is there is taken.
    ByContent,
    /// Yes, every time (`no_build_control`).
    Never,
}

saved!(enum BuildCache { 0 ByContent, 1 Never });

/// How the instances of a service start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartOrder {
    /// All at once.
    SideBySide,
    /// Each when the one before it is ready (`slow_start`).
    OneByOne,
}

saved!(enum StartOrder { 0 SideBySide, 1 OneByOne });

/// Whether an instance that ends by itself is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// Yes.
    #[default]
    Always,
    /// Unless it ends with exit code 0.
    OnFailure,
    /// No.
    Never,
}

saved!(enum RestartPolicy { 0 Always, 1 OnFailure, 2 Never });

/// The standard input of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// The server's own.
    Inherit,
}

saved!(enum Stdin { 0 Null, 1 Inherit });

/// A command: a program and its words. No shell is involved unless one is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// The folder it starts in, relative to the service's; none: that folder itself.
    pub folder: Option<PathBuf>,
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Environment on top of the service's.
    pub env: BTreeMap<String, String>,
}

impl Command {
    /// This program without arguments, in the service's folder and environment.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    /// The same with these arguments behind those that it has.
    #[must_use]
    pub fn arguments<W: Into<String>>(mut self, arguments: impl IntoIterator<Item = W>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The same with something changed: `command.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

saved!(struct Command { folder, program, arguments, env });

impl fmt::Display for Command {
    /// The words of the command, as a person would type them; without environment and folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        for word in &self.arguments {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                write!(f, " {word}")?;
            } else {
                write!(f, " '{}'", word.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

/// A service of addresses that somebody else keeps running (`!Proxy`).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ExternalSpec {
    /// Where it listens, at least one.
    pub addresses: Vec<ExternalAddress>,
    /// How the addresses are probed.
    pub monitor: Monitor,
}

impl ExternalSpec {
    /// These addresses, probed as by default.
    pub fn new(addresses: Vec<ExternalAddress>) -> Self {
        Self { addresses, monitor: Monitor::default() }
    }

    /// The same with something changed: `spec.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

saved!(struct ExternalSpec { addresses, monitor });

/// A host and port of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ExternalAddress {
    /// A host name or a literal address (IPv6 without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

saved!(struct ExternalAddress { host, port });

impl ExternalAddress {
    /// The address of `host`, a name or a literal address (IPv6 without brackets), and `port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for ExternalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.host.parse(), Ok(IpAddr::V6(_))) {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How something is probed, and how many answers in a row change its health.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Monitor {
    /// While it is healthy: the pause between probes.
    pub healthy_interval: Duration,
    /// Passes in a row after which what was unhealthy is healthy.
    pub healthy_threshold: u32,
    /// While it is unhealthy: the pause between probes.
    pub unhealthy_interval: Duration,
    /// Failures in a row after which what was healthy is unhealthy.
    pub unhealthy_threshold: u32,
    /// How long one probe may take.
    pub timeout: Duration,
    /// The checks of one probe; all of them must pass.
    pub checks: Vec<NamedCheck>,
    /// Whose the listening socket must be.
    pub port_owner: PortOwner,
    /// What makes an instance ready.
    pub readiness: Readiness,
}

saved!(struct Monitor {
    healthy_interval, healthy_threshold, unhealthy_interval, unhealthy_threshold, timeout, checks,
    port_owner, readiness,
});

impl Monitor {
    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            healthy_interval: Duration::from_secs(5),
            healthy_threshold: 1,
            unhealthy_interval: Duration::from_secs(5),
            unhealthy_threshold: 3,
            timeout: Duration::from_secs(5),
            checks: vec![NamedCheck { name: "tcp".to_owned(), check: Check::Tcp }],
            port_owner: PortOwner::Instance,
            readiness: Readiness::ChecksPass,
        }
    }
}

/// What makes an instance ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// It has answered a request with any byte. A socket alone proves nothing: servers with masters and workers
    /// accept connections before a worker lives.
    Answer,
    /// Its checks pass once.
    ChecksPass,
}

saved!(enum Readiness { 0 Answer, 1 ChecksPass });

/// A check and what error messages call it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedCheck {
    /// The name that the manifest gives it.
    pub name: String,
    /// What is checked.
    pub check: Check,
}

saved!(struct NamedCheck { name, check });

impl NamedCheck {
    /// A check that error messages call `name`.
    pub fn new(name: impl Into<String>, check: Check) -> Self {
        Self { name: name.into(), check }
    }
}

/// One check of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// A connection is accepted.
    Tcp,
}

saved!(enum Check { 0 Tcp });

/// Whose the socket that an instance's port answers on must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortOwner {
    /// A process of the instance's own tree.
    Instance,
    /// Anybody's: for an app that listens through somebody else, such as a container.
    Any,
}

saved!(enum PortOwner { 0 Instance, 1 Any });
