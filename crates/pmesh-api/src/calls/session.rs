//! `/session`.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use pmesh_sessions::Query;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Call, Reply};
use crate::{body::ApiBody, error::ApiError, sources::Sources, wire};

/// A list of more clients is written while it is read; at most [`LONG`] such at a time.
const SHORT_LEN: usize = 1000;

/// How many long lists there are at a time, each of up to 20 MB in memory: as many as may be read slowly
/// before the next one has to wait.
pub(crate) const LONG: usize = 2;

/// Who sends requests to the front, and how many.
///
/// A full table takes a good part of a second and tens of megabytes: on a thread that may block, and
/// one call after the other. Its text is never whole in memory.
pub(crate) async fn list(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let query = Query::default().with(|query| {
        query.limit = call.parameters.limit;
        query.sort = call.parameters.sort.unwrap_or_default();
    });
    let is_short = query.limit.is_some_and(|limit| limit <= SHORT_LEN);
    let place = if is_short { None } else { Some(permit(&sources.long_listings).await) };
    let turn = permit(&sources.listing).await;
    let sessions = Arc::clone(sources.node.sessions());
    let threads = sources.node.answer_threads();
    let listing = threads.run(Duration::MAX, move |_| {
        // Kept to the end of the work, also where nobody waits for it any more.
        let _turn = turn;
        sessions.snapshot(query, Instant::now(), SystemTime::now())
    });
    let snapshot = listing.await.map_err(|unanswered| ApiError::from(&unanswered))?;
    if snapshot.clients.len() <= SHORT_LEN {
        return Ok(call.reply(&wire::WrittenSessions::from(&snapshot)));
    }
    let style = call.style;
    let body = ApiBody::written(threads, move |writer| {
        let _place = place;
        style.write_to(writer, &wire::WrittenSessions::from(&snapshot))
    });
    Ok(Reply::ok(body.map_err(|unanswered| ApiError::from(&unanswered))?))
}

async fn permit(of: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(of).acquire_owned().await.expect("nobody closes the semaphore")
}
