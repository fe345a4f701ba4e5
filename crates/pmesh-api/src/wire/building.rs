//! How far a build is.

use pmesh_supervisor::{BuildProgress, BuildStep};
use serde::{Deserialize, Serialize};

use super::timestamp;

/// A build under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Building {
    /// When it was asked for.
    pub started: String,
    /// The command that runs; none while it waits for other builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Which of the steps that is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// How many steps there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
}

impl From<BuildProgress> for Building {
    fn from(BuildProgress { started, step }: BuildProgress) -> Self {
        let started = timestamp(Some(started));
        match step {
            None => Self { started, step: None, number: None, of: None },
            Some(BuildStep { number, of, command }) => {
                Self { started, step: Some(command), number: Some(number), of: Some(of) }
            }
        }
    }
}
