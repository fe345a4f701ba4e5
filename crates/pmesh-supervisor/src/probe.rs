//! Asking an address whether somebody serves there, and whether that is who should.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use pmesh_threads::{HostNames, Threads};
use tokio::net::TcpStream;

use crate::{
    Check, ExternalAddress, FirstAnswer, Monitor, PortOwner, ProcessTree, ServiceName,
    first_answer::first_answer,
    lack::is_lack,
    listening,
    proc::Proc,
    saved::saved,
    work_threads::{PROC_LIMIT, WorkThreads},
};

/// Makes probes. The network's is [`NetProber`].
pub trait Prober: Send + Sync + 'static {
    /// Runs all checks of `monitor` against `target`, within its timeout.
    ///
    /// The future may be dropped at any time. It resolves to the first failure.
    fn probe(&self, target: &ProbeTarget, monitor: &Monitor) -> BoxFuture<'static, Result<(), ProbeFailure>>;

    /// Sends `target` one request, and waits so long for the first byte of an answer.
    ///
    /// The future may be dropped at any time. A connection that ends without an answer is a failure at once.
    fn ask(
        &self,
        target: &ProbeTarget,
        monitor: &Monitor,
        limit: Duration,
    ) -> BoxFuture<'static, Result<FirstAnswer, ProbeFailure>>;

    /// Who listens on a port, whatever the address; `None` for nobody, and for whom this server may not look at.
    ///
    /// The future may be dropped at any time.
    fn holder(&self, port: u16) -> BoxFuture<'static, Option<Holder>>;
}

/// What is probed.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProbeTarget {
    /// Whose address it is.
    pub service: ServiceName,
    /// Where it should listen.
    pub address: ExternalAddress,
    /// The processes that should listen there; none for an address of somebody else's.
    pub tree: Option<Arc<dyn ProcessTree>>,
    /// Whether to look up whose the listening socket is. Needed until an instance was proven once:
    /// the look-up reads much of `/proc`.
    pub prove_owner: bool,
    /// Whether to look, where nobody accepts connections, what else the processes listen on.
    pub seek: bool,
}

impl ProbeTarget {
    /// An address of somebody else's, where nothing is looked up beside the answer.
    pub fn new(service: ServiceName, address: ExternalAddress) -> Self {
        Self { service, address, tree: None, prove_owner: false, seek: false }
    }

    /// The same, but for what `change` does to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl fmt::Debug for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeTarget")
            .field("service", &self.service)
            .field("address", &self.address)
            .field("leader", &self.tree.as_ref().map(|tree| tree.leader()))
            .field("prove_owner", &self.prove_owner)
            .field("seek", &self.seek)
            .finish()
    }
}

/// Why a probe did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeFailure {
    /// Nobody accepts connections there.
    #[error("check {check}: cannot connect to {address}: {reason}")]
    Connect {
        /// The check's name.
        check: String,
        /// The address that was tried.
        address: ExternalAddress,
        /// The system's words.
        reason: String,
    },
    /// No answer in time.
    #[error("check {check}: {address} did not answer within {limit:?}")]
    Timeout {
        /// The check's name.
        check: String,
        /// The address that was tried.
        address: ExternalAddress,
        /// The monitor's timeout.
        limit: Duration,
    },
    /// It accepts connections, and a request gets no answer.
    #[error("{address} accepts connections, and does not answer `GET /`: {reason}")]
    Unanswered {
        /// The address that was asked.
        address: ExternalAddress,
        /// The system's words, or how long it was waited for.
        reason: String,
    },
    /// Somebody listens, but not the instance.
    #[error("port {port} is held by {}; end it, or set `port_owner: any` if it serves for the instance",
        holder.as_ref().map_or_else(|| "nobody on this machine's network".to_owned(), Holder::to_string))]
    ForeignPort {
        /// The instance's port.
        port: u16,
        /// The process that listens; none if no socket of this network namespace does.
        holder: Option<Holder>,
    },
    /// It could not listen, because somebody else has the port.
    #[error("{}", taken(*.port, *.own, .holder))]
    PortTaken {
        /// The port that it wanted.
        port: u16,
        /// The one that it was given, if it was given one.
        own: Option<u16>,
        /// The process that listens.
        holder: Holder,
    },
    /// It could not listen, because an address is in use, and it does not say which.
    #[error("{}", in_use(*.own))]
    AddressInUse {
        /// The port that it was given, if it was given one.
        own: Option<u16>,
    },
    /// Nobody accepts connections there, and this is what the instance listens on.
    #[error("{}", elsewhere(.address, .listens))]
    Elsewhere {
        /// Where it should listen.
        address: ExternalAddress,
        /// Where it does; nothing if nowhere.
        listens: Vec<String>,
    },
    /// The probe could not be made, for want of descriptors of this server's own. That says nothing about who
    /// was to be probed: it is tried again, and health stays what it was.
    #[error("{address} could not be probed, because the server itself has no open file left: {reason}")]
    Unmade {
        /// The address that was to be tried.
        address: ExternalAddress,
        /// The system's words.
        reason: String,
    },
}

