//! Which log is whose, and what is in it.

use std::path::PathBuf;

use pmesh_manifest::Manifest;
use pmesh_supervisor::{
    FollowStart, LogCursor, LogFollow, LogLine, LogQuery, LogReadError, ServiceKind, ServiceName,
};

use crate::Node;

/// Whose logs are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogsOf {
    /// Those of all services.
    All,
    /// Those of these services.
    Some(Vec<ServiceName>),
}

impl Node {
    /// The last lines of the logs of some services, the oldest first, by their times. Files and proxies have no log, and so no
    /// lines. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`LogReadError`].
    pub async fn log_lines(&self, of: &LogsOf, query: LogQuery) -> Result<Vec<LogLine>, LogReadError> {
        self.0.supervisor.logs().read(self.logs(of), query).await
    }

    /// Follows the logs of some services; and from where on. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`LogReadError`].
    pub async fn follow_logs(
        &self,
        of: &LogsOf,
        start: FollowStart,
        instance: Option<u32>,
    ) -> Result<(LogFollow, LogCursor), LogReadError> {
        self.0.supervisor.logs().follow(self.logs(of), start, instance).await
    }

    /// The services that have a log now, and the names of its file.
    pub fn logs(&self, of: &LogsOf) -> Vec<(ServiceName, String)> {
        let manifest = self.0.in_force();
        let log = |name: &ServiceName| {
            let service = manifest.services.iter().find(|service| service.spec.name == *name);
            match service {
                Some(service) => log_name(&service.spec.kind),
                None => left_behind(&manifest, name),
            }
        };
        let named = |name: &ServiceName| Some((name.clone(), log(name)?));
        match of {
            LogsOf::Some(names) => names.iter().filter_map(named).collect(),
            // With those that the manifest has lost and of which something lives.
            LogsOf::All => self.view().services.iter().filter_map(|service| named(&service.name)).collect(),
        }
    }

    /// Whether a service is there, or has left a log behind under its name when the manifest lost it. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`LogReadError`].
    pub async fn has_log(&self, name: &ServiceName) -> Result<bool, LogReadError> {
        if self.view().service(name).is_some() {
            return Ok(true);
        }
        let log = left_behind(&self.0.in_force(), name);
        match log {
            Some(log) => self.0.supervisor.logs().has(log).await,
            None => Ok(false),
        }
    }

    /// The path of a service's log; none of files, proxies and what is not in the manifest.
    pub(crate) fn log_path(&self, name: &ServiceName) -> Option<PathBuf> {
        let manifest = self.0.in_force();
        let service = manifest.services.iter().find(|service| service.spec.name == *name)?;
        Some(self.0.supervisor.logs().path().join(log_name(&service.spec.kind)?))
    }
}

fn log_name(kind: &ServiceKind) -> Option<String> {
    match kind {
        ServiceKind::App(app) => Some(app.log.clone()),
        ServiceKind::External(_) | ServiceKind::Files => None,
    }
}

/// The log of a service that is not in the manifest: it has the name that it has where the manifest gives it none, unless
/// that is another service's now.
fn left_behind(manifest: &Manifest, name: &ServiceName) -> Option<String> {
    let log = format!("{name}.log");
    let is_taken =
        manifest.services.iter().any(|service| log_name(&service.spec.kind).as_ref() == Some(&log));
    (!is_taken).then_some(log)
}
