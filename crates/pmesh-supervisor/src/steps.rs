//! Commands that have to succeed, one after the other, before something may start: of a build, and of a release.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::{
    BuildError, Command, Exit, Launch, ServiceLog, SpawnError, Spawner, Tail, Wish,
    causes::with_causes,
    ending,
    lack::{self, is_lack},
    step_kind::StepKind,
};

/// "Never", as a duration that no clock reaches.
const FAR: Duration = Duration::from_hours(30 * 365 * 24);

/// How steps are run.
pub(crate) struct Steps<'a> {
    pub(crate) kind: StepKind,
    pub(crate) spawner: &'a dyn Spawner,
    pub(crate) log: &'a ServiceLog,
    /// How long all of them may take.
    pub(crate) limit: Duration,
    /// From SIGTERM to SIGKILL for what is ended.
    pub(crate) stop_timeout: Duration,
    pub(crate) wishes: &'a watch::Receiver<Wish>,
    /// When they are late.
    pub(crate) deadline: Instant,
}

/// Why a step was ended before it ended by itself.
enum Stopped {
    Cancelled,
    Timeout,
}

impl Steps<'_> {
    /// When steps are late that begin now and may take so long.
    pub(crate) fn deadline(limit: Duration) -> Instant {
        let begin = Instant::now();
        begin.checked_add(limit).unwrap_or(begin + FAR)
    }

    /// Runs one of them to its end. What it leaves running is ended (SIGTERM, after `stop_timeout` SIGKILL); so is it
    /// itself when the time is up or a wish asks for its end.
    ///
    /// Not cancel-safe: dropped early, it kills what runs at once.
    pub(crate) async fn run(&self, command: &Command, launch: &Launch) -> Result<(), BuildError> {
        let (kind, step, tail) = (self.kind, command.to_string(), Tail::new());
        let end = self.run_one(launch, &tail).await.map_err(|error| match error {
            Some(error) => BuildError::Spawn { kind, step: step.clone(), error },
            None => BuildError::Cancelled,
        })?;
        let lines = tail.lines();
        match end {
            Ok(Exit::Code(0)) => Ok(()),
            Ok(exit) => Err(BuildError::Failed { kind, step, exit, lines }),
            Err(Stopped::Cancelled) => Err(BuildError::Cancelled),
            Err(Stopped::Timeout) => Err(BuildError::Timeout { kind, step, limit: self.limit, lines }),
        }
    }

    /// `Err(None)`: it was cancelled before it was started.
    async fn run_one(
        &self,
        launch: &Launch,
        tail: &Tail,
    ) -> Result<Result<Exit, Stopped>, Option<SpawnError>> {
        let stop = || async {
            tokio::select! {
                () = Wish::becomes(self.wishes.clone(), Wish::End) => Stopped::Cancelled,
                () = tokio::time::sleep_until(self.deadline) => Stopped::Timeout,
            }
        };
        let patience = Instant::now() + lack::LIMIT;
        let spawned = loop {
            match self.spawner.spawn(launch) {
                Ok(spawned) => break spawned,
                // The server's own lack may pass, and says nothing of the build. Whoever waits learns of it before long.
                Err(error) if is_lack(&error.source) && Instant::now() < patience.min(self.deadline) => {
                    self.log.note(&format!("{} waits: {}", self.kind.as_str(), with_causes(&error)));
                    tokio::select! {
                        () = Wish::becomes(self.wishes.clone(), Wish::End) => return Err(None),
                        () = tokio::time::sleep_until(self.deadline.min(Instant::now() + lack::PAUSE)) => {}
                    }
                }
                Err(error) => return Err(Some(error)),
            }
        };
        let grace = async {
            tokio::select! {
                () = Wish::becomes(self.wishes.clone(), Wish::Kill) => {}
                () = tokio::time::sleep(self.stop_timeout) => {}
            }
        };
        Ok(ending::run(spawned, (self.log, self.kind.stream()), tail.clone(), stop(), grace).await)
    }
}