impl ProbeFailure {
    /// Whether there was no probe at all.
    pub(crate) fn is_unmade(&self) -> bool {
        matches!(self, Self::Unmade { .. })
    }

    /// That a request was not answered in its time.
    pub(crate) fn unanswered_for(address: ExternalAddress, limit: Duration) -> Self {
        // Measured, it has nanoseconds that nobody wants to read.
        let unit = if limit < Duration::from_secs(1) { 1 } else { 100 };
        let told = Duration::from_millis(unit)
            * u32::try_from(limit.as_millis() / u128::from(unit)).unwrap_or(u32::MAX);
        Self::Unanswered { address, reason: format!("it has said nothing for {told:?}") }
    }
}

saved!(enum ProbeFailure {
    0 Connect { check, address, reason },
    1 Timeout { check, address, limit },
    2 ForeignPort { port, holder },
    3 Unmade { address, reason },
    4 Unanswered { address, reason },
    5 Elsewhere { address, listens },
    6 PortTaken { port, own, holder },
    7 AddressInUse { own },
});

/// Who has the port that an instance wanted.
fn taken(port: u16, own: Option<u16>, holder: &Holder) -> String {
    match own {
        Some(own) if own != port => {
            format!("port {port} is held by {holder}; it must listen on $PORT, {own} in that try")
        }
        Some(_) => format!("port {port} is held by {holder}; it is given another one at the next try"),
        None => format!("port {port} is held by {holder}; end that, or have it listen elsewhere"),
    }
}

/// That an instance wanted an address which it does not name.
fn in_use(own: Option<u16>) -> String {
    match own {
        Some(own) => {
            format!("an address that it wanted is in use; it must listen on $PORT, {own} in that try")
        }
        None => "an address that it wanted is in use".to_owned(),
    }
}

/// Where an instance listens, and where it should.
fn elsewhere(address: &ExternalAddress, listens: &[String]) -> String {
    let port = address.port;
    if listens.is_empty() {
        return format!(
            "it listens nowhere; it must listen on $PORT, {port} in that try (what takes no requests is `background: true`)"
        );
    }
    let is_the_port = |place: &String| place.ends_with(&format!(":{port}"));
    let has_the_port = listens.iter().any(is_the_port);
    let listens = listens.join(", ");
    // With the right port it is the address that is wrong.
    if has_the_port {
        return format!("it listens on {listens}; it must be $HOST:$PORT, {address} in that try");
    }
    format!("it listens on {listens}; it must be $PORT, {port} in that try")
}

/// The process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its command line, at most 100 characters of it.
    pub command: String,
}

saved!(struct Holder { pid, command });

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} `{}`", self.pid, self.command)
    }
}

/// Probes over the network, from this machine.
#[derive(Clone, Debug)]
pub struct NetProber {
    proc: Threads,
    names: HostNames,
}

impl NetProber {
    /// Looks names up, and who listens, on these threads.
    pub fn new(threads: &WorkThreads) -> Self {
        Self { proc: threads.proc.clone(), names: threads.names.clone() }
    }
}

