//! `/repo`, `/repo/fetch`, `/repo/update`.

use pmesh_node::Request;

use super::{Call, Reply, act, rebuild};
use crate::{error::ApiError, sources::Sources, wire};

/// What is checked out, and what the remote offers.
pub(crate) async fn show(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let fetches = call.parameters.fetch == Some(true);
    show_after(&sources, &call, fetches).await
}

/// The same, as the remote has it now.
pub(crate) async fn fetch(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    show_after(&sources, &call, true).await
}

async fn show_after(sources: &Sources, call: &Call, fetches: bool) -> Result<Reply, ApiError> {
    let mut moved = None;
    if fetches {
        moved = sources.node.fetch().await.map_err(|error| ApiError::from(&error))?.moved_to;
    }
    let repository = sources.node.repository().await.map_err(|error| ApiError::from(&*error))?;
    let mut repo = wire::Repo::from(repository);
    (repo.moved_to, repo.remedy) = moved.map(|moved| (moved.url, moved.command)).unzip();
    Ok(call.reply(&repo))
}

/// Moves to the newest commit of the remote branch and rolls every service over to it.
pub(crate) async fn update(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    act(&sources, &call, Request::Update(rebuild(&call))).await
}
