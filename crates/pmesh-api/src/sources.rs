//! What the routes answer from.

use std::sync::Arc;

use pmesh_node::Node;
use tokio::sync::Semaphore;

/// The node and what else an answer is made of; clones share it.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) node: Node,
    /// What `/version` answers.
    pub(crate) version: Arc<str>,
    /// One listing of client sessions at a time.
    pub(crate) listing: Arc<Semaphore>,
    /// Long lists of client sessions, until their last byte is written.
    pub(crate) long_listings: Arc<Semaphore>,
    /// Those who follow logs.
    pub(crate) followers: Arc<Semaphore>,
}
