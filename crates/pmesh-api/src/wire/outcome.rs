//! What actions answer.

use pmesh_node::Outcome;
use pmesh_supervisor::{ServiceName, Survivor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Named, Revision, reasons};

/// `/repo/update`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Updated {
    /// What the services ran before.
    pub from: Revision,
    /// What they run now.
    pub to: Revision,
    /// Commits that only this machine has, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    /// Whether every service was built anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invalidated: bool,
    /// Whether the last rollout of the same commit had failed and was tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retried: bool,
    /// Whether the services were rolled over to what they ran already for another reason.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Services that had no ready instance before and have none now, and why.
    #[serde(default, skip_serializing_if = "Named::is_empty")]
    pub services: Named<String>,
    /// Where the remote has moved, if it has: it was asked there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// The command that makes git ask there from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What a person should know all the same, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `/reload`, and the start in `/operation`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reloaded {
    /// Services that had no ready instance before and have none now, and why.
    #[serde(default, skip_serializing_if = "Named::is_empty")]
    pub services: Named<String>,
    /// What a person should know all the same, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `/service/restart`, `/service/stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counted {
    /// How many services.
    pub count: usize,
    /// What a person should know all the same, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Nothing to tell but that it is done: `{}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// A process of a service that SIGKILL has not ended, in the error of a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SurvivingProcess {
    /// Whose it is.
    pub service: String,
    /// Its number.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
    /// Its state, as `D (disk sleep)`.
    pub state: String,
    /// The function of the kernel that it waits in; empty where that is not told.
    pub wait_channel: String,
}

impl SurvivingProcess {
    pub(crate) fn of(service: &ServiceName, survivor: &Survivor) -> Self {
        let Survivor { pid, name, state, wait_channel, foreign_user: _ } = survivor.clone();
        Self { service: service.to_string(), pid, name, state, wait_channel }
    }
}

/// The documented body of the answer of an action that ended like this, with what is to be told besides.
pub(crate) fn result(outcome: &Outcome, warnings: Vec<String>) -> Value {
    let body = match outcome {
        Outcome::Started { failed } | Outcome::Reloaded { failed } => {
            serde_json::to_value(Reloaded { services: reasons(failed), warnings })
        }
        Outcome::Updated(update) => serde_json::to_value(Updated {
            from: (&update.from).into(),
            to: (&update.to).into(),
            ahead: update.ahead,
            invalidated: update.invalidated,
            retried: update.retried,
            repeated: update.repeated,
            services: reasons(&update.failed),
            moved_to: update.moved_to.as_ref().map(|moved| moved.url.clone()),
            remedy: update.moved_to.as_ref().map(|moved| moved.command.clone()),
            warnings,
        }),
        Outcome::Restarted { count } | Outcome::Stopped { count } => {
            serde_json::to_value(Counted { count: *count, warnings })
        }
        Outcome::Begun | Outcome::ShutDown => serde_json::to_value(Done {}),
    };
    body.expect("these types are JSON")
}
