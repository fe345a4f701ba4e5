//! `/reload`, `/ping`, `/version`, `/shutdown`.

use std::os::unix::ffi::OsStrExt as _;

use http::{HeaderName, HeaderValue};
use pmesh_node::Request;

use super::{Call, OPERATION_ID, Reply, act, id_header, rebuild};
use crate::{error::ApiError, parameters::Wait, percent, sources::Sources, wire};

/// The header of `/ping` that says whose server this is: the percent-encoded path of the manifest.
pub(crate) const MANIFEST: HeaderName = HeaderName::from_static("pmesh-manifest");

/// Reads the manifest from disk and rolls over to it.
pub(crate) async fn reload(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    act(&sources, &call, Request::Reload(rebuild(&call))).await
}

/// The name of the machine.
pub(crate) async fn ping(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let system = rustix::system::uname();
    let manifest = percent::encode(sources.node.manifest().as_os_str().as_bytes());
    let manifest = HeaderValue::try_from(manifest).expect("what is percent-encoded is ASCII");
    Ok(call.reply(&system.nodename().to_string_lossy()).with_header(MANIFEST, manifest))
}

/// The version of the server.
pub(crate) async fn version(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    Ok(call.reply(&&*sources.version))
}

/// Asks the server to end. The answer does not wait for that: nobody would be left to give it.
pub(crate) async fn shut_down(sources: Sources, call: Call) -> Result<Reply, ApiError> {
    let id = sources.node.shut_down();
    Ok(match call.wait() {
        Wait::NotAtAll => call.accepted(id),
        Wait::ToTheEnd | Wait::For(_) => call.reply(&wire::Done {}).with_header(OPERATION_ID, id_header(id)),
    })
}
