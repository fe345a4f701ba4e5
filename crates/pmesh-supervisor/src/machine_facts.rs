//! What this machine says of a service, beside its repository.

use crate::{SecretEnv, UserAccount, saved::saved};

/// What this machine says of a service, beside its repository, read when a run is about to start.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MachineFacts {
    /// What the env files say.
    pub file_env: SecretEnv,
    /// Who its processes run as; none: whoever the server runs as.
    pub account: Option<UserAccount>,
}

saved!(struct MachineFacts { file_env, account });

impl MachineFacts {
    /// Those of a service with this in its env files, that runs as the server does.
    pub fn new(file_env: SecretEnv) -> Self {
        Self { file_env, account: None }
    }

    /// The same with something changed: `facts.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
