//! Version control for a served directory: which revision is checked out, which one the remote
//! offers, and how to move from one to the other.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
