//! The release of a service: commands that run once for a commit and a build, before the first instance (migrations).

use tokio::sync::watch;
use tracing::info;

use crate::{
    AppSpec, BuildError, Plan, ServiceKind, Stdin, Wish, command, context::Context,
    environment::command_environment, step_kind::StepKind, steps::Steps,
};

/// What a release is of: the commit, the build, and the commands themselves.
fn released(plan: &Plan, app: &AppSpec) -> String {
    let commit = plan.revision.commit.as_deref().unwrap_or("-");
    let build = plan.build.as_ref().map_or("-", |build| build.id().as_str());
    let mut hash = blake3::Hasher::new();
    for command in &app.release {
        // Debug tells apart what the words alone do not.
        hash.update(format!("{command:?}\n").as_bytes());
    }
    format!("{commit} {build} {}\n", hash.finalize().to_hex())
}

/// What has come of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Its commands have run.
    Made,
    /// They had run before, for the same commit and build.
    WasMade,
}

impl Context {
    /// Runs the release commands of a run, in order, unless they have succeeded for the same commit and build before; within
    /// `build_timeout` in all.
    ///
    /// Not cancel-safe: dropped early, it kills what runs at once, and the release counts as not made.
    ///
    /// # Errors
    ///
    /// A command cannot be started or fails, the time is up, or a wish ends it.
    pub(crate) async fn release(
        &self,
        plan: &Plan,
        wishes: &watch::Receiver<Wish>,
    ) -> Result<Release, BuildError> {
        let ServiceKind::App(app) = &plan.spec.kind else { return Ok(Release::WasMade) };
        let (service, what) = (&plan.spec.name, released(plan, app));
        if app.release.is_empty() || self.releases.is_released(service, &what).await {
            return Ok(Release::WasMade);
        }
        let log = self.surroundings.logs.log(&app.log);
        let steps = Steps {
            kind: StepKind::Release,
            spawner: &*self.spawner,
            log: &log,
            limit: app.build_timeout,
            stop_timeout: app.stop_timeout,
            wishes,
            deadline: Steps::deadline(app.build_timeout),
        };
        let env = command_environment(&self.surroundings.env, app, &plan.facts());
        for command in &app.release {
            log.note(&format!("release: {command}"));
            info!("release step begins: {command}");
            let mut env = env.clone();
            env.extend(command.env.iter().map(|(name, value)| (name.into(), value.into())));
            let launch =
                command::launch(command, app, plan.account(), |word| plan.resolve(word), env, Stdin::Null);
            if let Err(error) = steps.run(command, &launch).await {
                log.note("release failed");
                return Err(error);
            }
        }
        log.note("release done");
        self.releases.note(service, what).await;
        Ok(Release::Made)
    }
}
