//! The API from outside: a node on fakes, asked as a caller would.

mod conventions;
mod document;
mod endpoints;
mod failures;
mod logs;
mod places;
mod serving;
mod waiting;

use std::ops::Deref;

use pmesh_api::{Api, testing::TestApi};
use pmesh_node::testing::TestNode;

// Where probes of `web` are to fail, they fail for old instances, too, which are not replaced for it here.
const MANIFEST: &str = "
services:
  web: !App
    run: web
    unhealthy_timeout: never
  jobs: !App
    run: jobs
    background: true
  files: !FS .
";

/// A node of three services, and the folder that it lives in.
struct Started {
    node: TestNode,
    folder: tempfile::TempDir,
}

impl Deref for Started {
    type Target = TestNode;

    fn deref(&self) -> &TestNode {
        &self.node
    }
}

async fn node() -> Started {
    serving_manifest(MANIFEST).await
}

async fn serving_manifest(manifest: &str) -> Started {
    let folder = tempfile::tempdir().unwrap();
    Started { node: TestNode::start(folder.path(), manifest).await, folder }
}

fn api_of(node: &Started) -> Api {
    Api::new(node.handle(), TestApi::settings())
}

fn test_api(node: &Started) -> TestApi {
    TestApi(api_of(node))
}
