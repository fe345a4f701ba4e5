//! Being built.

pub mod backoff;
mod health;
pub mod lifecycle;
mod log;
mod name;
mod os;
mod ports;
mod probe;
mod proc;
mod process;
pub mod rollout;
mod spec;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
mod tree;

pub use health::{HealthReport, Liveness, Status};
pub use log::{LogFolder, LogLimits, ServiceLog, Tail};
pub use name::{BadServiceName, ServiceId, ServiceName};
pub use os::OsSpawner;
pub use ports::{Port, Ports, PortsExhausted};
pub use probe::{Holder, NetProber, ProbeFailure, Prober, Target};
pub use process::{Exit, Launch, ProcessTree, Signal, SpawnError, Spawned, Spawner};
pub use spec::{
    AppSpec, BuildCache, Check, Command, ExternalAddress, ExternalSpec, Monitor, NamedCheck, Overlap,
    PortOwner, ServiceKind, ServiceSpec, StartOrder, Stdin,
};
