//! `/session`.

use std::time::{Instant, SystemTime};

use pmesh_sessions::Query;

use super::{Call, Reply};
use crate::{Api, error::ApiError, wire};

/// Who sends requests to the front, and how many.
pub(crate) async fn list(api: Api, call: Call) -> Result<Reply, ApiError> {
    let query = Query { limit: call.parameters.limit, sort: call.parameters.sort.unwrap_or_default() };
    let snapshot = api.node().sessions().snapshot(query, Instant::now(), SystemTime::now());
    Ok(call.reply(&wire::Sessions::from(snapshot)))
}
