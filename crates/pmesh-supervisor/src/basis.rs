//! What a run is started from beside its spec.

use crate::{Build, MachineFacts};

/// What a run is started from beside its spec, as it was made and read for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Basis {
    /// None for a service without build commands.
    pub(crate) build: Option<Build>,
    /// None before they were read.
    pub(crate) machine: Option<MachineFacts>,
}
