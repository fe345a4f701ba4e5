//! Being built.

pub mod backoff;
mod health;
pub mod lifecycle;
mod name;
mod process;
pub mod rollout;
mod spec;

pub use health::{HealthReport, Liveness, Status};
pub use name::{BadServiceName, ServiceId, ServiceName};
pub use process::{Exit, Launch, ProcessTree, Signal, SpawnError, Spawned, Spawner};
pub use spec::{
    AppSpec, BuildCache, Check, Command, ExternalAddress, ExternalSpec, Monitor, NamedCheck, Overlap,
    PortOwner, ServiceKind, ServiceSpec, StartOrder, Stdin,
};