impl Prober for NetProber {
    fn probe(&self, target: &ProbeTarget, monitor: &Monitor) -> BoxFuture<'static, Result<(), ProbeFailure>> {
        let (prober, target, monitor) = (self.clone(), target.clone(), monitor.clone());
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + monitor.timeout;
            let mut proven = !target.prove_owner || monitor.port_owner == PortOwner::Any;
            for check in &monitor.checks {
                let Check::Tcp = check.check;
                let connected = tokio::time::timeout_at(deadline, prober.connect(&target.address)).await;
                let connected = connected.map_err(|_| ProbeFailure::Timeout {
                    check: check.name.clone(),
                    address: target.address.clone(),
                    limit: monitor.timeout,
                })?;
                let (_, peer) = match connected {
                    Ok(connection) => connection,
                    Err(error) => return Err(prober.not_connected(&target, &check.name, &error).await),
                };
                if let Some(tree) = &target.tree
                    && !proven
                {
                    prober.prove_owner(&target, peer, tree).await?;
                    proven = true;
                }
            }
            Ok(())
        })
    }

    fn ask(
        &self,
        target: &ProbeTarget,
        monitor: &Monitor,
        limit: Duration,
    ) -> BoxFuture<'static, Result<FirstAnswer, ProbeFailure>> {
        let (prober, target, owner) = (self.clone(), target.clone(), monitor.port_owner);
        Box::pin(async move {
            let unanswered = |reason| ProbeFailure::Unanswered { address: target.address.clone(), reason };
            let asking = async {
                let (stream, peer) = match prober.connect(&target.address).await {
                    Ok(connection) => connection,
                    Err(error) => return Err(prober.not_connected(&target, "ready", &error).await),
                };
                if let Some(tree) =
                    target.tree.as_ref().filter(|_| target.prove_owner && owner != PortOwner::Any)
                {
                    prober.prove_owner(&target, peer, tree).await?;
                }
                first_answer(stream, &target.address).await.map_err(|error| unanswered(error.to_string()))
            };
            let answered = tokio::time::timeout(limit, asking).await;
            answered.unwrap_or_else(|_| Err(ProbeFailure::unanswered_for(target.address.clone(), limit)))
        })
    }

    fn holder(&self, port: u16) -> BoxFuture<'static, Option<Holder>> {
        let proc = self.proc.clone();
        Box::pin(async move { proc.run(PROC_LIMIT, move |_| holder(port)).await.ok()?.ok()? })
    }
}

impl NetProber {
    async fn not_connected(&self, target: &ProbeTarget, check: &str, error: &io::Error) -> ProbeFailure {
        let (address, reason) = (target.address.clone(), error.to_string());
        if is_lack(error) {
            return ProbeFailure::Unmade { address, reason };
        }
        if let Some(tree) = target.tree.clone().filter(|_| target.seek)
            && let Ok(Ok(listens)) = self.proc.run(PROC_LIMIT, move |_| listening::of(&tree.pids())).await
        {
            return ProbeFailure::Elsewhere { address, listens };
        }
        ProbeFailure::Connect { check: check.to_owned(), address, reason }
    }

