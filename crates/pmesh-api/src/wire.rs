//! What the bodies look like: the types of answers, as JSON and back.
//!
//! Names, types and the order of the fields are the contract; `docs/api.md` explains each.

mod building;
mod health;
mod log_entry;
mod outcome;

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    time::{Instant, SystemTime},
};

use pmesh_node::{Measured, Repository};
use pmesh_supervisor::{JobRun, ProcessFigures, ServiceName};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use time::{OffsetDateTime, macros::format_description};

pub(crate) use self::outcome::result;
pub use self::{
    building::Building,
    health::Health,
    log_entry::LogEntry,
    outcome::{Counted, Done, Reloaded, SurvivingProcess, Updated},
};

/// "No time" in the documented form.
pub const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A time as RFC 3339 in UTC with milliseconds, or [`NO_TIME`].
pub(crate) fn timestamp(time: Option<SystemTime>) -> String {
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    time.and_then(|time| {
        // Before 1970 there is nothing that we could have seen.
        let nanos = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos();
        OffsetDateTime::from_unix_timestamp_nanos(i128::try_from(nanos).ok()?).ok()
    })
    .and_then(|time| time.format(FORMAT).ok())
    .unwrap_or_else(|| NO_TIME.to_owned())
}

/// When a process was started. Between two tries no process runs: its time is the epoch then, because no process is that
/// old.
fn began(time: SystemTime) -> String {
    timestamp(Some(time).filter(|time| *time != SystemTime::UNIX_EPOCH))
}

/// An object with names of ours as keys, in an order of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Named<T> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: fmt::Display, T> FromIterator<(K, T)> for Named<T> {
    fn from_iter<I: IntoIterator<Item = (K, T)>>(members: I) -> Self {
        Self(members.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Members<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Named(members))
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// The reasons of services that failed, by their names.
pub(crate) fn reasons(failed: &BTreeMap<ServiceName, String>) -> Named<String> {
    failed.iter().map(|(name, reason)| (name, reason.clone())).collect()
}

/// The body of an error; more fields may follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorBody {
    /// A sentence for a person.
    pub error: String,
    /// A word for a program.
    pub code: String,
    /// The operation that failed, if one was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// A mistake in a manifest, and its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
}

impl From<&pmesh_manifest::Mistake> for Mistake {
    fn from(mistake: &pmesh_manifest::Mistake) -> Self {
        let message = match mistake.path.as_str() {
            "" => mistake.message.clone(),
            path => format!("{path}: {}", mistake.message),
        };
        let file = mistake.file.display().to_string();
        Self { file, line: mistake.line, column: mistake.column, message }
    }
}

/// A branch and its newest commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Revision {
    /// `main`, `origin/main`, or `HEAD` when none is checked out.
    pub branch: String,
    /// The commit, in full.
    pub hash: String,
    /// Its author, as `Name <email>`.
    pub author: String,
    /// Its whole message, without trailing newlines.
    pub message: String,
}

impl From<&pmesh_vcs::Revision> for Revision {
    fn from(revision: &pmesh_vcs::Revision) -> Self {
        Self {
            branch: revision.branch.as_str().to_owned(),
            hash: revision.commit.as_ref().map(ToString::to_string).unwrap_or_default(),
            author: revision.author.clone(),
            message: revision.message.clone(),
        }
    }
}

/// `/repo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Repo {
    /// The version control system.
    pub sys: String,
    /// What is checked out.
    #[serde(rename = "ref")]
    pub head: Revision,
    /// What the remote offers; all fields empty without one.
    pub remote: Revision,
    /// The remote's address, or nothing.
    pub url: String,
    /// What the services run; absent before the first rollout of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Revision>,
    /// How many commits the remote alone has; absent where nothing can be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<usize>,
    /// How many commits it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    /// Where the remote has moved, if the fetch that was asked for was sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// The command that makes git ask there from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl From<Repository> for Repo {
    fn from(repository: Repository) -> Self {
        Self {
            sys: repository.system.to_owned(),
            head: (&repository.head).into(),
            remote: repository.remote.as_ref().map(Revision::from).unwrap_or_default(),
            url: repository.url.unwrap_or_default(),
            deployed: repository.deployed.as_deref().map(Revision::from),
            behind: repository.distance.map(|distance| distance.behind),
            ahead: repository.distance.map(|distance| distance.ahead),
            moved_to: None,
            remedy: None,
        }
    }
}

/// An operation that goes on: the body of a 202.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Accepted {
    /// Its id, for `/operation/{id}`.
    pub operation: String,
}

