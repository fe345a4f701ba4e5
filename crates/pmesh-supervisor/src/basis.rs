//! What a run is started from beside its spec.

use crate::{Build, SecretEnv};

/// What a run is started from beside its spec, as it was made and read for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Basis {
    /// None for a service without build commands.
    pub(crate) build: Option<Build>,
    /// What its env files say; none before they were read.
    pub(crate) file_env: Option<SecretEnv>,
}