    /// Connects; the connection, and the address that answered.
    async fn connect(&self, address: &ExternalAddress) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = self.names.connect(&address.host, address.port).await?;
        let peer = stream.peer_addr()?;
        // A connection to an unused port inside the ephemeral range can be given that same port as its
        // own and meets itself (simultaneous open, RFC 9293, 3.5).
        if stream.local_addr()? == peer {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
        }
        Ok((stream, peer))
    }

    async fn prove_owner(
        &self,
        target: &ProbeTarget,
        address: SocketAddr,
        tree: &Arc<dyn ProcessTree>,
    ) -> Result<(), ProbeFailure> {
        let lookup = |tree: Arc<dyn ProcessTree>| {
            let found = self.proc.run(PROC_LIMIT, move |_| owner(address, &tree.pids()));
            async {
                // What was not looked up says nothing about the instance.
                found.await.map_err(|unanswered| unanswered.to_string())
            }
        };
        let mut found = lookup(Arc::clone(tree)).await;
        if matches!(found, Ok(Ok(Owner::Other(_)))) {
            // The view of the tree may be some milliseconds older than the process that listens.
            tokio::time::sleep(Duration::from_millis(20)).await;
            found = lookup(Arc::clone(tree)).await;
        }
        match found {
            Err(reason) => Err(ProbeFailure::Unmade { address: target.address.clone(), reason }),
            Ok(Ok(Owner::Tree)) => Ok(()),
            Ok(Ok(Owner::Other(holder))) => Err(ProbeFailure::ForeignPort { port: address.port(), holder }),
            Ok(Ok(Owner::Hidden)) => {
                tracing::warn!(%address, "cannot see which process listens; taken for the instance");
                Ok(())
            }
            Ok(Err(error)) if is_lack(&error) => {
                let reason = error.to_string();
                Err(ProbeFailure::Unmade { address: target.address.clone(), reason })
            }
            Ok(Err(error)) => {
                tracing::warn!(%address, %error, "cannot read who listens; taken for the instance");
                Ok(())
            }
        }
    }
}

/// Who listens on a port of any address.
fn holder(port: u16) -> io::Result<Option<Holder>> {
    let inodes = Proc::listeners_on(port)?;
    if inodes.is_empty() {
        return Ok(None);
    }
    match held(&inodes, &[])? {
        Owner::Other(holder) => Ok(holder),
        Owner::Tree | Owner::Hidden => Ok(None),
    }
}

/// Who listens on a port.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Tree,
    Other(Option<Holder>),
    /// A process whose descriptors may not be read.
    Hidden,
}

fn owner(address: SocketAddr, tree: &[u32]) -> io::Result<Owner> {
    let inodes = Proc::listeners(address)?;
    if inodes.is_empty() {
        return Ok(Owner::Other(None));
    }
    held(&inodes, tree)
}

/// Who holds one of these sockets, the processes of `tree` first.
fn held(inodes: &[u64], tree: &[u32]) -> io::Result<Owner> {
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut proc = Proc::open()?;
    let mut hidden = false;
    for &pid in tree {
        match holds(&proc, pid, &sockets) {
            Ok(true) => return Ok(Owner::Tree),
            Ok(false) => {}
            Err(error) if is_lack(&error) => return Err(error),
            Err(error) => hidden |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    if hidden {
        return Ok(Owner::Hidden);
    }
    for pid in proc.pids()? {
        match holds(&proc, pid, &sockets) {
            Ok(true) => {
                let command = proc.command_line(pid)?.unwrap_or_default().chars().take(100).collect();
                return Ok(Owner::Other(Some(Holder { pid, command })));
            }
            Err(error) if is_lack(&error) => return Err(error),
            Ok(false) | Err(_) => {}
        }
    }
    Ok(Owner::Hidden)
}

fn holds(proc: &Proc, pid: u32, sockets: &[String]) -> io::Result<bool> {
    let mut found = false;
    proc.descriptors(pid, |target| {
        found = sockets.iter().any(|socket| socket.as_bytes() == target.to_bytes());
        !found
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_nothing_was_said_is_told_in_steps_that_people_read() {
        let address = ExternalAddress { host: "127.0.0.1".into(), port: 20012 };
        for (nanos, told) in [
            (50_000_000, "50ms"),
            (49_999_999, "49ms"),
            (999_999_999, "999ms"),
            (1_000_000_001, "1s"),
            (5_001_234_567, "5s"),
            (5_199_999_999, "5.1s"),
            (61_250_000_000, "61.2s"),
            (0, "0ns"),
        ] {
            let failure = ProbeFailure::unanswered_for(address.clone(), Duration::from_nanos(nanos));
            assert_eq!(
                failure.to_string(),
                format!(
                    "127.0.0.1:20012 accepts connections, and does not answer `GET /`: it has said nothing for {told}"
                )
            );
        }
    }
}
