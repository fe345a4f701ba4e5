//! Where connections to upstreams come from.

use pmesh_threads::HostNames;
use tokio::sync::watch;

use crate::{limits::FrontStage, logins::Logins, pool::Pool, relief::Relief};

/// Where connections to upstreams come from.
pub(crate) struct Connections<'a> {
    pub(crate) pool: &'a Pool,
    /// What a new one needs.
    pub(crate) relief: &'a Relief,
    /// Where names of upstreams are looked up.
    pub(crate) names: &'a HostNames,
    /// Those that the client has to itself.
    pub(crate) logins: &'a Logins,
    /// When the front ends.
    pub(crate) stage: &'a watch::Receiver<FrontStage>,
}
