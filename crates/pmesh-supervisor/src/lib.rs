//! Being built.

mod build;
mod environment;
mod log;
mod metrics;
mod name;
mod os;
mod ports;
mod probe;
mod proc;
mod process;
mod spec;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
mod tree;

pub use build::{Build, BuildError, BuildId, Builder, Rebuild};
pub use environment::{ServiceFacts, command_environment, instance_environment};
pub use log::{LogFolder, LogLimits, ServiceLog, Tail};
pub use metrics::{InstanceFigures, ProcessFigures, Sampler};
pub use name::{BadServiceName, ServiceId, ServiceName};
pub use os::OsSpawner;
pub use ports::{Port, Ports, PortsExhausted};
pub use probe::{Holder, NetProber, ProbeFailure, Prober, Target};
pub use process::{Exit, Launch, ProcessTree, Signal, SpawnError, Spawned, Spawner};
pub use spec::{
    AppSpec, BuildCache, Check, Command, ExternalAddress, ExternalSpec, Monitor, NamedCheck, Overlap,
    PortOwner, ServiceKind, ServiceSpec, StartOrder, Stdin,
};