/// `/service/metrics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// The id of the service's run.
    pub id: String,
    /// `app`, `file` or `proxy`.
    #[serde(rename = "type")]
    pub service_type: String,
    /// Its upstreams.
    pub server: Server,
    /// `cgroup` or `mark`: how it is known which processes belong to it; absent without instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containment: Option<String>,
    /// Its instances.
    pub processes: Vec<Process>,
    /// Of a job: its last runs, oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<Run>>,
    /// The path of its log on the server; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Its health at the same time.
    #[serde(flatten)]
    pub health: Health,
}

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// The number of its instance.
    pub instance: u32,
    /// When it began.
    pub started: String,
    /// When it ended; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// How: `exit code 0`, or the name of a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
}

/// What has been started goes on as this operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Begun {
    /// Its id.
    pub operation: String,
}

/// The upstreams of a service: `{}` where there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Server {
    /// One for each address that takes traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
}

/// An address that takes traffic for a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Upstream {
    /// Where it listens.
    pub address: String,
    /// Whether it is healthy.
    pub healthy: bool,
    /// Requests in flight.
    pub load_factor: u64,
    /// Requests so far.
    pub request_count: u64,
    /// Those without an answer.
    pub error_count: u64,
    /// Those with a status from 500.
    pub server_error_count: u64,
    /// Those with a status from 400 to 499.
    pub client_error_count: u64,
}

/// An instance: the sums over its process tree, and the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Process {
    /// Its first process and the sums.
    #[serde(flatten)]
    pub figures: Figures,
    /// Its number in the service, from 1.
    #[serde(default)]
    pub instance: u32,
    /// The port that it listens on; 0 without one.
    #[serde(default)]
    pub port: u16,
    /// The commit that it was started from; empty where that is not known.
    #[serde(default)]
    pub commit: String,
    /// How often it was started again since its service's run began.
    #[serde(default)]
    pub restarts: u32,
    /// Every process of the tree by its pid, the instance's own among them.
    pub tree: Named<Figures>,
}

/// What is measured of a process: bytes, but for `cpu`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Figures {
    /// Its number.
    pub pid: u32,
    /// When it was started.
    pub create_time: String,
    /// Its command line.
    pub cmd: String,
    /// The share of one core over the last sample.
    pub cpu: f64,
    /// Resident memory.
    pub rss: u64,
    /// Virtual memory.
    pub vms: u64,
    /// The most resident memory so far.
    pub hwm: u64,
    /// Memory for data.
    pub data: u64,
    /// Memory for stacks.
    pub stack: u64,
    /// Memory that cannot be swapped out.
    pub locked: u64,
    /// Memory that is swapped out.
    pub swap: u64,
    /// Read from disks.
    pub io_read: u64,
    /// Written to disks.
    pub io_write: u64,
}

impl Metrics {
    /// What was measured at `now`.
    pub(crate) fn of(metrics: pmesh_node::Metrics, now: SystemTime) -> Self {
        let pmesh_node::Metrics { id, kind, upstreams, containment, instances, is_job, runs, health, log } =
            metrics;
        // Moments on the time of the machine, which is not the clock's.
        let instant = Instant::now();
        let time = |at: Instant| timestamp(now.checked_sub(instant.saturating_duration_since(at)));
        let run = |run: JobRun| Run {
            instance: run.instance,
            started: time(run.started),
            ended: run.ended.map(time),
            exit: run.exit.map(|exit| exit.to_string()),
        };
        let upstreams = upstreams.into_iter().map(|(upstream, healthy)| Upstream {
            address: upstream.address.to_string(),
            healthy,
            load_factor: upstream.in_flight as u64,
            request_count: upstream.request_count,
            error_count: upstream.error_count,
            server_error_count: upstream.server_error_count,
            client_error_count: upstream.client_error_count,
        });
        Self {
            id: id.to_string(),
            service_type: kind.as_str().to_owned(),
            server: Server { upstreams: upstreams.collect() },
            containment: containment.map(|known| known.as_str().to_owned()),
            processes: instances.into_iter().map(Process::from).collect(),
            runs: is_job.then(|| runs.into_iter().map(run).collect()),
            log: log.map(|log| log.display().to_string()),
            health: Health::of(health, now),
        }
    }
}

