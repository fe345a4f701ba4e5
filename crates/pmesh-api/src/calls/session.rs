//! `/session`.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use pmesh_sessions::Query;

use super::{Call, Reply};
use crate::{error::ApiError, sources::Sources, wire};

/// Who sends requests to the front, and how many.
///
/// A full table takes a good part of a second and tens of megabytes: on a thread that may block, and
/// one call after the other.
pub(crate) async fn list(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let query = Query { limit: call.parameters.limit, sort: call.parameters.sort.unwrap_or_default() };
    let turn = Arc::clone(&sources.listing).acquire_owned().await.expect("nobody closes the semaphore");
    let sessions = Arc::clone(sources.node.sessions());
    let listing = tokio::task::spawn_blocking(move || {
        // Kept to the end of the work, also where nobody waits for it any more.
        let _turn = turn;
        let snapshot = sessions.snapshot(query, Instant::now(), SystemTime::now());
        call.reply(&wire::WrittenSessions::from(&snapshot))
    });
    Ok(listing.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
}
