//! The commands before a run is stopped.

use std::{pin::pin, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use crate::{
    AppSpec, Exit, Launch, LogStream, Plan, ServiceLog, Spawned, Stdin, Tail, Wish,
    causes::with_causes,
    command,
    context::Context,
    ending,
    environment::command_environment,
    lack::{self, is_lack},
};

/// Why the commands are cut short.
enum Cut {
    Late,
    Wished,
}

/// Starts a command, if need be once the system gives a process for it; none where it cannot be, or when `cut` comes
/// first.
async fn spawned(context: &Context, launch: &Launch, cut: impl Future<Output = Cut>) -> Option<Spawned> {
    let mut cut = pin!(cut);
    loop {
        let error = match context.spawner.spawn(launch) {
            Ok(spawned) => return Some(spawned),
            Err(error) => error,
        };
        if is_lack(&error.source) {
            context.lack.say("a shutdown command cannot be started", &with_causes(&error));
            tokio::select! {
                _ = &mut cut => {}
                () = tokio::time::sleep(lack::PAUSE) => continue,
            }
        }
        warn!(reason = with_causes(&error), "a shutdown command cannot be started");
        return None;
    }
}

/// Runs the commands in order, within the service's `stop_timeout` in all. A failure is logged and
/// is no reason not to stop. What a command leaves running is ended before the next one starts
/// (SIGTERM, and SIGKILL when the time is up). With the time, or by any wish but the first, all of
/// them end.
pub(crate) fn run(
    spec: &AppSpec,
    plan: &Plan,
    log: ServiceLog,
    context: Arc<Context>,
    wishes: watch::Receiver<Wish>,
) -> BoxFuture<'static, ()> {
    let env = command_environment(&context.surroundings.env, spec, &plan.facts());
    let launches: Vec<Launch> = spec
        .shutdown
        .iter()
        .map(|command| {
            let mut env = env.clone();
            env.extend(command.env.iter().map(|(name, value)| (name.into(), value.into())));
            command::launch(command, spec, plan.account(), |word| plan.resolve(word), env, Stdin::Null)
        })
        .collect();
    let limit = spec.stop_timeout;
    Box::pin(async move {
        let deadline = Instant::now() + limit;
        let is_cut = || async {
            tokio::select! {
                () = Wish::becomes(wishes.clone(), Wish::End) => Cut::Wished,
                () = tokio::time::sleep_until(deadline) => Cut::Late,
            }
        };
        for launch in launches {
            if *wishes.borrow() != Wish::GoOn || Instant::now() >= deadline {
                return;
            }
            let Some(spawned) = spawned(&context, &launch, is_cut()).await else { continue };
            let grace = async {
                is_cut().await;
            };
            match ending::run(spawned, (&log, LogStream::Shutdown), Tail::new(), is_cut(), grace).await {
                Ok(Exit::Code(0)) => {}
                Ok(exit) => warn!(%exit, "a shutdown command failed"),
                Err(Cut::Late) => {
                    warn!("the shutdown commands took longer than stop_timeout");
                    return;
                }
                Err(Cut::Wished) => return,
            }
        }
    })
}
