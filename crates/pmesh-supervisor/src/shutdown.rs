//! The commands before a run is stopped.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tracing::warn;

use crate::{
    AppSpec, Exit, Launch, Plan, ProcessTree, ServiceLog, ServiceName, Signal, Stdin, Tail, command,
    driver::Context, environment::command_environment,
};

/// Runs the commands in order, within the service's `stop_timeout` in all. A failure is logged and
/// is no reason not to stop.
pub(crate) fn run(
    name: &ServiceName,
    spec: &AppSpec,
    plan: &Plan,
    log: ServiceLog,
    context: Arc<Context>,
) -> BoxFuture<'static, ()> {
    let env = command_environment(&context.surroundings.env, spec, &plan.facts());
    let launches: Vec<Launch> = spec
        .shutdown
        .iter()
        .map(|command| {
            let mut env = env.clone();
            env.extend(command.env.iter().map(|(name, value)| (name.into(), value.into())));
            command::launch(command, spec, plan.build.as_ref(), env, Stdin::Null)
        })
        .collect();
    let (name, limit) = (name.clone(), spec.stop_timeout);
    Box::pin(async move {
        let deadline = tokio::time::Instant::now() + limit;
        for launch in launches {
            let spawned = match context.spawner.spawn(&launch) {
                Ok(spawned) => spawned,
                Err(error) => {
                    warn!(service = %name, %error, "a shutdown command cannot be started");
                    continue;
                }
            };
            let tree: Arc<dyn ProcessTree> = Arc::from(spawned.tree);
            let pump = log.pump(spawned.output, Tail::new());
            let both = futures_util::future::join(spawned.exit, pump);
            match tokio::time::timeout_at(deadline, both).await {
                Ok((Exit::Code(0), ())) => {}
                Ok((exit, ())) => warn!(service = %name, %exit, "a shutdown command failed"),
                Err(_) => {
                    warn!(service = %name, "the shutdown commands took longer than stop_timeout");
                    tree.signal(Signal::Kill);
                    tree.ended().await;
                    return;
                }
            }
        }
    })
}