impl From<Measured> for Process {
    fn from(instance: Measured) -> Self {
        let Measured { number, port, commit, restarts, figures } = instance;
        Self {
            figures: (&figures.figures).into(),
            instance: number,
            port: port.unwrap_or_default(),
            commit: commit.unwrap_or_default(),
            restarts,
            tree: figures.tree.iter().map(|(pid, process)| (pid, process.into())).collect(),
        }
    }
}

impl From<&ProcessFigures> for Figures {
    fn from(process: &ProcessFigures) -> Self {
        Self {
            pid: process.pid,
            create_time: began(process.create_time),
            cmd: process.cmd.clone(),
            cpu: process.cpu,
            rss: process.rss,
            vms: process.vms,
            hwm: process.hwm,
            data: process.data,
            stack: process.stack,
            locked: process.locked,
            swap: process.swap,
            io_read: process.io_read,
            io_write: process.io_write,
        }
    }
}

/// `/session`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sessions {
    /// How many clients there are, also those that `limit` leaves out.
    pub num_clients: usize,
    /// The clients by their addresses.
    pub sessions: Named<ClientSession>,
}

/// One client and its recent traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClientSession {
    /// Requests per second between the first and the last; 0 with one.
    pub avg_rps: f64,
    /// Requests since the first.
    pub num_reqs: u64,
    /// When the first came.
    pub first_seen: String,
    /// When its block ends, or [`NO_TIME`].
    pub blocked_until: String,
}

/// [`Sessions`] as they are written: client by client, because there may be 2<sup>18</sup> of them.
#[derive(Serialize)]
pub(crate) struct WrittenSessions<'a> {
    num_clients: usize,
    #[serde(serialize_with = "client_by_client")]
    sessions: &'a [pmesh_sessions::ClientSession],
}

impl<'a> From<&'a pmesh_sessions::Snapshot> for WrittenSessions<'a> {
    fn from(snapshot: &'a pmesh_sessions::Snapshot) -> Self {
        Self { num_clients: snapshot.num_clients, sessions: &snapshot.clients }
    }
}

fn client_by_client<S: Serializer>(
    clients: &[pmesh_sessions::ClientSession],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(clients.iter().map(|client| {
        let session = ClientSession {
            avg_rps: client.avg_rps,
            num_reqs: client.num_reqs,
            first_seen: timestamp(Some(client.first_seen)),
            blocked_until: timestamp(client.blocked_until),
        };
        (client.client.to_string(), session)
    }))
}

/// `/operation/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// `start`, `update`, `reload`, `restart`, `stop` or `shutdown`.
    pub kind: String,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// When its turn came, or [`NO_TIME`].
    pub started: String,
    /// When it ended, or [`NO_TIME`].
    pub ended: String,
    /// What it did, in order.
    pub steps: Vec<Step>,
    /// The documented body of the action's answer, once it has ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The error's body, once it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// What it does.
    pub name: String,
    /// The service that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// When it began.
    pub started: String,
    /// When it ended, or [`NO_TIME`].
    pub ended: String,
    /// What a person may want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl From<&pmesh_node::Step> for Step {
    fn from(step: &pmesh_node::Step) -> Self {
        Self {
            name: step.name.as_str().to_owned(),
            service: step.service.as_ref().map(ToString::to_string),
            state: step.state.as_str().to_owned(),
            started: timestamp(Some(step.started)),
            ended: timestamp(step.ended),
            detail: step.state.detail().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{NO_TIME, Named, began, timestamp};

    #[test]
    fn where_no_process_runs_none_has_a_start() {
        assert_eq!(began(SystemTime::UNIX_EPOCH), NO_TIME);
        assert_eq!(began(SystemTime::UNIX_EPOCH + Duration::from_millis(1)), "1970-01-01T00:00:00.001Z");
    }

    #[test]
    fn a_time_is_utc_with_milliseconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_709_949_772_662_999_999);
        assert_eq!(timestamp(Some(time)), "2024-03-09T02:02:52.662Z");
        assert_eq!(timestamp(Some(SystemTime::UNIX_EPOCH)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn no_time_is_the_zero_time() {
        assert_eq!(timestamp(None), NO_TIME);
        assert_eq!(timestamp(Some(SystemTime::UNIX_EPOCH - Duration::from_secs(1))), NO_TIME);
    }

    #[test]
    fn names_keep_their_order_both_ways() {
        let named: Named<u32> = [("web", 1), ("api", 2)].into_iter().collect();
        let json = serde_json::to_string(&named).unwrap();
        assert_eq!(json, r#"{"web":1,"api":2}"#);
        assert_eq!(serde_json::from_str::<Named<u32>>(&json).unwrap(), named);
    }
}
