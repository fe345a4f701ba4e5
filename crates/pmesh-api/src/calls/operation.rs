//! `/operation`.

use std::sync::Arc;

use pmesh_node::{NoCancel, Operation, OperationId};
use tokio::time::timeout;

use super::{Call, Reply, ended, no_operation};
use crate::{
    error::{ApiError, Code},
    parameters::Wait,
    sources::Sources,
    wire,
};

/// The last operations, newest first; with `wait`, when all that are there now have ended.
pub(crate) async fn list(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let unfinished: Vec<OperationId> = sources
        .node
        .operations()
        .into_iter()
        .filter(|operation| !operation.state.has_ended())
        .map(|operation| operation.id)
        .collect();
    let all_ended = async {
        for id in unfinished {
            sources.node.operation_ended(id).await;
        }
    };
    let away = call.step_away();
    match call.parameters.wait {
        None | Some(Wait::NotAtAll) => {}
        Some(Wait::ToTheEnd) => all_ended.await,
        Some(Wait::For(limit)) => timeout(limit, all_ended).await.unwrap_or_default(),
    }
    drop(away);
    let operations: Vec<_> =
        sources.node.view().operations.iter().map(|operation| present(operation)).collect();
    Ok(call.reply(&operations))
}

/// One operation; with `wait`, when it has ended or the time is up.
pub(crate) async fn show(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let text = call.open.as_deref().unwrap_or_default();
    let unknown = || no_operation(text);
    let id = text.parse::<OperationId>().map_err(|_| unknown())?;
    let operation = match sources.node.operation(id).ok_or_else(unknown)? {
        running if !running.state.has_ended() => {
            ended(&sources, &call, id, call.parameters.wait.unwrap_or(Wait::NotAtAll)).await?.map(Arc::new)
        }
        ended => Some(ended),
    };
    // Asked again, because its steps went on while we waited.
    let operation = operation.or_else(|| sources.node.operation(id)).ok_or_else(unknown)?;
    Ok(call.reply(&present(&operation)))
}

/// Cancels one.
pub(crate) async fn cancel(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let text = call.open.as_deref().unwrap_or_default();
    let id = text.parse::<OperationId>().map_err(|_| no_operation(text))?;
    sources.node.cancel(id).map_err(|error| match error {
        NoCancel::Unknown(_) => no_operation(text),
        _ => ApiError::new(Code::OperationEnded, error.to_string()),
    })?;
    Ok(call.reply(&wire::Done {}))
}

fn present(operation: &Operation) -> wire::Operation {
    let (result, error) = match &operation.outcome {
        None => (None, None),
        Some(Ok(outcome)) => (Some(wire::result(outcome, operation.warnings())), None),
        Some(Err(failure)) => (None, Some(ApiError::from(&**failure).of_operation(operation.id).body())),
    };
    wire::Operation {
        id: operation.id.to_string(),
        kind: operation.kind.as_str().to_owned(),
        state: operation.state.as_str().to_owned(),
        started: wire::timestamp(operation.started),
        ended: wire::timestamp(operation.ended),
        steps: operation.steps.iter().map(|step| wire::Step::from(&**step)).collect(),
        result,
        error,
    }
}
