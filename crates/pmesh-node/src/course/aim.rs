//! What an operation is for.

use crate::{Rebuild, Scope};

/// What an operation is to bring about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The server's start: everything is started, and nothing goes back unless the server is to end.
    Start,
    Reload(Rebuild),
    Restart(Scope, Rebuild),
    Update(Rebuild),
    Stop(Scope),
    /// What a defect has cut off in the middle is left: prepared runs end, and what was stopped or held for
    /// them goes on.
    Mend,
}
