//! How a service is.

use std::time::SystemTime;

use pmesh_supervisor::{HealthReport, Status};
use serde::{Deserialize, Serialize};

use super::{Building, timestamp};

/// `/service/health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// `OK`, `Degraded`, `Starting`, `Down` or `Stopped`.
    pub status: String,
    /// Instances (or addresses) that are healthy.
    pub healthy: u32,
    /// Instances that are wanted.
    pub total: u32,
    /// What is wrong, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err: Option<String>,
    /// The same in pieces: one short sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was written last, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    /// When the next try is, if one is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<String>,
    /// The build that is made for it, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<Building>,
}

impl Health {
    /// What was reported at `now`.
    pub(crate) fn of(report: HealthReport, now: SystemTime) -> Self {
        let status = match report.status {
            Status::Ok => "OK",
            Status::Degraded => "Degraded",
            Status::Starting => "Starting",
            Status::Down => "Down",
            Status::Stopped => "Stopped",
        };
        let HealthReport { status: _, healthy, total, error: err, reason, last_lines, next_try, building } =
            report;
        let next_try = next_try.map(|wait| timestamp(now.checked_add(wait)));
        let building = building.map(Building::from);
        Self { status: status.to_owned(), healthy, total, err, reason, last_lines, next_try, building }
    }
}
