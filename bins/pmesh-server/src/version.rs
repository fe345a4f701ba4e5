//! The name of this very server.

/// What this server is: `v<semver>-<commit>`.
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"), "-", env!("PMESH_COMMIT"));
