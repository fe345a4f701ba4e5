//! What the decoders of services are told beside the value that they read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// What every service is read with.
pub(crate) struct Surroundings {
    /// The manifest's own.
    pub(crate) folder: PathBuf,
    pub(crate) service_root: PathBuf,
    /// The environment of the manifest's top level.
    pub(crate) env: BTreeMap<String, String>,
    /// All names that are declared, whether or not they are good.
    pub(crate) names: BTreeSet<String>,
}
