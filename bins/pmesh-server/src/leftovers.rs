//! What a server that was killed has left running: it is ended before anything is started beside it.

use std::{io, time::Duration};

use pmesh_supervisor::{NodeCgroups, NodeMark};
use tracing::{error, warn};

/// How long what is left may take to end by itself, in place of each service's own `stop_timeout`, which this manifest may have
/// no more.
const GRACE: Duration = Duration::from_secs(10);

/// Ends it, and says so. Blocks.
pub(crate) fn end(mark: &NodeMark, cgroups: Option<&NodeCgroups>) -> io::Result<()> {
    let found = mark.end_leftovers(cgroups, GRACE)?;
    if found.processes == 0 {
        return Ok(());
    }
    let services: Vec<&str> = found.services.iter().map(String::as_str).collect();
    warn!(
        processes = found.processes,
        services = services.join(" "),
        "what a server before this one had left running was ended"
    );
    for survivor in &found.survivors {
        error!("SIGKILL does not end what a server before this one has left running: {survivor}");
    }
    Ok(())
}
