//! Keeps services running: builds them, starts their instances, probes them, replaces them without a
//! gap, drains and stops them, measures them.
//!
//! A [`Supervisor`] owns services by name. [`Supervisor::roll_out`] brings any number of them to a new
//! spec, in the order that [`rollout`] decides; each [`Service`] is a handle whose reads never wait.
//! Decisions are plain values: the life cycle of an instance, its pauses, what its probes have said. Actions
//! are behind seams: [`Spawner`] starts process trees, [`Prober`] probes them, [`Balancer`] learns who takes
//! traffic. Git, HTTP and the manifest belong to other crates.
//!
//! ```
//! use std::{collections::BTreeMap, sync::Arc};
//! use pmesh_supervisor::{
//!     AppSpec, CancelToken, Command, LogFolder, LogLimits, NoBalancer, RevisionFacts, RolloutPlan, ServiceId,
//!     ServiceKind, ServiceName, ServiceSpec, Status, Supervisor, SupervisorSettings, Turn,
//!     rollout::Unity, testing::{FakeProber, FakeSpawner, work_threads},
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! let folder = tempfile::tempdir().unwrap();
//! let threads = work_threads();
//! let logs = LogFolder::open(folder.path(), LogLimits::default(), &threads).unwrap();
//! let settings = SupervisorSettings::new(logs, threads).with(|settings| settings.env = BTreeMap::new());
//! let (spawner, prober) = (FakeSpawner::new(), FakeProber::new());
//! let (supervisor, task) =
//!     Supervisor::new(settings, Arc::new(spawner.clone()), Arc::new(prober), Arc::new(NoBalancer));
//! tokio::spawn(task);
//!
//! let name: ServiceName = "job".parse().unwrap();
//! let mut app = AppSpec::new(&name, folder.path().to_owned());
//! app.run = Some(Command::new("work"));
//! app.background = true;
//! let spec = ServiceSpec::new(name.clone(), ServiceKind::App(Box::new(app)));
//! let revision = RevisionFacts::of(folder.path().to_owned());
//! let plan = RolloutPlan::new(vec![Turn::new(ServiceId(1), spec)], Unity::Regardless, revision);
//! supervisor.roll_out(&plan, &CancelToken::new(), &|_, _, _| {}).await;
//! let service = supervisor.service(&name).unwrap();
//! assert_eq!(service.state().health(std::time::Instant::now()).status, Status::Ok);
//! assert!(service.stop().await.was_up);
//! assert!(spawner.running().is_empty());
//! # });
//! ```
//!
//! # Limits
//!
//! Linux only. Instances get ports from 20000 to 29999. At most 4 × cores services are between spawn and
//! ready at a time, and one build per core runs. A failed build that does not make a rollout go back is tried
//! again, after 5 s and then after pauses that double up to 5 min.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("pmesh supervises processes of Linux 5.10 and later on x86-64 and aarch64 only");

mod accounts;
mod backoff;
mod balancer;
mod basis;
mod build;
mod cancel;
mod causes;
mod cgroup_members;
mod cgroups;
mod command;
mod context;
mod drivers;
mod ending;
mod env_file;
mod env_files;
mod environment;
mod executor;
mod external;
mod first_answer;
mod health;
mod job;
mod lack;
mod leader;
mod lifecycle;
mod link;
mod listening;
mod log;
mod machine_facts;
mod machine_step;
mod membership;
mod metrics;
mod name;
mod node_mark;
mod nofile;
mod notice;
mod orphaned;
mod os_spawner;
mod os_tree;
mod pending;
mod plan;
mod port_taken;
mod ports;
mod precedence;
mod probe;
mod proc;
mod process;
mod process_table;
mod process_tables;
mod release;
mod releases;
mod remake;
mod restart_budget;
mod revision_facts;
pub mod rollout;
mod run;
mod run_end;
mod saved;
mod schedule;
mod secret_env;
mod service;
mod service_action;
mod service_driver;
mod service_event;
mod service_failure;
mod service_machine;
mod session_members;
mod shebang;
mod shutdown;
mod slot;
mod spans;
mod spec;
mod step;
mod step_kind;
mod steps;
mod supervisor;
mod survivor;
mod sys;
mod telling_lines;
#[cfg(feature = "testing")]
pub mod testing;
mod timetable;
mod tree_mark;
mod unbuilt;
mod user_account;
mod user_rights;
mod work_threads;

pub use accounts::user_mistake;
pub use balancer::{Balancer, Expected, ListenAddress, NoBalancer, ServiceUpstream};
pub(crate) use basis::Basis;
pub use build::{Build, BuildId, BuildProgress, BuildStep, BuildsUnderWay, Rebuild};
pub(crate) use build::{BuildError, Builder};
pub use cancel::CancelToken;
pub use cgroups::{NoCgroups, NodeCgroups};
pub(crate) use ending::Wish;
pub use env_files::env_file_mistake;
pub(crate) use environment::ServiceFacts;
pub use executor::{Executor, RolloutEnd, RolloutPlan, Turn};
pub use first_answer::FirstAnswer;
pub(crate) use health::Liveness;
pub use health::{HealthReport, Status};
pub use job::{JobRun, RunBegun, WallClock};
pub use log::{
    BadLogCursor, FollowStart, LineEnd, LogCursor, LogEvent, LogFolder, LogFollow, LogLimits, LogLine,
    LogQuery, LogReadError, LogStream,
};
pub(crate) use log::{LogSource, ServiceLog, Tail, pump_outputs};
pub use machine_facts::MachineFacts;
pub use metrics::{InstanceFigures, ProcessFigures, Sampler};
pub use name::{BadServiceName, ServiceId, ServiceName};
pub use node_mark::{LeftRunning, NodeMark};
pub use os_spawner::OsSpawner;
pub use plan::Plan;
pub(crate) use ports::Port;
pub use ports::Ports;
pub use probe::{Holder, NetProber, ProbeFailure, ProbeTarget, Prober};
pub use process::{Containment, Exit, Launch, ProcessTree, Signal, SpawnError, Spawned, Spawner};
pub use revision_facts::RevisionFacts;
pub use run_end::{RunEnd, StopEnd};
pub use schedule::{Schedule, ScheduleError};
pub use secret_env::SecretEnv;
pub use service::{
    AddressView, InstanceView, Preparation, Prepared, Remade, Service, ServiceState, Switch, Switched,
};
pub use service_failure::ServiceFailure;
pub use shebang::missing_interpreter;
pub use spec::{
    AppSpec, BuildCache, Check, Command, ExternalAddress, ExternalSpec, Monitor, NamedCheck, Overlap,
    PortOwner, Readiness, RestartPolicy, ServiceKind, ServiceSpec, StartOrder, Stdin,
};
pub use step::{StepName, StepState};
pub use supervisor::{Reporter, Supervisor, SupervisorSettings};
pub use survivor::Survivor;
pub use telling_lines::{names_an_error, telling_lines};
pub use user_account::UserAccount;
pub use work_threads::WorkThreads;
