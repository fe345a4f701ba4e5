//! `/service` and what is below it.

use std::time::SystemTime;

use pmesh_node::{NoRun, Request, Scope};
use pmesh_supervisor::ServiceName;

use super::{Call, Reply, act, rebuild};
use crate::{
    error::{ApiError, Code},
    near_miss::{did_you_mean, quoted},
    sources::Sources,
    wire::{self, Named},
};

/// The services that are not stopped, and the ids of their runs.
pub(crate) async fn list(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let services = sources.node.services().into_iter().map(|(name, id)| (name, id.to_string()));
    Ok(call.reply(&services.collect::<Named<String>>()))
}

/// Restarts all services.
pub(crate) async fn restart_all(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    act(&sources, &call, Request::Restart(Scope::All, rebuild(&call))).await
}

/// Restarts one service.
pub(crate) async fn restart_one(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let name = named(&sources, &call)?;
    act(&sources, &call, Request::Restart(Scope::One(name), rebuild(&call))).await
}

/// Stops all services.
pub(crate) async fn stop_all(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    act(&sources, &call, Request::Stop(Scope::All)).await
}

/// Stops one service.
pub(crate) async fn stop_one(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let name = named(&sources, &call)?;
    act(&sources, &call, Request::Stop(Scope::One(name))).await
}

/// Starts a run of a job.
pub(crate) async fn run_one(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let name = named(&sources, &call)?;
    let id = sources.node.run_now(&name).await.map_err(|error| {
        let code = match error {
            NoRun::RunsAlready(_) => Code::AlreadyRunning,
            NoRun::UnknownService(_) => Code::ServiceNotFound,
            NoRun::ShuttingDown => Code::ShuttingDown,
            _ => Code::NotRunnable,
        };
        ApiError::new(code, error.to_string())
    })?;
    Ok(call.reply(&wire::Begun { operation: id.to_string() }))
}

/// The health of every service.
pub(crate) async fn health_of_all(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let (health, now) = (sources.node.health().await, SystemTime::now());
    let health = health.into_iter().map(|(name, health)| (name, wire::Health::of(health, now)));
    Ok(call.reply(&health.collect::<Named<wire::Health>>()))
}

/// The health of one service.
pub(crate) async fn health_of_one(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let name = named(&sources, &call)?;
    let health = sources.node.health_of(&name).await.ok_or_else(|| unknown(&sources, name.as_str()))?;
    Ok(call.reply(&wire::Health::of(health, SystemTime::now())))
}

/// What is measured of every service.
pub(crate) async fn metrics_of_all(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let (metrics, now) = (sources.node.metrics().await, SystemTime::now());
    let metrics = metrics.into_iter().map(|(name, metrics)| (name, wire::Metrics::of(metrics, now)));
    Ok(call.reply(&metrics.collect::<Named<wire::Metrics>>()))
}

/// What is measured of one service.
pub(crate) async fn metrics_of_one(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let name = named(&sources, &call)?;
    let metrics = sources.node.metrics_of(&name).await.ok_or_else(|| unknown(&sources, name.as_str()))?;
    Ok(call.reply(&wire::Metrics::of(metrics, SystemTime::now())))
}

/// The service that the path names, if there is one.
fn named(sources: &Sources, call: &Call) -> Result<ServiceName, ApiError> {
    let text = call.open.as_deref().unwrap_or_default();
    match text.parse::<ServiceName>() {
        Ok(name) if sources.node.view().service(&name).is_some() => Ok(name),
        Ok(_) | Err(_) => Err(unknown(sources, text)),
    }
}

/// The answer where no service has this name.
pub(super) fn unknown(sources: &Sources, text: &str) -> ApiError {
    let view = sources.node.view();
    let near = did_you_mean(text, view.services.iter().map(|service| service.name.as_str()));
    ApiError::new(Code::ServiceNotFound, format!("no service {} in the manifest{near}", quoted(text)))
}
